"""Where annotated objects were between two key frames, and which points lie in them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vlm3data.formats.nuscenes.tables import Tables, drop_where_wrong
from vlm3data.geometry.quaternion import pose_from_quaternion
from vlm3data.types import Float64Array


def boxes_at(tables: Tables, sample: int, time_us: int) -> tuple[Float64Array, Float64Array]:
    """Return the poses (m, 4, 4), global, and sizes (m, 3) of what is annotated around `time_us`.

    `sample` is any sample of the scene. An object that the key frames before and after both have is interpolated;
    one that only one of them has stays where that one has it. Raises Drop where one of their boxes is none.
    """
    scene = int(np.searchsorted(tables.scene_first, sample, side="right")) - 1
    first, end = tables.scene_first[scene], tables.scene_first[scene + 1]
    after = int(np.clip(np.searchsorted(tables.sample_us[first:end], time_us) + first, first, end - 1))
    before = max(after - 1, int(first)) if tables.sample_us[after] > time_us else after
    for key in (before, after):
        drop_where_wrong(tables.box_problem, key)
    earlier, later = (slice(tables.box_first[key], tables.box_first[key + 1]) for key in (before, after))
    old, new = tables.box[earlier], tables.box[later]
    _, in_old, in_new = np.intersect1d(tables.box_instance[earlier], tables.box_instance[later], return_indices=True)
    span_us = max(int(tables.sample_us[after] - tables.sample_us[before]), 1)
    share = float(np.clip((time_us - tables.sample_us[before]) / span_us, 0, 1))
    moved = _between(old[in_old], new[in_new], share)
    boxes = np.concatenate([moved, np.delete(old, in_old, axis=0), np.delete(new, in_new, axis=0)])
    return pose_from_quaternion(boxes[:, 6:], boxes[:, :3]), boxes[:, 3:6]


def inside_any(points_m: Float64Array, a_from_box: Float64Array, size_m: Float64Array) -> npt.NDArray[np.bool_]:
    """Return which of the points (3, n) lie in at least one of the boxes (m, 4, 4) of size (m, 3)."""
    inside = np.zeros(points_m.shape[1], bool)
    for pose, half_m in zip(a_from_box, size_m / 2, strict=True):
        reach_m = np.linalg.norm(half_m)
        near = np.flatnonzero((np.abs(points_m[:2] - pose[:2, 3:]) <= reach_m).all(axis=0))
        in_box = pose[:3, :3].T @ (points_m[:, near] - pose[:3, 3:])
        inside[near[(np.abs(in_box) <= half_m[:, None]).all(axis=0)]] = True
    return inside


def _between(old: Float64Array, new: Float64Array, share: float) -> Float64Array:
    """Return boxes (m, 10) on the way from `old` to `new`; small turns, so that a straight line between will do."""
    same_half = np.where((old[:, 6:] * new[:, 6:]).sum(axis=1, keepdims=True) < 0, -1.0, 1.0)
    target = np.concatenate([new[:, :6], new[:, 6:] * same_half], axis=1)
    return old + share * (target - old)
