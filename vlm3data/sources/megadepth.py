"""MegaDepth v1 (Li and Snavely, CVPR 2018): photographs of landmarks, depth by multi-view stereo, no metric scale.

    <root>/phoenix/S6/zl548/MegaDepth_v1/<place>/dense<k>/{imgs/*.jpg, depths/*.h5}
    <root>/Undistorted_SfM/<place>/images/*              by D2-Net's preparation; without it `imgs` is read
    <root>/scene_info/*.npz                              poses and intrinsics, by D2-Net or LoFTR

MegaDepth v1 alone has neither poses nor intrinsics: docs/megadepth.md says which preparation adds them.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import BinaryIO, NamedTuple, cast

import numpy as np
import xxhash
from PIL import Image

from vlm3data.config import Config
from vlm3data.formats.hdf5 import array_size, read_array
from vlm3data.formats.scene_info import Photo, SceneInfo, read_scene_info
from vlm3data.geometry.camera import resized
from vlm3data.storage import list_files, open_root, path_below, read_below
from vlm3data.types import Camera, Cut, Drop, Float32Array, Frame, SceneRef, SourceFacts, UserError

UNDISTORTED = "Undistorted_SfM"
DATASET = "depth"
"""The name of the array in a depth file."""
VAL = ("0015", "0022")
"""The places of LoFTR's and glue-factory's 1500 validation pairs."""
TEST = ("0008", "0019", "0021", "0024", "0025", "0032", "0063", "1589")
"""Places of the Image Matching Challenge, which others evaluate on (glue-factory's list)."""
_INDEX = ("", "index", "megadepth_indices")
"""Where below the root directories named scene_info... are looked for."""


class Sizes(NamedTuple):
    """(width, height) of a photograph, and of its depth map where that can be read."""

    image: tuple[int, int]
    depth: tuple[int, int] | None


class MegadepthSource:
    """A scene is one scene_info file with all its photographs, the unusable ones among them."""

    class Options(Config):
        """What a user may set for this source alone."""

        scene_info: str = ""
        """The directory of the .npz files, below the root, where it holds several; LoFTR's index has one for
        training (scene_info_0.1_0.7) and one for validation (scene_info_val_1500)."""

    facts = SourceFacts(
        name="megadepth",
        licence="CC BY 4.0 (MegaDepth); the photographs as their owners say",
        metric=False,
        depth_kind="z",
        depth_range_m=(0.0, np.inf),
        pixel_centre="COLMAP: the first pixel's centre is (0.5, 0.5), as here; taken as stored",
        splits=("train", "val", "test"),
        # Stereo and bundle adjustment of photographs agree to percents; there is no length to be off by.
        depth_noise=(0.0, 0.02),
        pair_overlap=(0.1, 0.7),
    )

    def __init__(self, root: str, options: Options, seed: int) -> None:
        self._fs, self._root = open_root(root)
        self._files = list_files(self._fs, self._find(options.scene_info), ".npz")
        if not self._files:
            raise UserError(f"--root {root}: its scene_info directory holds no .npz file")
        self._undistorted = self._fs.isdir(posixpath.join(self._root, UNDISTORTED))
        # frames() is called once for each shard that a scene is spread over
        self._info = lru_cache(maxsize=2)(partial(read_scene_info, self._fs))
        self._sizes = lru_cache(maxsize=2)(self._read_sizes)

    def scenes(self, split: str | None) -> Iterator[SceneRef]:
        """Yield a scene for each scene_info file; the file is read whole, images and depth maps are not."""
        for file in self._files:
            scene = posixpath.basename(file).removesuffix(".npz")
            if split in (None, _split_of(scene)):
                info = self._info(file)
                yield SceneRef(scene, len(info.photos), {"file": file}, _split_of(scene), _stamp(info))

    def frames(self, scene: SceneRef) -> Iterator[Frame]:
        """Yield the photographs in the file's order; those left out by the preparation are cut by name."""
        file = str(scene.payload["file"])
        for number, (photo, sizes) in enumerate(zip(self._info(file).photos, self._sizes(file), strict=True)):
            key = f"{scene.scene}-{number:05d}"
            if isinstance(photo, Drop):
                yield Frame.unusable(key, scene.scene, photo)
            elif isinstance(sizes, Drop):
                yield Frame.unusable(key, scene.scene, sizes)
            else:
                yield self._frame(key, scene.scene, photo, sizes)

    def overlap(self, scene: SceneRef) -> Float32Array:
        """Return the share of each photograph's reconstructed points that each other shows, as the file has it."""
        return self._info(str(scene.payload["file"])).overlap

    def _frame(self, key: str, scene: str, photo: Photo, sizes: Sizes) -> Frame:
        try:
            camera = Camera(*photo.focal_px, *photo.centre_px, *sizes.image)
        except ValueError as error:
            return Frame.unusable(key, scene, Drop("bad_intrinsics", str(error)))
        differs = sizes.depth not in (None, sizes.image)
        return Frame(
            key=key,
            scene=scene,
            image=partial(read_below, self._fs, self._root, self._image_of(photo), "image"),
            camera=camera,
            depth_m=partial(self._depth, photo.depth),
            depth_camera=resized(camera, sizes.depth) if sizes.depth and differs else None,
            world_from_cam=photo.world_from_cam,
        )

    def _depth(self, name: str) -> Float32Array:
        stored = read_array(read_below(self._fs, self._root, name, "depth"), DATASET)
        if (stored < 0).any():
            raise Cut("ordinal_depth", f"{name}: says what is nearer, not how far it is")
        with np.errstate(over="ignore"):
            depth = stored.astype(np.float32)
        depth[~(np.isfinite(depth) & (depth > 0))] = np.nan
        return depth

    def _read_sizes(self, file: str) -> list[Sizes | Drop]:
        return [photo if isinstance(photo, Drop) else self._sizes_of(photo) for photo in self._info(file).photos]

    def _sizes_of(self, photo: Photo) -> Sizes | Drop:
        """Return the sizes from the two files' headers: the scene_info does not have them."""
        try:
            image = self._opened(self._image_of(photo), "image", _image_size)
        except Drop as drop:
            return drop
        try:
            depth = self._opened(photo.depth, "depth", partial(array_size, name=DATASET))
        except Drop:  # raised again, and counted, where the depth map is read
            return Sizes(image, None)
        # Without the undistorted copies the intrinsics are those of `imgs` only if it is of the depth maps' size.
        if not self._undistorted and depth != image:
            return Drop("image_size_mismatch", f"{photo.image}: {image}, depth map {depth}")
        return Sizes(image, depth)

    def _opened(self, name: str, what: str, size_of: Callable[[BinaryIO], tuple[int, int]]) -> tuple[int, int]:
        path = path_below(self._root, name)
        try:
            with cast("BinaryIO", self._fs.open(path, "rb")) as file:
                return size_of(file)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise Drop(f"{what}_missing", path) from error
        except (OSError, ValueError) as error:
            raise Drop(f"{what}_unreadable", f"{path}: {error}") from error

    def _image_of(self, photo: Photo) -> str:
        """Return the file of a photograph: D2-Net's undistorted copy, or MegaDepth's own beside the depth maps."""
        if self._undistorted or not photo.image.startswith(f"{UNDISTORTED}/"):
            return photo.image
        dense = posixpath.dirname(posixpath.dirname(photo.depth))
        return posixpath.join(dense, "imgs", posixpath.basename(photo.image))

    def _find(self, named: str) -> str:
        """Return the directory of the scene_info files."""
        if named:
            return posixpath.join(self._root, named)
        found = [path for place in _INDEX for path in self._scene_infos(posixpath.join(self._root, place).rstrip("/"))]
        if not found:
            raise UserError(
                f"--root {self._root}: there is no scene_info directory: MegaDepth v1 has neither poses nor "
                "intrinsics; run D2-Net's preparation or unpack LoFTR's index into it (docs/megadepth.md)"
            )
        if len(found) > 1:
            names = ", ".join(posixpath.relpath(path, self._root) for path in found)
            raise UserError(f"--root {self._root}: it holds {names}; choose one with --scene-info")
        return found[0]

    def _scene_infos(self, directory: str) -> list[str]:
        if not self._fs.isdir(directory):
            return []
        entries = self._fs.ls(directory, detail=True)
        below = sorted(str(entry["name"]).rstrip("/") for entry in entries if entry["type"] == "directory")
        return [path for path in below if posixpath.basename(path).startswith("scene_info")]


def _split_of(scene: str) -> str:
    """Return the split of a scene_info file: D2-Net's `0015`, or LoFTR's `0015_0.1_0.3`."""
    place = scene.partition("_")[0]
    return "val" if place in VAL else "test" if place in TEST else "train"


def _stamp(info: SceneInfo) -> str:
    """Return a digest of the poses, intrinsics, paths and overlaps."""
    digest = xxhash.xxh3_64(info.overlap.tobytes())
    for photo in info.photos:
        digest.update(repr(photo if isinstance(photo, Drop) else (*photo[:4], photo.world_from_cam.tolist())).encode())
    return digest.hexdigest()


def _image_size(file: BinaryIO) -> tuple[int, int]:
    try:
        with Image.open(file) as image:
            return image.size
    except (SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(str(error)) from error
