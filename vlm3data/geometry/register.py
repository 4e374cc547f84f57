"""Moving a depth map into another camera's place."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from vlm3data.geometry.camera import project, unproject
from vlm3data.types import Camera, Float32Array

SHOWS_THROUGH = 0.05
"""A point behind its neighbours by more than this share of its depth is seen through a gap between their samples."""


def register_depth(
    depth_m: Float32Array, depth_camera: Camera, target_from_depth: npt.ArrayLike, target_camera: Camera
) -> Float32Array:
    """Return the z-depth (h, w) that `target_camera` sees of a z-depth map (h, w) of `depth_camera`.

    Every known pixel becomes a point and is drawn where the target sees it, the nearest winning. Samples of a
    surface leave gaps, through which what lies behind may show; such pixels, and pixels that nothing falls into,
    are NaN. Only whole pixels are hit: a value is good to half a pixel of the target.
    """
    v, u = np.nonzero(np.isfinite(depth_m))
    points = unproject(depth_camera, np.stack([u, v], axis=1) + 0.5, depth_m[v, u])
    pose = np.asarray(target_from_depth, float)
    points = points @ pose[:3, :3].T + pose[:3, 3]
    points = points[points[:, 2] > 0]
    cells = np.floor(project(target_camera, points))
    size = (target_camera.width_px, target_camera.height_px)
    inside = ((cells >= 0) & (cells < size)).all(axis=1)
    column, row = cells[inside].astype(np.int64).T
    z_m = points[inside, 2].astype(np.float32)
    far_first = np.argsort(-z_m, kind="stable")
    seen = np.full((target_camera.height_px, target_camera.width_px), np.inf, np.float32)
    seen[row[far_first], column[far_first]] = z_m[far_first]
    nearest_around = np.asarray(cv2.erode(seen, np.ones((3, 3), np.uint8), borderValue=np.inf))
    seen[~(seen <= nearest_around * (1 + SHOWS_THROUGH))] = np.nan
    seen[np.isinf(seen)] = np.nan
    return seen
