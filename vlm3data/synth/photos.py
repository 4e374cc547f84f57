"""Photographs of one place, each by a camera of its own: what a reconstruction from a photo collection starts from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vlm3data.geometry.overlap import Covisibility, lowres
from vlm3data.synth.packed import PackedWorld, pack
from vlm3data.synth.shade import shade
from vlm3data.synth.trace import trace
from vlm3data.synth.views import CLEARANCE_M, Pose, clear_of, depth_of, first_pose, next_pose, worth_seeing
from vlm3data.synth.world import World
from vlm3data.types import Camera, Float32Array, Float64Array, UInt8Array

FAR_M = 80.0
_TRIES = 100
_SMALL_PX = 96


@dataclass(frozen=True, slots=True)
class Photograph:
    """One view and its exact geometry; `world_from_cam` and `depth_m` in metres."""

    packed: PackedWorld
    camera: Camera
    world_from_cam: Float64Array

    def taken(self) -> tuple[UInt8Array, Float32Array]:
        """Return the image (h, w, 3) and the z-depth (h, w), NaN for sky."""
        seen = trace(self.packed, self.camera, self.world_from_cam, FAR_M)
        return shade(self.packed, seen, self.camera, self.world_from_cam), depth_of(seen, FAR_M)

    def depth_seen_by(self, camera: Camera) -> Float32Array:
        """Return the z-depth (h, w) in the pixels of another camera at the same place."""
        return depth_of(trace(self.packed, camera, self.world_from_cam, FAR_M), FAR_M)


def take(
    place: Callable[[np.random.Generator], World],
    camera: Callable[[np.random.Generator], Camera],
    count: int,
    rng: np.random.Generator,
) -> list[Photograph]:
    """Draw a place and `count` photographs of it, each near one of those before it."""
    for _ in range(_TRIES):
        packed = pack(place(rng))
        poses: list[Pose] = []
        taken: list[Photograph] = []
        for _ in range(_TRIES * count):
            own = camera(rng)
            near = poses[int(rng.integers(len(poses)))] if poses else None
            pose = next_pose(packed.world, near, own, rng) if near else first_pose(packed.world, rng)
            if clear_of(packed, pose.position_m) < CLEARANCE_M:
                continue
            if worth_seeing(trace(packed, _small(own), pose.world_from_cam(), FAR_M), packed.world.stand.largest):
                poses.append(pose)
                taken.append(Photograph(packed, own, pose.world_from_cam()))
            if len(taken) == count:
                return taken
    raise RuntimeError(f"no place for {count} photographs in {_TRIES}")


def overlaps(photographs: list[Photograph], depths_m: list[Float32Array]) -> Float64Array:
    """Return (n, n) the share of the row's known pixels that the column sees, measured on small depth maps."""
    pairs = zip(photographs, depths_m, strict=True)
    small = Covisibility([lowres(depth_m, one.camera, one.world_from_cam) for one, depth_m in pairs], (0.0, 0.01))
    return np.stack([small.of(number)[0] for number in range(len(photographs))])


def _small(camera: Camera) -> Camera:
    s = _SMALL_PX / max(camera.width_px, camera.height_px)
    size = (max(1, int(camera.width_px * s)), max(1, int(camera.height_px * s)))
    return Camera(camera.fx_px * s, camera.fy_px * s, camera.cx_px * s, camera.cy_px * s, *size)
