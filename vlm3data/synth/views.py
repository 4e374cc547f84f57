"""Cameras and poses: drawn at random, and kept only where the picture is worth looking at."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from vlm3data.synth.packed import PackedWorld
from vlm3data.synth.screen import grid
from vlm3data.synth.trace import Traced, trace
from vlm3data.synth.world import World
from vlm3data.types import Camera, Float32Array, Float64Array

CLEARANCE_M = 0.3
MAX_UNKNOWN = 0.5
MAX_CLOSE = 0.1
CLOSE_M = 0.45
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
        yaw, pitch, roll = (math.radians(angle) for angle in (self.yaw_deg, self.pitch_deg, self.roll_deg))
        forward = np.array([math.cos(pitch) * math.cos(yaw), math.cos(pitch) * math.sin(yaw), math.sin(pitch)])
        right = np.array([math.sin(yaw), -math.cos(yaw), 0.0])
        down = np.array([math.sin(pitch) * math.cos(yaw), math.sin(pitch) * math.sin(yaw), -math.cos(pitch)])
        pose = np.eye(4)
        pose[:3, 0] = math.cos(roll) * right + math.sin(roll) * down
        pose[:3, 1] = math.cos(roll) * down - math.sin(roll) * right
        pose[:3, 2] = forward
        pose[:3, 3] = self.position_m
        return pose


def depth_of(traced: Traced, far_m: float) -> Float32Array:
    """Return (h, w) z-depth in metres, NaN for sky and beyond `far_m`."""
    depth = np.full_like(traced.inverse_depth, np.nan)
    np.reciprocal(traced.inverse_depth, out=depth, where=traced.inverse_depth >= 1.0 / far_m)
    return depth


def clear_of(packed: PackedWorld, point_m: Float64Array) -> float:
    """Return the metres to the nearest thing, or a little less beside edges; 0 or less inside one."""
    away = packed.normal @ point_m - packed.offset_m
    first, num_blocks = len(packed.world.planes), len(packed.world.blocks)
    nearest = min(away[:first].min(), away[first : first + 6 * num_blocks].reshape(-1, 6).max(1).min(initial=np.inf))
    to = point_m - packed.round_origin_m
    num_balls = len(packed.world.balls)
    balls = np.sqrt((to[:num_balls] ** 2).sum(1)) - packed.round_radius_m[:num_balls]
    beside = np.hypot(to[num_balls:, 0], to[num_balls:, 1]) - packed.round_radius_m[num_balls:]
    posts = np.maximum(beside, np.maximum(away[first + 6 * num_blocks :], -to[num_balls:, 2]))
    return float(min(nearest, balls.min(initial=np.inf), posts.min(initial=np.inf)))


def first_pose(world: World, rng: np.random.Generator) -> Pose:
    """Draw a pose anywhere in the world's stand."""
    stand = world.stand
    low, high = stand.height_m
    at = np.append(rng.uniform(stand.low_m, stand.high_m), low * (high / low) ** rng.random())
    roll = _within(rng.normal(0.0, 0.4 * stand.bank_deg), (-stand.bank_deg, stand.bank_deg))
    yaw, pitch = rng.uniform(-180, 180), rng.uniform(*stand.pitch_deg)
    if world.things and rng.random() < stand.aimed:
        thing = world.things[int(rng.integers(len(world.things)))]
        east, north, up = (thing.centre_m[i] - float(at[i]) for i in range(3))
        yaw = math.degrees(math.atan2(north, east)) + rng.normal(0.0, 15.0)
        pitch = math.degrees(math.atan2(up, math.hypot(east, north))) + rng.normal(0.0, 12.0)
    return Pose(at, yaw, _within(pitch, stand.pitch_deg), roll)


def next_pose(world: World, first: Pose, camera: Camera, rng: np.random.Generator) -> Pose:
    """Draw a pose near `first`: moved by the stand's step, turned by less than half the field of view."""
    stand = world.stand
    way = rng.normal(size=3) * [1.0, 1.0, 0.35]
    at = first.position_m + way * (rng.uniform(*stand.step_m) / math.hypot(*way))
    np.maximum(at, [*stand.low_m, stand.height_m[0]], out=at)
    np.minimum(at, [*stand.high_m, stand.height_m[1]], out=at)
    half_view = math.degrees(math.atan(camera.width_px / 2 / camera.fx_px))
    turn = min(TURN_DEG, 0.8 * half_view) * rng.uniform(-1, 1)
    tilt = 0.4 * stand.bank_deg
    pitch = _within(first.pitch_deg + rng.uniform(-tilt, tilt), (-50.0, 30.0))
    roll = _within(first.roll_deg + rng.uniform(-tilt, tilt), (-1.25 * stand.bank_deg, 1.25 * stand.bank_deg))
    return Pose(at, first.yaw_deg + turn, pitch, roll)


def _within(angle: float, bounds: tuple[float, float]) -> float:
    return min(max(angle, bounds[0]), bounds[1])


def worth_seeing(traced: Traced, largest: float) -> bool:
    """Tell whether the view is neither mostly sky, nor pressed against something, nor a single surface.

    `largest` is the share of the picture that one surface may fill.
    """
    known, total = traced.surface_px, traced.surface.size
    if known.sum() < (1.0 - MAX_UNKNOWN) * total or known.max() >= largest * total:
        return False
    return int(np.count_nonzero(traced.inverse_depth > 1.0 / CLOSE_M)) <= MAX_CLOSE * total


def overlap(
    depth_m: Float32Array,
    other_m: Float32Array,
    camera: Camera,
    world_from_cam: Float64Array,
    world_from_other: Float64Array,
) -> float:
    """Return the share of the known pixels of one view that the other sees too, not occluded."""
    x, y = grid(camera)
    z = depth_m[4::10, 4::10]
    points = np.stack([x[4::10] * z, y[4::10, None] * z, z], 2)[np.isfinite(z)]
    points = points @ world_from_cam[:3, :3].T + world_from_cam[:3, 3]
    x, y, ahead = ((points - world_from_other[:3, 3]) @ world_from_other[:3, :3]).T
    front = ahead > 0.1
    safe = np.where(front, ahead, 1.0)
    column = np.floor(x / safe * camera.fx_px + camera.cx_px)
    row = np.floor(y / safe * camera.fy_px + camera.cy_px)
    inside = front & (column >= 0) & (column < camera.width_px) & (row >= 0) & (row < camera.height_px)
    found = other_m[row[inside].astype(int), column[inside].astype(int)]
    return float((np.abs(found / ahead[inside] - 1) < 0.05).sum() / max(len(points), 1))


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
        if clear_of(packed, pose.position_m) < CLEARANCE_M:
            continue
        world_from_cam = pose.world_from_cam()
        traced = trace(packed, camera, world_from_cam, far_m)
        if not worth_seeing(traced, packed.world.stand.largest):
            continue
        depth = depth_of(traced, far_m)
        if first and overlap(kept[0].depth_m, depth, camera, kept[0].world_from_cam, world_from_cam) < MIN_OVERLAP:
            continue
        first = first or pose
        kept.append(Look(world_from_cam, traced, depth))
        if len(kept) == count:
            return kept
    return None
