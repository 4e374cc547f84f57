"""The LiDAR's files, `*.pcd.bin`: five little-endian float32 a point, x, y, z in metres, intensity, ring."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vlm3data.types import Drop, Float64Array, Int64Array

_VALUES = 5
MAX_RING = 255
"""Far more than any LiDAR has; nuScenes' has 32."""


def points_from_bytes(data: bytes, name: str) -> tuple[Float64Array, Int64Array]:
    """Return the points (3, n), metres, in the sensor's frame (z up), and their rings (n), counted upwards.

    Raises Drop, naming the file `name`: lidar_odd_size, lidar_empty, lidar_not_finite, lidar_bad_ring.
    """
    if len(data) % (4 * _VALUES):
        raise Drop("lidar_odd_size", f"{name}: {len(data)} bytes are no whole number of points of {4 * _VALUES}")
    if not data:
        raise Drop("lidar_empty", name)
    points = np.frombuffer(data, "<f4").reshape(-1, _VALUES)
    xyz_m, ring = np.ascontiguousarray(points[:, :3].T, np.float64), points[:, 4]
    if not np.isfinite(xyz_m).all():
        raise Drop("lidar_not_finite", f"{name}: {int((~np.isfinite(xyz_m)).any(axis=0).sum())} points")
    if not ((ring >= 0) & (ring <= MAX_RING)).all():
        raise Drop("lidar_bad_ring", name)
    return xyz_m, ring.astype(np.int64)


def points_to_bytes(xyz_m: npt.ArrayLike, intensity: npt.ArrayLike = 0.0, ring: npt.ArrayLike = 0.0) -> bytes:
    """Return the file of the points (n, 3), metres, with intensity (n) and ring (n)."""
    xyz = np.asarray(xyz_m, float)
    points = np.zeros((len(xyz), _VALUES), "<f4")
    points[:, :3], points[:, 3], points[:, 4] = xyz, intensity, ring
    return points.tobytes()
