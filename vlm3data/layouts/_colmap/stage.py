"""One synthetic reconstruction before it is written: a world, a camera with a lens, poses, and an arbitrary unit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np

from vlm3data.geometry import project, rays
from vlm3data.synth.indoors import room
from vlm3data.synth.outdoors import yard
from vlm3data.synth.packed import PackedWorld, pack
from vlm3data.synth.shade import shade
from vlm3data.synth.trace import Traced, trace
from vlm3data.synth.views import look_around
from vlm3data.synth.world import World
from vlm3data.types import Camera, Distortion, DistortionModel, Float64Array, UInt8Array

Domain = Literal["room", "yard"]
LensName = Literal["pinhole"] | DistortionModel

DOMAINS: dict[Domain, Callable[[np.random.Generator], World]] = {"room": room, "yard": yard}
FAR_M = {"room": 20.0, "yard": 80.0}
LENSES: dict[str, tuple[float, ...]] = {
    "pinhole": (),
    "brown_conrady": (-0.10, 0.02, 8e-4, -5e-4, 0.004),
    "simple_radial": (-0.06,),
    "radial": (-0.09, 0.02),
    "opencv": (-0.10, 0.03, 8e-4, -5e-4),
    "full_opencv": (-0.10, 0.03, 8e-4, -5e-4, 0.004, 0.02, -0.003, 0.001),
    "fov": (0.6,),
    "opencv_fisheye": (0.03, -0.01, 0.003, -0.001),
    "simple_radial_fisheye": (0.03,),
    "radial_fisheye": (0.03, -0.01),
    "thin_prism_fisheye": (0.03, -0.01, 8e-4, -5e-4, 0.003, -0.001, 6e-4, -4e-4),
    "rad_tan_thin_prism_fisheye": (0.03, -0.01, 0.003, -0.001, 0.0, 0.0, 8e-4, -5e-4, 6e-4, 1e-4, -4e-4, 1e-4),
}
"""Of each model parameters that real lenses have."""
_FINER = 2
"""Images are made at so many times their resolution, as a pinhole's, and then seen through the lens."""


@dataclass(frozen=True)
class Stage:
    """Everything about a scene, in metres; and how the model's world lies to the true one."""

    name: str
    packed: PackedWorld
    far_m: float
    camera: Camera
    world_from_cam: list[Float64Array]
    model_from_world: Float64Array
    """(4, 4) a rotation and a shift, metres."""
    units_per_metre: float

    def in_model(self, points_m: Float64Array) -> Float64Array:
        """Return points (n, 3) as the model has them."""
        moved = points_m @ self.model_from_world[:3, :3].T + self.model_from_world[:3, 3]
        return moved * self.units_per_metre

    def model_from_cam(self, number: int) -> Float64Array:
        """Return a pose (4, 4) in the model's world and units."""
        pose = self.model_from_world @ self.world_from_cam[number]
        pose[:3, 3] *= self.units_per_metre
        return pose

    def undistorted(self, number: int) -> tuple[Traced, UInt8Array]:
        """Return what the camera would see without its lens, and the image of it."""
        pinhole = replace(self.camera, distortion=None)
        traced = trace(self.packed, pinhole, self.world_from_cam[number], self.far_m)
        return traced, shade(self.packed, traced, pinhole, self.world_from_cam[number])

    def image(self, number: int) -> UInt8Array:
        """Return the image (h, w, 3) through the lens."""
        fine = _scaled(self.camera, _FINER)
        v, u = np.indices((fine.height_px, fine.width_px))
        seen = rays(fine, np.stack([u, v], -1) + 0.5)
        pinhole = _around(seen, fine.fx_px)
        traced = trace(self.packed, pinhole, self.world_from_cam[number], self.far_m)
        wide = shade(self.packed, traced, pinhole, self.world_from_cam[number])
        at = (project(pinhole, seen) - 0.5).astype(np.float32)
        moved = cv2.remap(wide, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        size_px = (self.camera.width_px, self.camera.height_px)
        return np.asarray(cv2.resize(moved, size_px, interpolation=cv2.INTER_AREA), np.uint8)


def set_up(
    name: str, domain: Domain, lens: LensName, images: int, size_px: tuple[int, int], rng: np.random.Generator
) -> Stage:
    """Draw a world in which `images` cameras see much of the same."""
    camera = _camera(lens, size_px, rng)
    small = _scaled(replace(camera, distortion=None), 96 / camera.width_px)
    for _ in range(100):
        packed = pack(DOMAINS[domain](rng))
        if looks := look_around(packed, small, images, FAR_M[domain], rng):
            break
    else:
        raise RuntimeError(f"no view worth seeing in 100 worlds for {name}")
    poses = [look.world_from_cam for look in looks]
    units = float(np.exp(rng.uniform(np.log(0.05), np.log(20))))
    return Stage(name, packed, FAR_M[domain], camera, poses, _somewhere(rng), units)


def _camera(lens: LensName, size_px: tuple[int, int], rng: np.random.Generator) -> Camera:
    width, height = size_px
    focal = width * rng.uniform(0.75, 0.95)
    cx, cy = (np.array(size_px) * (0.5 + rng.uniform(-0.01, 0.01, 2))).tolist()
    params = tuple(np.round(rng.uniform(0.8, 1.2) * np.array(LENSES[lens]), 7).tolist())
    distortion = None if lens == "pinhole" else Distortion(lens, params)
    return Camera(focal, focal, cx, cy, width, height, distortion)


def _scaled(camera: Camera, scale: float) -> Camera:
    width, height = round(camera.width_px * scale), round(camera.height_px * scale)
    numbers = (camera.fx_px * scale, camera.fy_px * scale, camera.cx_px * scale, camera.cy_px * scale)
    return Camera(*numbers, width, height, camera.distortion)


def _around(seen: Float64Array, focal_px: float) -> Camera:
    """Return the pinhole camera whose image holds all rays (h, w, 3), with some pixels to spare."""
    low, high = seen[..., :2].min((0, 1)), seen[..., :2].max((0, 1))
    cx, cy = (4 - low * focal_px).tolist()
    width, height = np.ceil((high - low) * focal_px + 8).astype(int).tolist()
    return Camera(focal_px, focal_px, cx, cy, width, height)


def _somewhere(rng: np.random.Generator) -> Float64Array:
    """Return any rotation and a shift: structure from motion knows neither where up is nor where anything lies."""
    rotation, triangle = np.linalg.qr(rng.normal(size=(3, 3)))
    rotation = rotation * np.sign(np.diag(triangle))
    pose = np.eye(4)
    pose[:3, :3] = rotation * np.sign(np.linalg.det(rotation))
    pose[:3, 3] = rng.normal(0.0, 5.0, 3)
    return pose
