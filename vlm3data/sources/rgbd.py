"""Any folder of posed RGB-D frames: `--patterns FILE` says how its files are named and what is in them.

Without it, the naming of ScanNet's C++ export is read, which 7-Scenes shares. Examples: docs/rgbd.md.
"""

from __future__ import annotations

import io
import posixpath
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from functools import partial
from typing import Literal

import numpy as np
import xxhash
from PIL import Image

from vlm3data.config import Config
from vlm3data.formats.depth_file import decode_depth_file, depth_size_px
from vlm3data.formats.rgbd.calibration import Pinhole, camera_of, given, parse, scaled
from vlm3data.formats.rgbd.patterns import SCANNET_CPP, Intrinsics, Patterns, listed
from vlm3data.formats.rgbd.poses import nearest, read_poses
from vlm3data.storage import open_store, read_below
from vlm3data.types import Camera, Drop, Float32Array, Frame, SceneRef, SourceFacts, UserError

DEEPEST = 3
"""How many directories below the root frames in ScanNet's naming are looked for."""
TRIES = 10
"""How many files of a scene are opened to learn their size, where the first are damaged."""
ASPECT_TOLERANCE = 0.02


class RgbdSource:
    """`root` holds the scenes, or is one."""

    class Options(Config):
        """What a user may set for this source alone."""

        patterns: str = ""
        """A YAML file that says how files are named; without it, as ScanNet's C++ export and 7-Scenes."""
        unregistered_depth: Literal["refuse", "as_is"] = "refuse"
        """as_is: let depth that the patterns call unregistered label the image all the same, pixel for pixel."""

    def __init__(self, root: str, options: Options, seed: int) -> None:
        self.options = options
        self._fs, self._root = open_store(root)
        if not root or not self._fs.isdir(self._root):
            raise UserError(f"--root {root or '(missing)'}: there is no such directory")
        self._named = options.patterns
        self._patterns = Patterns.load(options.patterns) if options.patterns else self._without_yaml()
        patterns = self._patterns
        self.facts = SourceFacts(
            name="rgbd",
            licence=patterns.licence,
            metric=patterns.metric,
            depth_kind=patterns.depth.kind if patterns.depth else "z",
            depth_range_m=patterns.depth.range_m if patterns.depth else (0.1, 10.0),
            pixel_centre=f"the first pixel's centre is {patterns.first_pixel_centre:g} in the files, 0.5 when read",
            splits=(*patterns.splits, "other") if patterns.splits else ("all",),
            depth_noise=(0.01, 0.01),
        )

    def scenes(self, split: str | None) -> Iterator[SceneRef]:
        """Yield each scene's directory; only names are read."""
        empty = True
        for directory in self._directories():
            name = posixpath.relpath(directory, self._root) if directory != self._root else _last(self._root)
            images = listed(self._fs, directory, self._patterns.image)
            if not images:
                raise UserError(f"{directory}: there is no {self._patterns.image} in this scene; narrow `scenes`")
            empty = False
            digest = xxhash.xxh3_64_hexdigest("\n".join([self._patterns.model_dump_json(), *images.values()]).encode())
            if split in (None, self._split_of(name)):
                yield SceneRef(name, len(images), {"directory": directory}, self._split_of(name), digest)
        if empty:
            raise UserError(f"--root {self._root}: there is no scene {self._patterns.scenes!r} in it")

    def frames(self, scene: SceneRef) -> Iterator[Frame]:
        """Yield a frame for each image; what is wrong with one is raised as `Drop` when its image is read."""
        patterns, directory = self._patterns, str(scene.payload["directory"])
        images = listed(self._fs, directory, patterns.image)
        names = list(images)
        depths = nearest(listed(self._fs, directory, patterns.depth.path), names, patterns) if patterns.depth else {}
        intrinsics = self._intrinsics(directory, patterns.intrinsics, names)
        image_size = self._size(list(images.values()), _image_size_px)
        depth_size = self._size(list(depths.values()), depth_size_px)
        registered = patterns.registered or self.options.unregistered_depth == "as_is"
        own_depth = patterns.depth.intrinsics if patterns.depth else None
        depth_intrinsics = self._intrinsics(directory, own_depth, names) if own_depth else None
        poses = read_poses(self._fs, directory, patterns, names)
        for name, pose in zip(names, poses, strict=True):
            problem = pose if isinstance(pose, Drop) else None
            camera = depth_camera = None
            try:
                if image_size is not None:
                    camera = camera_of(intrinsics(name), image_size, patterns.first_pixel_centre)
                if camera is not None and depth_size is not None and registered:
                    pinhole = depth_intrinsics(name) if depth_intrinsics else None
                    depth_camera = self._depth_camera(directory, camera, pinhole, depth_size)
            except Drop as drop:
                problem = problem or drop
            if patterns.depth and registered and name not in depths:
                problem = problem or Drop("depth_missing", f"{directory}: frame {name}")
            yield Frame(
                key=f"{scene.scene}/{name}",
                scene=scene.scene,
                image=partial(self._image, images[name], problem),
                camera=camera,
                depth_m=partial(self._depth, depths.get(name), depth_camera) if depth_camera else None,
                depth_camera=depth_camera,
                world_from_cam=None if isinstance(pose, Drop) else pose,
            )

    def _image(self, path: str, problem: Drop | None) -> bytes:
        if problem is not None:
            raise problem
        return self._read(path, "image")

    def _depth(self, path: str | None, camera: Camera) -> Float32Array:
        depth = self._patterns.depth
        if path is None or depth is None:
            raise Drop("depth_missing")
        stored = decode_depth_file(self._read(path, "depth"), (camera.width_px, camera.height_px))
        depth_m = (stored * np.float64(depth.metres_per_count)).astype(np.float32)
        depth_m[np.isin(stored, depth.missing) | ~np.isfinite(depth_m)] = np.nan
        return depth_m

    def _intrinsics(self, directory: str, intrinsics: Intrinsics, names: list[str]) -> Callable[[str], Pinhole]:
        """Return what gives a frame's intrinsics, or raises Drop."""
        if intrinsics.path is None:
            pinhole = given(intrinsics)
            return lambda name: pinhole
        if "{frame}" not in intrinsics.path:
            path = self._found(directory, intrinsics.path)
            if path is None:
                raise UserError(f"{directory}: there is no {intrinsics.path}, neither here nor in {self._root}")
            try:
                pinhole = parse(self._read(path, "intrinsics"), intrinsics, path)
            except Drop as drop:
                raise UserError(f"{path}: {drop.detail.removeprefix(path + ': ')}") from drop
            return lambda name: pinhole
        paths = nearest(listed(self._fs, directory, intrinsics.path), names, self._patterns)

        def of_frame(name: str) -> Pinhole:
            if name not in paths:
                raise Drop("intrinsics_missing", f"{directory}: frame {name}")
            return parse(self._read(paths[name], "intrinsics"), intrinsics, paths[name])

        return of_frame

    def _depth_camera(
        self, directory: str, camera: Camera, pinhole: Pinhole | None, size_px: tuple[int, int]
    ) -> Camera:
        if pinhole is not None:
            return camera_of(Pinhole(pinhole.numbers, None), size_px, self._patterns.first_pixel_centre)
        sx, sy = size_px[0] / camera.width_px, size_px[1] / camera.height_px
        if abs(sx / sy - 1) > ASPECT_TOLERANCE:
            raise UserError(
                f"{directory}: depth maps of {size_px[0]}x{size_px[1]} pixels cannot show all of an image of "
                f"{camera.width_px}x{camera.height_px}; give depth.intrinsics"
            )
        return scaled(camera, size_px)

    def _directories(self) -> list[str]:
        if not self._named:
            return self._with_frames()
        found = [self._root]
        for part in self._patterns.scenes.split("/"):
            if part != ".":
                found = [path for parent in found for path in self._below(parent) if fnmatchcase(_last(path), part)]
        return sorted(found)

    def _with_frames(self) -> list[str]:
        """Return the directories that hold frames in ScanNet's naming."""
        found, level = [], [self._root]
        for _ in range(DEEPEST + 1):
            found += [path for path in level if listed(self._fs, path, SCANNET_CPP[0].image)]
            level = [path for parent in level for path in self._below(parent)]
        return sorted(found)

    def _without_yaml(self) -> Patterns:
        for directory in self._with_frames():
            for patterns in SCANNET_CPP:
                if self._found(directory, str(patterns.intrinsics.path)):
                    return patterns
            files = ", ".join(str(patterns.intrinsics.path) for patterns in SCANNET_CPP)
            raise UserError(f"{directory}: there is none of {files}; pass --patterns FILE (docs/rgbd.md)")
        raise UserError(
            f"--root {self._root}: there is no frame-000000.color.jpg or the like in it; "
            "pass --patterns FILE, which says how its files are named (docs/rgbd.md)"
        )

    def _below(self, directory: str) -> list[str]:
        entries = self._fs.ls(directory, detail=True)
        return sorted(str(entry["name"]).rstrip("/") for entry in entries if entry["type"] == "directory")

    def _found(self, directory: str, name: str) -> str | None:
        paths = (posixpath.join(place, name) for place in (directory, self._root))
        return next((path for path in paths if self._fs.isfile(path)), None)

    def _size(self, paths: list[str], size_of: Callable[[bytes], tuple[int, int]]) -> tuple[int, int] | None:
        """Return the size of the first file that can be read: all are of one size, others are dropped by name."""
        for path in paths[:TRIES]:
            try:
                return size_of(self._read(path, "file"))
            except Drop:  # it is dropped, and counted, when its frame is read
                continue
        return None

    def _split_of(self, scene: str) -> str:
        splits = self._patterns.splits
        if not splits:
            return "all"
        return next((name for name, some in splits.items() if any(fnmatchcase(scene, one) for one in some)), "other")

    def _read(self, path: str, what: str) -> bytes:
        return read_below(self._fs, posixpath.dirname(path), posixpath.basename(path), what)


def _last(path: str) -> str:
    return posixpath.basename(path) or "root"


def _image_size_px(data: bytes) -> tuple[int, int]:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise Drop("image_unreadable", str(error)) from error
