"""Synthetic rooms in iBims-1's files, raw PNGs and MAT-files, and the exact truth.

<out>/ibims1_core_raw/{rgb,depth,calib,mask_invalid,mask_transp}/<name>.png|txt
<out>/ibims1_core_mat/<name>.mat, <out>/imagelist.txt
<out>/truth/<name>.npy: float32 z-depth, NaN where a mask or a gap hides it; cameras.json: in our pixels
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any, Literal

import cv2
import numpy as np
import orjson
from pydantic import Field

from vlm3data.config import Config
from vlm3data.formats.depth_image import encode_png16
from vlm3data.formats.mat5 import write_struct
from vlm3data.randomness import rng_for
from vlm3data.storage import open_store, write_whole
from vlm3data.synth.indoors import room
from vlm3data.synth.packed import pack
from vlm3data.synth.shade import shade
from vlm3data.synth.views import look_around
from vlm3data.types import Camera, Float32Array, UInt8Array

SIZE_PX = (640, 480)
FAR_M = 25.0
INTRINSICS = ((559.62, 558.14, 361.87, 241.99), (550.39, 548.55, 355.44, 240.26), (626.16, 624.66, 320.5, 240.5))
"""fx, fy, cx, cy, as the files count pixels (from 1); the first two are the real set's."""


class IbimsLayout:
    """Writes `images` views, each of a room of its own."""

    class Options(Config):
        """How much to write, and in which form."""

        form: Literal["both", "raw", "mat"] = "both"
        images: Annotated[int, Field(ge=1)] = 12

    def __init__(self, options: Options, seed: int) -> None:
        self.options, self.seed = options, seed

    def write(self, out: str, progress: Callable[[int, int], None]) -> dict[str, Any]:
        """Write everything below `out` and return the counts."""
        fs, root = open_store(out)
        cameras, files = {}, dict[str, bytes]()
        for number in range(self.options.images):
            progress(number, self.options.images)
            name = f"room_{number + 1:02d}"
            rng = rng_for(self.seed, "ibims layout", name)
            numbers = INTRINSICS[number % len(INTRINSICS)]
            fx, fy, cx, cy = numbers
            camera = Camera(fx, fy, cx - 0.5, cy - 0.5, *SIZE_PX)
            image, depth_m = _view(camera, rng)
            invalid, transparent = _mask(rng), _mask(rng)
            gaps = _mask(rng)
            files = _raw(name, image, depth_m, numbers, invalid, transparent, gaps) if self._writes("raw") else {}
            if self._writes("mat"):
                files[f"ibims1_core_mat/{name}.mat"] = _mat(image, depth_m, numbers, invalid, transparent, gaps)
            hidden = (invalid == 0) | (transparent == 0) | (gaps == 0)
            files[f"truth/{name}.npy"] = _npy(np.where(hidden, np.float32(np.nan), depth_m))
            cameras[name] = asdict(camera)
            for path, content in files.items():
                fs.makedirs(f"{root}/{path.rpartition('/')[0]}", exist_ok=True)
                write_whole(fs, f"{root}/{path}", content)
        write_whole(fs, f"{root}/imagelist.txt", "".join(f"{name}\n" for name in cameras).encode())
        write_whole(fs, f"{root}/truth/cameras.json", orjson.dumps(cameras, option=orjson.OPT_INDENT_2))
        progress(self.options.images, self.options.images)
        return {"images": self.options.images, "form": self.options.form}

    def _writes(self, form: str) -> bool:
        return self.options.form in ("both", form)


def _view(camera: Camera, rng: np.random.Generator) -> tuple[UInt8Array, Float32Array]:
    for _ in range(100):
        packed = pack(room(rng))
        looks = look_around(packed, camera, 1, FAR_M, rng)
        if looks:
            (look,) = looks
            return shade(packed, look.traced, camera, look.world_from_cam), look.depth_m
    raise RuntimeError("nothing worth seeing in 100 rooms")


def _mask(rng: np.random.Generator) -> UInt8Array:
    """Return (h, w), 1 where all is well, 0 in some rectangles."""
    width, height = SIZE_PX
    mask = np.ones((height, width), np.uint8)
    for _ in range(3):
        x, y = int(rng.integers(width)), int(rng.integers(height))
        mask[y : y + int(rng.integers(10, 80)), x : x + int(rng.integers(10, 80))] = 0
    return mask


def _raw(
    name: str,
    image: UInt8Array,
    depth_m: Float32Array,
    numbers: tuple[float, ...],
    invalid: UInt8Array,
    transparent: UInt8Array,
    gaps: UInt8Array,
) -> dict[str, bytes]:
    counts = np.nan_to_num(np.rint(depth_m.astype(np.float64) * 65535 / 50)).astype(np.uint16) * gaps
    files = {
        "rgb": cv2.imencode(".png", image[..., ::-1])[1].tobytes(),
        "depth": encode_png16(counts.astype(np.uint16)),
        "mask_invalid": cv2.imencode(".png", invalid * 255)[1].tobytes(),
        "mask_transp": cv2.imencode(".png", transparent * 255)[1].tobytes(),
    }
    found = {f"ibims1_core_raw/{folder}/{name}.png": content for folder, content in files.items()}
    found[f"ibims1_core_raw/calib/{name}.txt"] = ",".join(f"{number:g}" for number in numbers).encode()
    return found


def _mat(
    image: UInt8Array,
    depth_m: Float32Array,
    numbers: tuple[float, ...],
    invalid: UInt8Array,
    transparent: UInt8Array,
    gaps: UInt8Array,
) -> bytes:
    fx, fy, cx, cy = numbers
    fields = {
        "rgb": image,
        "depth": np.nan_to_num(depth_m.astype(np.float64)) * gaps,
        "calib": np.array([[fx, 0, 0], [0, fy, 0], [cx, cy, 1]]),
        "mask_invalid": invalid,
        "mask_transp": transparent,
        "mask_wall_paras": np.zeros((0, 7)),
    }
    return write_struct("data", fields)


def _npy(depth_m: Float32Array) -> bytes:
    file = io.BytesIO()
    np.save(file, depth_m.astype(np.float32), allow_pickle=False)
    return file.getvalue()
