"""A camera carried smoothly through a world, as somebody scanning a room carries it."""

from __future__ import annotations

import numpy as np

from vlm3data.synth.packed import PackedWorld
from vlm3data.synth.trace import trace
from vlm3data.synth.views import CLEARANCE_M, Pose, clear_of, first_pose, next_pose, worth_seeing
from vlm3data.types import Camera, Float64Array

FRAMES_PER_LEG = 12
"""Frames from one drawn pose to the next: neighbouring frames share nearly all they see."""
_CHECKS_PER_LEG = 6


def tour(
    packed: PackedWorld, camera: Camera, count: int, far_m: float, rng: np.random.Generator
) -> list[Float64Array] | None:
    """Return `count` poses (4, 4), world from camera, along a smooth path; None where the world has no place for one.

    The path never comes closer than `CLEARANCE_M` to anything. Only the poses that it is drawn through are known to
    be worth seeing, for which `camera` may be a small one.
    """
    stops: list[Pose] = []
    legs = -(-count // FRAMES_PER_LEG)
    for _ in range(200 + 40 * legs):
        if len(stops) == legs + 1:
            break
        pose = next_pose(packed.world, stops[-1], camera, rng) if stops else first_pose(packed.world, rng)
        way = [_between(stops[-1], pose, t) for t in np.linspace(0, 1, _CHECKS_PER_LEG)] if stops else [pose]
        if min(clear_of(packed, at.position_m) for at in way) < CLEARANCE_M:
            continue
        if worth_seeing(trace(packed, camera, pose.world_from_cam(), far_m), packed.world.stand.largest):
            stops.append(pose)
    if len(stops) <= legs:
        return None
    times = np.arange(count) / FRAMES_PER_LEG
    return [_between(stops[int(t)], stops[int(t) + 1], t % 1.0).world_from_cam() for t in times.tolist()]


def _between(a: Pose, b: Pose, t: float) -> Pose:
    """Return the pose at time `t` (0 to 1) of a straight way that starts and ends slowly."""
    s = t * t * (3 - 2 * t)
    turn = (b.yaw_deg - a.yaw_deg + 180.0) % 360.0 - 180.0
    return Pose(
        a.position_m + s * (b.position_m - a.position_m),
        a.yaw_deg + s * turn,
        a.pitch_deg + s * (b.pitch_deg - a.pitch_deg),
        a.roll_deg + s * (b.roll_deg - a.roll_deg),
    )
