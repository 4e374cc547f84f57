"""One synthetic scan before it is written: a furnished room, two cameras, the way they are carried through it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vlm3data.formats.depth_image import UInt16Array
from vlm3data.synth.indoors import room
from vlm3data.synth.packed import PackedWorld, pack
from vlm3data.synth.shade import shade
from vlm3data.synth.tour import tour
from vlm3data.synth.trace import Traced, trace
from vlm3data.synth.views import depth_of
from vlm3data.types import Camera, Float32Array, Float64Array, UInt8Array

COLOR_CAMERA = Camera(1170.187988, 1170.187988, 647.75 + 0.5, 483.75 + 0.5, 1296, 968)
DEPTH_CAMERA = Camera(577.870605, 577.870605, 319.5 + 0.5, 239.5 + 0.5, 640, 480)
"""ScanNet's own, in our convention; each scan's differ a little."""
FAR_M = 10.0
DEPTH_SHIFT = 1000.0


@dataclass(frozen=True)
class Stage:
    """Everything about a scan. Poses and boxes are in the room's own world, which is the aligned one."""

    name: str
    packed: PackedWorld
    color_camera: Camera
    depth_camera: Camera
    color_from_depth: Float64Array
    world_from_cam: list[Float64Array]
    """(4, 4) of the colour camera, per frame."""
    lost: list[bool]
    aligned_from_scan: Float64Array
    """What `<scan>.txt` calls axisAlignment: everything is stored in a world turned and shifted by its inverse."""

    def look(self, number: int) -> Traced:
        """Return what the colour camera sees."""
        return trace(self.packed, self.color_camera, self.world_from_cam[number], FAR_M)

    def image(self, number: int, traced: Traced) -> UInt8Array:
        """Return the colour image (h, w, 3)."""
        return shade(self.packed, traced, self.color_camera, self.world_from_cam[number])

    def depth_at_color_pixels(self, traced: Traced) -> Float32Array:
        """Return the exact z-depth at the centres of the colour image's pixels, metres."""
        return depth_of(traced, FAR_M)

    def stored_depth(self, number: int) -> UInt16Array:
        """Return the depth camera's map in whole millimetres, 0 where nothing is near enough."""
        pose = self.world_from_cam[number] @ self.color_from_depth
        depth_m = depth_of(trace(self.packed, self.depth_camera, pose, FAR_M), FAR_M)
        return np.nan_to_num(np.rint(depth_m * DEPTH_SHIFT)).astype(np.uint16)

    def stored_pose(self, number: int) -> Float64Array:
        """Return the depth camera's pose in the stored world; -inf throughout where tracking was lost."""
        if self.lost[number]:
            return np.full((4, 4), -np.inf)
        return np.linalg.inv(self.aligned_from_scan) @ self.world_from_cam[number] @ self.color_from_depth


def set_up(
    name: str,
    frames: int,
    color_size_px: tuple[int, int],
    depth_size_px: tuple[int, int],
    lost_share: float,
    *,
    apart: bool,
    rng: np.random.Generator,
) -> Stage:
    """Draw a room in which a camera can be carried around."""
    color_camera = _resized(_varied(COLOR_CAMERA, rng), color_size_px)
    depth_camera = _resized(_varied(DEPTH_CAMERA, rng), depth_size_px)
    small = _resized(COLOR_CAMERA, (96, 72))
    for _ in range(100):
        packed = pack(room(rng))
        poses = tour(packed, small, frames, FAR_M, rng)
        if poses:
            break
    else:
        raise RuntimeError(f"no room for a tour in 100 rooms for {name}")
    return Stage(
        name=name,
        packed=packed,
        color_camera=color_camera,
        depth_camera=depth_camera,
        color_from_depth=_offset(rng) if apart else np.eye(4),
        world_from_cam=poses,
        lost=(rng.random(frames) < lost_share).tolist(),
        aligned_from_scan=_alignment(rng),
    )


def _varied(camera: Camera, rng: np.random.Generator) -> Camera:
    """Return a camera of the same kind: focal length and principal point differ from tablet to tablet."""
    focal = camera.fx_px * rng.uniform(0.97, 1.03)
    shift = rng.uniform(-0.005, 0.005, 2) * camera.width_px
    cx, cy = (np.array([camera.cx_px, camera.cy_px]) + shift).tolist()
    return Camera(float(focal), float(focal), cx, cy, camera.width_px, camera.height_px)


def _resized(camera: Camera, size_px: tuple[int, int]) -> Camera:
    sx, sy = size_px[0] / camera.width_px, size_px[1] / camera.height_px
    return Camera(camera.fx_px * sx, camera.fy_px * sy, camera.cx_px * sx, camera.cy_px * sy, *size_px)


def _turned(axis: np.ndarray, angle_rad: float) -> Float64Array:
    """Return the rotation (3, 3) by an angle about a unit axis (Rodrigues)."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle_rad) * cross + (1 - np.cos(angle_rad)) * cross @ cross


def _offset(rng: np.random.Generator) -> Float64Array:
    """Return colour from depth: some centimetres and a degree apart, as a sensor clipped to a tablet is."""
    axis = rng.normal(size=3)
    pose = np.eye(4)
    pose[:3, :3] = _turned(axis / np.linalg.norm(axis), np.deg2rad(rng.uniform(0.5, 1.5)))
    pose[:3, 3] = np.array([0.038, 0.003, 0.022]) * rng.uniform(0.8, 1.2, 3)
    return pose


def _alignment(rng: np.random.Generator) -> Float64Array:
    """Return a turn about the vertical and a shift, as `<scan>.txt` rounds it."""
    pose = np.eye(4)
    pose[:3, :3] = _turned(np.array([0.0, 0.0, 1.0]), rng.uniform(0.3, 2 * np.pi - 0.3))
    pose[:3, 3] = rng.uniform((-6, -6, -0.3), (6, 6, 0.3))
    return np.round(pose, 6)
