"""The numbers behind the questions about two cameras, and which questions they support."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vlm3data.geometry import rays, relative_pose, rotation_angle_deg, yaw_pitch_roll_deg
from vlm3data.geometry.match import parallax_deg
from vlm3data.types import Cut, Float64Array, Held, SourceFacts, View

KINDS = ("rotation_angle", "euler", "direction", "distance")
MIN_BASELINE = 0.01
"""A camera that moved by less than this share of the scene's median depth moved in no direction that can be seen: at
f = 1000 px things shift by less than 10 px. Without depth maps the shift itself is taken, from shared tracks."""
MIN_DISTANCE_M = 0.05
"""Shorter ways are not asked for: two decimals would not say them, and poses are hardly better."""
MAX_PITCH_DEG = 85.0
"""Beyond it yaw and roll run into one another, and a small error of the pose makes large ones of both."""


def measure(views: Sequence[View], facts: SourceFacts) -> dict[str, Any]:
    """Return what is true of two views with poses, as JSON values; see the task for the fields."""
    one, other = views
    if one.world_from_cam is None or other.world_from_cam is None:
        raise ValueError(f"views {one.frame} and {other.frame} need poses")
    rotation, shift = relative_pose(one.world_from_cam, other.world_from_cam)
    return _numbers(rotation, shift, _moved(float(np.linalg.norm(shift)), views, facts), facts)


def measure_held(held: Held) -> dict[str, Any]:
    """Return the same of two views as a shard holds them with their matches; raises Cut: no_pose.

    How far things shift is taken from the matches, as it is from shared tracks.
    """
    first, second = held.world_from_cam
    if first is None or second is None:
        raise Cut("no_pose")
    rotation, shift = relative_pose(first, second)
    baseline = float(np.linalg.norm(shift))
    angle_deg = _parallax_deg(held, rotation)
    moved = baseline > 0 and angle_deg >= math.degrees(MIN_BASELINE) and baseline >= held.facts.depth_noise[0]
    return _numbers(rotation, shift, moved, held.facts)


def _parallax_deg(held: Held, rotation: Float64Array) -> float:
    """Return the median angle under which the stored matches see both cameras; NaN of none."""
    truths = [truth for task in held.stored for truth in held.truths(task) if "pixel2_px" in truth]
    if not truths:
        return math.nan
    one, other = held.cameras
    ray = rays(one, np.array([truth["pixel_px"] for truth in truths]) + 0.5) @ rotation
    there = rays(other, [truth["pixel2_px"] for truth in truths])
    angle = np.arctan2(np.linalg.norm(np.cross(ray, there), axis=1), np.sum(ray * there, axis=1))
    return float(np.degrees(np.median(angle)))


def _numbers(rotation: Float64Array, shift: Float64Array, moved: bool, facts: SourceFacts) -> dict[str, Any]:
    baseline = float(np.linalg.norm(shift))
    yaw_deg, pitch_deg, roll_deg = yaw_pitch_roll_deg(rotation).tolist()
    return {
        "rotation": rotation.tolist(),
        "rotation_angle_deg": rotation_angle_deg(rotation),
        "yaw_deg": yaw_deg,
        "pitch_deg": pitch_deg,
        "roll_deg": roll_deg,
        "translation_direction": (shift / baseline).tolist() if moved else None,
        "distance_m": baseline if facts.metric else None,
    }


def supported(truth: Mapping[str, Any]) -> list[str]:
    """Return the kinds of questions that these numbers answer clearly, in their order."""
    moved = truth["translation_direction"] is not None
    clear = {
        "rotation_angle": True,
        "euler": abs(truth["pitch_deg"]) <= MAX_PITCH_DEG,
        "direction": moved,
        "distance": moved and truth["distance_m"] is not None and truth["distance_m"] >= MIN_DISTANCE_M,
    }
    return [kind for kind in KINDS if clear[kind]]


def _moved(baseline: float, views: Sequence[View], facts: SourceFacts) -> bool:
    """Tell whether the camera moved so far that its direction means something; without any measure it did not."""
    depths = [view.depth_m[::4, ::4] for view in views if view.depth_m is not None]
    known = [depth_m[np.isfinite(depth_m)] for depth_m in depths]
    scene = [float(np.median(depth_m)) for depth_m in known if depth_m.size]
    if scene:
        return baseline >= max(MIN_BASELINE * min(scene), facts.depth_noise[0])
    if all(view.tracks is not None for view in views):
        return baseline > 0 and parallax_deg(*views) >= math.degrees(MIN_BASELINE)
    return facts.metric and baseline >= MIN_DISTANCE_M
