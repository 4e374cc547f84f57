"""What LIDAR_TOP saw around one sample: its key frame, and where asked for the sweeps before it, in one frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vlm3data.formats.nuscenes.boxes_in_time import boxes_at, inside_any
from vlm3data.formats.nuscenes.lidar import points_from_bytes
from vlm3data.formats.nuscenes.sensors import CHANNELS, LIDAR
from vlm3data.formats.nuscenes.tables import Tables, drop_where_wrong
from vlm3data.geometry import invert_pose
from vlm3data.geometry.quaternion import pose_from_quaternion
from vlm3data.types import Float64Array, Int64Array

GROWTH_M = 0.15
"""Annotated boxes are tight, and where they were between two key frames is interpolated: both cost this much."""


@dataclass(frozen=True, slots=True)
class Scan:
    """n points of k sweeps in the frame of the key frame's LiDAR: z up, metres. The key frame comes first."""

    points_m: Float64Array
    """(3, n)"""
    ring: npt.NDArray[np.int64]
    """(n,) which beam, counted upwards."""
    first: Int64Array
    """(k + 1) the first point of each sweep."""
    origin_m: Float64Array
    """(k, 3) where the LiDAR was."""


def read_scan(tables: Tables, read: Callable[[str], bytes], sample: int, sweeps: int = 0) -> Scan:
    """Return the scan of a sample; each sweep is moved by what the vehicle moved meanwhile.

    What lies in an annotated box is taken from the key frame alone: it may have moved by itself. Raises Drop for the
    first reading that cannot be used, whatever it is.
    """
    key = sample * len(CHANNELS) + LIDAR
    rows = [key, *_before(tables, sample, key, sweeps)]
    for row in rows:
        drop_where_wrong(tables.problem, row)
    poses = global_from_sensor(tables, np.array(rows))
    key_from_global = invert_pose(poses[0])
    parts, rings = [], []
    for row, global_from_lidar in zip(rows, poses, strict=True):
        name = str(tables.filename[row])
        points_m, ring = points_from_bytes(read(name), name)
        if row != key:
            points_m = global_from_lidar[:3, :3] @ points_m + global_from_lidar[:3, 3:]
            box_poses, size_m = boxes_at(tables, sample, int(tables.reading_us[row]))
            still = ~inside_any(points_m, box_poses, size_m + 2 * GROWTH_M)
            points_m = key_from_global[:3, :3] @ points_m[:, still] + key_from_global[:3, 3:]
            ring = ring[still]
        parts.append(points_m)
        rings.append(ring)
    return Scan(
        np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0],
        np.concatenate(rings),
        np.cumsum([0, *(len(ring) for ring in rings)]),
        (key_from_global @ poses)[:, :3, 3],
    )


def global_from_sensor(tables: Tables, rows: npt.NDArray[np.int64]) -> Float64Array:
    """Return the poses (m, 4, 4) of sensors at the readings `rows` (m); nonsense for those with a problem."""
    with np.errstate(invalid="ignore", over="ignore"):
        return pose_of(tables.global_from_ego[rows]) @ ego_from_sensor(tables, rows)


def ego_from_sensor(tables: Tables, rows: npt.NDArray[np.int64]) -> Float64Array:
    """Return where the sensors of the readings `rows` (m) sit on the vehicle (m, 4, 4)."""
    with np.errstate(invalid="ignore", over="ignore"):
        return pose_of(tables.ego_from_sensor[tables.calibration[rows]])


def pose_of(numbers: Float64Array) -> Float64Array:
    """Return poses (..., 4, 4) from (..., 7): quaternion and translation."""
    return pose_from_quaternion(numbers[..., :4], numbers[..., 4:])


def _before(tables: Tables, sample: int, key: int, count: int) -> list[int]:
    """Return the last `count` readings of LIDAR_TOP before the sample's, the latest first; fewer at a scene's start."""
    if not count:
        return []
    scene = int(np.searchsorted(tables.scene_first, sample, side="right")) - 1
    rows = tables.lidar[tables.lidar_first[scene] : tables.lidar_first[scene + 1]]
    earlier = rows[tables.reading_us[rows] < tables.reading_us[key]]
    return earlier[::-1][:count].tolist()
