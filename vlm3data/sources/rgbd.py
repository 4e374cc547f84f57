"""Any folder of posed RGB-D frames: `--patterns FILE` says how its files are named and what is in them.

Without it, the naming of ScanNet's C++ export is read, which 7-Scenes shares. Examples: docs/rgbd.md.
"""

from __future__ import annotations

import io
import posixpath
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import partial
from typing import Literal

import xxhash
from PIL import Image

from vlm3data.config import Config
from vlm3data.formats.rgbd.calibration import camera_of
from vlm3data.formats.rgbd.cameras import common_size_px, depth_camera_of, find_file, read_file, read_intrinsics
from vlm3data.formats.rgbd.depth import DepthMaps
from vlm3data.formats.rgbd.patterns import SCANNET_CPP, Patterns, listed
from vlm3data.formats.rgbd.poses import read_poses
from vlm3data.storage import open_root
from vlm3data.types import Drop, Frame, SceneRef, SourceFacts, UserError

DEEPEST = 3
"""How many directories below the root frames in ScanNet's naming are looked for."""


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
        self._fs, self._root = open_root(root)
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
            depth_noise=(0.01 if patterns.metric else 0.0, 0.01),
        )

    def scenes(self, split: str | None) -> Iterator[SceneRef]:
        """Yield each scene's directory; only names are read."""
        empty = True
        for directory in self._directories():
            name = posixpath.relpath(directory, self._root) if directory != self._root else _last(self._root)
            images = listed(self._fs, directory, self._patterns.image)
            if not images:
                raise UserError(self._no_image(directory))
            empty = False
            read = [_json(self._patterns), *(posixpath.relpath(path, directory) for path in images.values())]
            if split in (None, self._split_of(name)):
                stamp = xxhash.xxh3_64_hexdigest("\n".join(read).encode())
                yield SceneRef(name, len(images), {"directory": directory}, self._split_of(name), stamp)
        if empty:
            raise UserError(f"--root {self._root}: there is no scene {self._patterns.scenes!r} in it")

    def frames(self, scene: SceneRef) -> Iterator[Frame]:
        """Yield a frame for each image; what is wrong with one is raised as `Drop` when its image is read."""
        patterns, directory = self._patterns, str(scene.payload["directory"])
        images = listed(self._fs, directory, patterns.image)
        names = list(images)
        registered = patterns.registered or self.options.unregistered_depth == "as_is"
        depths = DepthMaps(self._fs, directory, patterns, names if registered else ())
        about = (self._fs, (directory, self._root))
        intrinsics = read_intrinsics(*about, patterns.intrinsics, patterns, names)
        own = patterns.depth.intrinsics if patterns.depth else None
        depth_intrinsics = read_intrinsics(*about, own, patterns, names) if own else None
        image_size = common_size_px(self._fs, list(images.values()), _image_size_px)
        poses = read_poses(self._fs, directory, patterns, names)
        for name, pose in zip(names, poses, strict=True):
            problem = pose if isinstance(pose, Drop) else None
            camera = depth_camera = None
            try:
                if image_size is not None:
                    camera = camera_of(intrinsics(name), image_size, patterns.first_pixel_centre)
                if camera is not None and depths.size_px is not None:
                    pinhole = depth_intrinsics(name) if depth_intrinsics else None
                    depth_camera = depth_camera_of(
                        directory, camera, pinhole, depths.size_px, patterns.first_pixel_centre
                    )
            except Drop as drop:
                problem = problem or drop
            if image_size is None:
                problem = problem or Drop("image_unreadable", f"{directory}: none of the first images can be read")
            if patterns.depth and registered and name not in depths:
                problem = problem or Drop("depth_missing", f"{directory}: frame {name}")
            elif patterns.depth and registered and depths.size_px is None:
                problem = problem or Drop("corrupt_depth", f"{directory}: none of the first depth maps can be read")
            yield Frame(
                key=f"{scene.scene}/{name}",
                scene=scene.scene,
                image=partial(self._image, images[name], problem),
                camera=camera,
                depth_m=partial(depths.depth_m, name) if depth_camera else None,
                depth_camera=depth_camera,
                world_from_cam=None if isinstance(pose, Drop) else pose,
            )

    def _no_image(self, directory: str) -> str:
        """Say what is wrong with a scene without images."""
        pattern = self._patterns.image
        if directory != self._root and listed(self._fs, self._root, pattern):
            return f"--root {self._root} is itself a scene: give the directory above it, or say scenes: '.'"
        folder = posixpath.join(directory, posixpath.dirname(pattern)).rstrip("/")
        there = sorted(_last(str(path)) for path in self._fs.ls(folder, detail=False)) if self._fs.isdir(folder) else []
        some = ", ".join(there[:3]) + (", ..." if len(there) > 3 else "")
        holds = f"{folder} holds {some}" if there else "are these the patterns that fit? or narrow `scenes`"
        return f"{directory}: there is no {pattern} in this scene; {holds}"

    def _image(self, path: str, problem: Drop | None) -> bytes:
        if problem is not None:
            raise problem
        return read_file(self._fs, path, "image")

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
                if find_file(self._fs, str(patterns.intrinsics.path), (directory, self._root)):
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

    def _split_of(self, scene: str) -> str:
        splits = self._patterns.splits
        if not splits:
            return "all"
        return next((name for name, some in splits.items() if any(fnmatchcase(scene, one) for one in some)), "other")


def _json(patterns: Patterns) -> str:
    """Return what a scene is read by, as it always was where it does not tell confidence: its stamp stays."""
    depth = patterns.depth
    unsaid = {"confidence", "confidence_min"} if depth and depth.confidence is None else set[str]()
    return patterns.model_dump_json(exclude={"depth": unsaid})


def _last(path: str) -> str:
    return posixpath.basename(path) or "root"


def _image_size_px(data: bytes) -> tuple[int, int]:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise Drop("image_unreadable", str(error)) from error
