"""iBims-1 (Koch et al., ECCV-W 2018): 100 laser-scanned indoor images, in either of the forms it is published in.

`ibims1_core_raw/{rgb,depth,calib,mask_invalid,mask_transp}/<name>.png|txt`, depth 16 bits over 50 m, or
`ibims1_core_mat/<name>.mat`, a struct of the same as floats. Both list their images in `imagelist.txt`.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np
import numpy.typing as npt
import xxhash

from vlm3data.config import Config
from vlm3data.formats.depth_file import decode_depth_file
from vlm3data.formats.mat5 import read_struct
from vlm3data.images import decode_rgb
from vlm3data.storage import list_files, open_root, read_below, read_whole
from vlm3data.types import Camera, Drop, Float32Array, Frame, SceneRef, SourceFacts, UInt8Array, UserError

SIZE_PX = (640, 480)
METRES_PER_COUNT = 50 / 65535
"""Of the raw form's 16-bit depth; the labels that DepthLM publishes are these values to the last digit."""
PIXEL_SHIFT = -0.5
"""The dataset's own evaluation counts pixels from 1 when it lifts them with these intrinsics, as MATLAB does."""
SPLIT = "val"
LIST = "imagelist.txt"
FIELDS = ("rgb", "depth", "calib", "mask_invalid", "mask_transp")


class IbimsSource:
    """`root` is one of the two directories, or what holds them: then the raw one is taken, else the other."""

    class Options(Config):
        """There is nothing to set."""

    facts = SourceFacts(
        name="ibims",
        licence="research only (iBims-1, TU Munich)",
        metric=True,
        depth_kind="z",
        depth_range_m=(0.005, 25.0),
        pixel_centre="the first pixel's centre is 1 in the files (MATLAB): 0.5 is taken off cx and cy",
        splits=(SPLIT,),
        depth_noise=(0.005, 0.002),
    )

    def __init__(self, root: str, options: Options, seed: int) -> None:
        self._fs, self._given = open_root(root)
        self._directory, self._is_raw = self._form()
        self._names, listing = self._list()
        self._stamp = xxhash.xxh3_64_hexdigest(f"{self._is_raw}\n{listing}".encode())

    def scenes(self, split: str | None) -> Iterator[SceneRef]:
        """Yield the one scene of all images: they have no poses, nothing is shared but the camera."""
        if split in (None, SPLIT):
            yield SceneRef("ibims1", len(self._names), split=SPLIT, stamp=self._stamp)

    def frames(self, scene: SceneRef) -> Iterator[Frame]:
        """Yield the images of the list, in its order; what is wrong with one is raised when its image is read."""
        for name in self._names:
            yield self._raw_frame(name) if self._is_raw else self._mat_frame(name)

    def _raw_frame(self, name: str) -> Frame:
        camera = None
        try:
            camera = camera_of(self._read("calib", f"{name}.txt").decode("utf-8", "replace").replace(",", " ").split())
        except Drop as drop:
            return Frame.unusable(name, "ibims1", drop)
        image = partial(self._read, "rgb", f"{name}.png", "image")
        return Frame(key=name, scene="ibims1", image=image, camera=camera, depth_m=partial(self._raw_depth, name))

    def _raw_depth(self, name: str) -> Float32Array:
        stored = decode_depth_file(self._read("depth", f"{name}.png"), SIZE_PX)
        masks = (self._mask(kind, name) for kind in ("mask_invalid", "mask_transp"))
        return known(stored * np.float64(METRES_PER_COUNT), *masks)

    def _mask(self, kind: str, name: str) -> UInt8Array:
        try:
            return decode_rgb(self._read(kind, f"{name}.png"), SIZE_PX)[..., 0]
        except Drop as drop:
            raise Drop(drop.reason.replace("image_", f"{kind}_"), drop.detail) from drop

    def _mat_frame(self, name: str) -> Frame:
        # Intrinsics are inside the file, so it is read whole here; one at a time, 100 in all.
        try:
            data = read_struct(read_below(self._fs, self._directory, f"{name}.mat", "mat"), "data", FIELDS)
            camera = camera_of(_numbers(data["calib"]))
            image = _image(data["rgb"])
        except Drop as drop:
            return Frame.unusable(name, "ibims1", drop)
        return Frame(key=name, scene="ibims1", image=lambda: image, camera=camera, depth_m=lambda: _mat_depth(data))

    def _form(self) -> tuple[str, bool]:
        """Return the directory to read, and whether it is of the raw form."""
        for directory in (self._given, posixpath.join(self._given, "ibims1_core_raw")):
            if self._fs.isdir(posixpath.join(directory, "rgb")) and self._fs.isdir(posixpath.join(directory, "depth")):
                return directory, True
        for directory in (self._given, posixpath.join(self._given, "ibims1_core_mat")):
            if list_files(self._fs, directory, ".mat"):
                return directory, False
        if list_files(self._fs, self._given, ".jsonl"):
            raise UserError(f"--root {self._given}: is the JSON Lines form: vlm3data build jsonl --root {self._given}")
        raise UserError(f"--root {self._given}: there is neither ibims1_core_raw nor ibims1_core_mat in it")

    def _list(self) -> tuple[list[str], str]:
        """Return the images' names, from `imagelist.txt` here or one above, and its text."""
        for directory in (self._directory, posixpath.dirname(self._directory)):
            path = posixpath.join(directory, LIST)
            if self._fs.isfile(path):
                text = read_whole(self._fs, path).decode("utf-8", "replace")
                names = [line.strip().removesuffix(".png").removesuffix(".mat") for line in text.splitlines()]
                names = [name for name in names if name]
                if len(set(names)) != len(names) or not names:
                    raise UserError(f"{path}: lists {len(names)} images, {len(set(names))} of them different")
                return names, text
        raise UserError(f"{self._directory}: there is no {LIST}, neither here nor one above; it comes with the dataset")

    def _read(self, folder: str, name: str, what: str = "") -> bytes:
        return read_below(self._fs, self._directory, f"{folder}/{name}", what or folder)


def camera_of(numbers: list[str] | list[float]) -> Camera:
    """Return the camera of `fx fy cx cy`; raises Drop: bad_intrinsics."""
    try:
        fx, fy, cx, cy = (float(number) for number in numbers)
        return Camera(fx, fy, cx + PIXEL_SHIFT, cy + PIXEL_SHIFT, *SIZE_PX)
    except ValueError as error:
        raise Drop("bad_intrinsics", str(error)) from error


def known(depth_m: npt.NDArray[np.number], invalid: npt.NDArray[np.number], transparent: npt.NDArray[np.number]):
    """Return (h, w) float32, NaN where the depth is missing or one of the masks, which mark what is good, is 0."""
    good = (invalid > 0) & (transparent > 0) & np.isfinite(depth_m) & (depth_m != 0)
    return np.where(good, depth_m, np.nan).astype(np.float32)


def _numbers(calib: npt.NDArray[np.number]) -> list[float]:
    """Return fx, fy, cx, cy of MATLAB's intrinsic matrix, whose principal point is in the last row."""
    k = calib.astype(np.float64)
    if k.shape != (3, 3) or k[0, 2] or k[1, 2] or k[0, 1] or k[1, 0] or k[2, 2] != 1:
        raise Drop("bad_intrinsics", f"{k.tolist()} is not [fx 0 0; 0 fy 0; cx cy 1]")
    return [float(k[0, 0]), float(k[1, 1]), float(k[2, 0]), float(k[2, 1])]


def _image(rgb: npt.NDArray[np.number]) -> UInt8Array:
    width, height = SIZE_PX
    if rgb.dtype != np.uint8 or rgb.shape != (height, width, 3):
        raise Drop("image_size_mismatch", f"rgb is {rgb.dtype} {rgb.shape}")
    return np.ascontiguousarray(rgb, np.uint8)


def _mat_depth(data: Mapping[str, npt.NDArray[np.number]]) -> Float32Array:
    depth_m, *masks = (data[field] for field in ("depth", "mask_invalid", "mask_transp"))
    if any(array.shape != SIZE_PX[::-1] for array in (depth_m, *masks)):
        raise Drop("depth_size_mismatch", f"{depth_m.shape}, masks {[mask.shape for mask in masks]}")
    return known(depth_m.astype(np.float64), *masks)
