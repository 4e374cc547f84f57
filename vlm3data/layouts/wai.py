"""Synthetic scenes in WAI, the format of MapAnything's conversions, and the exact truth.

<out>/synthetic/<scene>/scene_meta.json, images/*.png, depth/*.exr, covisibility/v0/pairwise_covisibility--NxN.npy
<out>/truth/<scene>.json: scale, cameras, poses in metres; <scene>-<number>.depth.npy: depth in metres
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any, Literal

import cv2
import numpy as np
import orjson
from fsspec import AbstractFileSystem
from pydantic import Field

from vlm3data.config import Config
from vlm3data.formats.exr import encode_exr
from vlm3data.geometry.camera import with_size
from vlm3data.randomness import rng_for
from vlm3data.storage import open_store, write_whole
from vlm3data.synth.indoors import hall, room
from vlm3data.synth.outdoors import street, yard
from vlm3data.synth.photos import Photograph, overlaps, take
from vlm3data.types import Camera, Float32Array, Float64Array, UInt8Array

PLACES = (room, hall, street, yard)
DATASET = "synthetic"
SCALES = (0.02, 50.0)


class WaiLayoutOptions(Config):
    """How much to write, and of which kind."""

    scenes: Annotated[int, Field(ge=1)] = 2
    frames: Annotated[int, Field(ge=2)] = 24
    """Of each scene."""
    width_px: Annotated[int, Field(ge=64)] = 960
    height_px: Annotated[int, Field(ge=64)] = 720
    depth_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Size of the depth maps, as a share of the images'."""
    scale_type: Literal["metric", "colmap"] = "metric"
    """colmap: each scene in a unit of its own."""
    shared_intrinsics: bool = False
    """One camera for each scene; without it each frame has its own."""
    scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Units of the files in a metre, where scale_type is colmap; each scene has its own without it."""


class WaiLayout:
    """Writes `scenes`, each seen from everywhere."""

    Options = WaiLayoutOptions

    def __init__(self, options: WaiLayoutOptions, seed: int) -> None:
        self.options, self.seed = options, seed

    def write(self, out: str, progress: Callable[[int, int], None]) -> dict[str, Any]:
        """Write everything below `out` and return the counts."""
        fs, root = open_store(out)
        fs.makedirs(f"{root}/truth", exist_ok=True)
        for number in range(self.options.scenes):
            progress(number, self.options.scenes)
            self._write_scene(fs, root, f"{number:06d}")
        progress(self.options.scenes, self.options.scenes)
        return {"scenes": self.options.scenes, "frames": self.options.scenes * self.options.frames}

    def _write_scene(self, fs: AbstractFileSystem, root: str, name: str) -> None:
        options, directory = self.options, f"{root}/{DATASET}/{name}"
        for modality in ("images", "depth", "covisibility/v0"):
            fs.makedirs(f"{directory}/{modality}", exist_ok=True)
        rng = rng_for(self.seed, "wai layout", name)
        low, high = SCALES
        drawn = float(low * (high / low) ** rng.random())
        scale = 1.0 if options.scale_type == "metric" else drawn if options.scale is None else options.scale
        shared = self._camera(rng)
        camera = (lambda rng: shared) if options.shared_intrinsics else self._camera
        photographs = take(PLACES[int(rng.integers(len(PLACES)))], camera, options.frames, rng)
        depths_m: list[Float32Array] = []
        for number, photograph in enumerate(photographs):
            image, depth_m = photograph.taken()
            write_whole(fs, f"{directory}/images/{number:06d}.png", _png(image))
            stored = photograph.depth_seen_by(_scaled(photograph.camera, options.depth_share)) * np.float32(scale)
            write_whole(fs, f"{directory}/depth/{number:06d}.exr", encode_exr(np.nan_to_num(stored)))
            write_whole(fs, f"{root}/truth/{name}-{number:06d}.depth.npy", _npy(depth_m))
            depths_m.append(depth_m)
        # WAI counts shares of all pixels, so that on the diagonal it has the share that has depth.
        known = np.array([np.isfinite(depth_m).mean() for depth_m in depths_m])
        covisibility = np.nan_to_num(overlaps(photographs, depths_m)) * known[:, None]
        np.fill_diagonal(covisibility, known)
        covisibility_file = f"covisibility/v0/pairwise_covisibility--{len(known)}x{len(known)}.npy"
        write_whole(fs, f"{directory}/{covisibility_file}", _npy(covisibility.astype(np.float32)))
        meta = self._scene_meta(name, photographs, scale, covisibility_file)
        write_whole(fs, f"{directory}/scene_meta.json", orjson.dumps(meta, option=orjson.OPT_INDENT_2))
        write_whole(fs, f"{root}/truth/{name}.json", orjson.dumps({"scale": scale, "frames": _truth(photographs)}))

    def _camera(self, rng: np.random.Generator) -> Camera:
        """Draw a camera; the principal point is not quite in the middle, fx not quite fy."""
        width, height = self.options.width_px, self.options.height_px
        focal_px = width * float(rng.uniform(0.6, 1.2))
        cx, cy = (side / 2 + float(rng.uniform(-0.01, 0.01)) * side for side in (width, height))
        return Camera(focal_px, focal_px * float(rng.uniform(0.99, 1.01)), cx, cy, width, height)

    def _scene_meta(self, name: str, photographs: list[Photograph], scale: float, covisibility: str) -> dict[str, Any]:
        shared = self.options.shared_intrinsics
        frames = [
            {
                "frame_name": f"{number:06d}",
                "file_path": f"images/{number:06d}.png",
                "image": f"images/{number:06d}.png",
                "depth": f"depth/{number:06d}.exr",
                "transform_matrix": _in_units(photograph.world_from_cam, scale).tolist(),
            }
            | ({} if shared else _coefficients(photograph.camera))
            for number, photograph in enumerate(photographs)
        ]
        return {
            "scene_name": name,
            "dataset_name": DATASET,
            "version": "0.1",
            "shared_intrinsics": shared,
            "camera_model": "PINHOLE",
            "camera_convention": "opencv",
            "scale_type": self.options.scale_type,
            **(_coefficients(photographs[0].camera) if shared else {}),
            "scene_modalities": {"pairwise_covisibility": {"scene_key": covisibility, "format": "mmap"}},
            "frames": frames,
            "frame_modalities": {
                "image": {"frame_key": "image", "format": "image"},
                "depth": {"frame_key": "depth", "format": "depth"},
            },
        }


def _coefficients(camera: Camera) -> dict[str, float]:
    return {
        "fl_x": camera.fx_px,
        "fl_y": camera.fy_px,
        "cx": camera.cx_px,
        "cy": camera.cy_px,
        "w": camera.width_px,
        "h": camera.height_px,
    }


def _truth(photographs: list[Photograph]) -> list[dict[str, Any]]:
    return [{"camera": asdict(one.camera), "world_from_cam": one.world_from_cam.tolist()} for one in photographs]


def _in_units(world_from_cam: Float64Array, scale: float) -> Float64Array:
    pose = world_from_cam.copy()
    pose[:3, 3] *= scale
    return pose


def _scaled(camera: Camera, share: float) -> Camera:
    """Return the camera of the same view in fewer pixels, whole ones: the sides shrink almost alike."""
    width, height = (max(1, round(side * share)) for side in (camera.width_px, camera.height_px))
    return with_size(camera, (width, height))


def _png(image: UInt8Array) -> bytes:
    return cv2.imencode(".png", image[:, :, ::-1])[1].tobytes()


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()
