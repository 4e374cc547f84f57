"""Cameras and poses: drawn at random, and kept only where the picture is worth looking at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vlm3data.sources._synthetic.packed import PackedWorld
from vlm3data.sources._synthetic.trace import Traced, trace
from vlm3data.sources._synthetic.world import World
from vlm3data.types import Camera, Float32Array, Float64Array

CLEARANCE_M = 0.3
MAX_UNKNOWN = 0.5
MAX_CLOSE = 0.1
CLOSE_M = 0.45
MAX_ONE_SURFACE = 0.75
AIMED = 0.65
"""Share of cameras that turn towards some object instead of anywhere."""
MIN_OVERLAP = 0.35
TURN_DEG = 25.0


@dataclass(frozen=True, slots=True)
class Pose:
    """Where a camera is and looks; pitch > 0 looks up, roll > 0 banks right."""

    position_m: Float64Array
    yaw_deg: float
    pitch_deg: float
    roll_deg: float

    def world_from_cam(self) -> Float64Array:
        """Return the 4x4 matrix in OpenCV axes."""
        yaw, pitch, roll = np.deg2rad([self.yaw_deg, self.pitch_deg, self.roll_deg])
        forward = np.array([np.cos(pitch) * np.cos(yaw), np.cos(pitch) * np.sin(yaw), np.sin(pitch)])
        right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
        down = np.cross(forward, right)
        pose = np.eye(4)
        pose[:3, 0] = np.cos(roll) * right + np.sin(roll) * down
        pose[:3, 1] = np.cos(roll) * down - np.sin(roll) * right
        pose[:3, 2] = forward
        pose[:3, 3] = self.position_m
        return pose


def depth_of(packed: PackedWorld, traced: Traced, far_m: float) -> Float32Array:
    """Return (h, w) z-depth in metres, NaN for sky and beyond `far_m`."""
    known = (traced.inverse_depth >= 1.0 / far_m) & ~packed.is_sky[traced.surface]
    with np.errstate(divide="ignore"):
        return np.where(known, np.float32(1.0) / traced.inverse_depth, np.float32(np.nan))


def clear_of(world: World, point_m: Float64Array) -> float:
    """Return the metres to the nearest thing; 0 or less inside one."""
    x, y, z = point_m.tolist()
    nearest = np.inf
    for plane in world.planes:
        nearest = min(nearest, plane.normal[0] * x + plane.normal[1] * y + plane.normal[2] * z - plane.offset_m)
    for block in world.blocks:
        dx, dy = x - block.centre_m[0], y - block.centre_m[1]
        if dx * dx + dy * dy > (sum(block.size_m[:2]) / 2 + 1.0) ** 2:
            continue
        c, s = np.cos(block.yaw_rad), np.sin(block.yaw_rad)
        local = (abs(c * dx + s * dy), abs(c * dy - s * dx), abs(z - block.centre_m[2]))
        nearest = min(nearest, max(a - b / 2 for a, b in zip(local, block.size_m, strict=True)))
    for ball in world.balls:
        to = np.subtract(point_m, ball.centre_m)
        nearest = min(nearest, float(np.sqrt(to @ to)) - ball.radius_m)
    for post in world.posts:
        side = float(np.hypot(x - post.base_m[0], y - post.base_m[1])) - post.radius_m
        nearest = min(nearest, max(side, abs(z - post.base_m[2] - post.height_m / 2) - post.height_m / 2))
    return nearest


def first_pose(world: World, rng: np.random.Generator) -> Pose:
    """Draw a pose anywhere in the world's stand."""
    stand = world.stand
    low, high = np.log(stand.height_m)
    height = float(np.exp(rng.uniform(low, high)))
    at = np.append(rng.uniform(stand.low_m, stand.high_m), height)
    roll = float(np.clip(rng.normal(0.0, 8.0), -20.0, 20.0))
    yaw, pitch = float(rng.uniform(-180, 180)), float(rng.uniform(*stand.pitch_deg))
    if world.things and rng.random() < AIMED:
        thing = world.things[int(rng.integers(len(world.things)))]
        east, north, up = np.subtract(thing.centre_m, at)
        yaw = float(np.rad2deg(np.arctan2(north, east)) + rng.normal(0.0, 15.0))
        pitch = float(np.rad2deg(np.arctan2(up, np.hypot(east, north))) + rng.normal(0.0, 12.0))
    return Pose(at, yaw, float(np.clip(pitch, *stand.pitch_deg)), roll)


def next_pose(world: World, first: Pose, camera: Camera, rng: np.random.Generator) -> Pose:
    """Draw a pose near `first`: moved by the stand's step, turned by less than half the field of view."""
    stand = world.stand
    way = rng.normal(size=3) * [1.0, 1.0, 0.35]
    step = way / np.linalg.norm(way) * rng.uniform(*stand.step_m)
    low = np.array([*stand.low_m, stand.height_m[0]])
    high = np.array([*stand.high_m, stand.height_m[1]])
    at = np.clip(first.position_m + step, low, high)
    half_view = np.rad2deg(np.arctan(camera.width_px / 2 / camera.fx_px))
    turn = min(TURN_DEG, 0.8 * half_view) * rng.uniform(-1, 1)
    pitch = float(np.clip(first.pitch_deg + rng.uniform(-8, 8), -50, 30))
    roll = float(np.clip(first.roll_deg + rng.uniform(-8, 8), -25, 25))
    return Pose(at, first.yaw_deg + float(turn), pitch, roll)


def worth_seeing(packed: PackedWorld, traced: Traced, far_m: float) -> bool:
    """Tell whether the view is neither mostly sky, nor pressed against something, nor a single surface.

    Every fourth row and column is enough to tell.
    """
    surface, inverse = traced.surface[::4, ::4], traced.inverse_depth[::4, ::4]
    known = ~packed.is_sky[surface] & (inverse >= 1.0 / far_m)
    if known.mean() < 1.0 - MAX_UNKNOWN or (inverse > 1.0 / CLOSE_M).mean() > MAX_CLOSE:
        return False
    return bool(np.bincount(surface[known].astype(np.int64)).max() < MAX_ONE_SURFACE * known.size)


def overlap(
    depth_m: Float32Array,
    other_m: Float32Array,
    camera: Camera,
    world_from_cam: Float64Array,
    world_from_other: Float64Array,
) -> float:
    """Return the share of the known pixels of one view that the other sees too, not occluded."""
    v, u = np.mgrid[4 : camera.height_px : 10, 4 : camera.width_px : 10]
    z = depth_m[v, u]
    v, u, z = (part[np.isfinite(z)] for part in (v, u, z))
    rays = [(u + 0.5 - camera.cx_px) / camera.fx_px, (v + 0.5 - camera.cy_px) / camera.fy_px, np.ones(len(z))]
    points = (np.stack(rays, 1) * z[:, None]) @ world_from_cam[:3, :3].T + world_from_cam[:3, 3]
    x, y, ahead = ((points - world_from_other[:3, 3]) @ world_from_other[:3, :3]).T
    front = ahead > 0.1
    safe = np.where(front, ahead, 1.0)
    column = np.floor(x / safe * camera.fx_px + camera.cx_px)
    row = np.floor(y / safe * camera.fy_px + camera.cy_px)
    inside = front & (column >= 0) & (column < camera.width_px) & (row >= 0) & (row < camera.height_px)
    found = other_m[row[inside].astype(int), column[inside].astype(int)]
    return float((np.abs(found / ahead[inside] - 1) < 0.05).sum() / max(len(z), 1))


@dataclass(frozen=True, slots=True)
class Look:
    """A pose that was kept, and what is seen from it."""

    world_from_cam: Float64Array
    traced: Traced
    depth_m: Float32Array


def look_around(
    packed: PackedWorld, camera: Camera, count: int, far_m: float, rng: np.random.Generator
) -> list[Look] | None:
    """Return `count` views, the later ones overlapping the first; None where the world offers none in 60 tries."""
    kept: list[Look] = []
    first: Pose | None = None
    for _ in range(40 + 20 * count):
        pose = next_pose(packed.world, first, camera, rng) if first else first_pose(packed.world, rng)
        if clear_of(packed.world, pose.position_m) < CLEARANCE_M:
            continue
        world_from_cam = pose.world_from_cam()
        traced = trace(packed, camera, world_from_cam, far_m)
        if not worth_seeing(packed, traced, far_m):
            continue
        depth = depth_of(packed, traced, far_m)
        if first and overlap(kept[0].depth_m, depth, camera, kept[0].world_from_cam, world_from_cam) < MIN_OVERLAP:
            continue
        first = first or pose
        kept.append(Look(world_from_cam, traced, depth))
        if len(kept) == count:
            return kept
    return None
