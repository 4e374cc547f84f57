"""The upright box around points: its z axis stays vertical, its ground plan is the smallest rectangle."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from vlm3data.types import Float64Array


def upright_box(points_m: npt.ArrayLike) -> tuple[Float64Array, tuple[float, float, float]]:
    """Return (world_from_box (4, 4), size (x, y, z) in metres) around points (n, 3), n > 0, of a z-up world.

    The rectangle of least area around a convex outline lies along one of its edges (Freeman and Shapira 1975), so
    that every edge is tried. Of the four equal descriptions the one with the longer side along x and a yaw in
    [-90, 90) degrees is returned.
    """
    points = np.asarray(points_m, float)
    middle = points.mean(axis=0)
    plan = points[:, :2] - middle[:2]  # about 0, so that float32, which OpenCV wants, is good to micrometres
    outline = plan[np.ravel(cv2.convexHull(plan.astype(np.float32), returnPoints=False))]
    edges = np.roll(outline, -1, axis=0) - outline
    yaw = np.append(np.arctan2(edges[:, 1], edges[:, 0]), 0.0)
    axes = np.stack([np.stack([np.cos(yaw), np.sin(yaw)], 1), np.stack([-np.sin(yaw), np.cos(yaw)], 1)], 1)
    along = axes @ outline.T
    low, high = along.min(axis=2), along.max(axis=2)
    best = int(np.argmin(np.prod(high - low, axis=1)))
    x_axis, y_axis = axes[best]
    size_x, size_y = high[best] - low[best]
    centre = axes[best].T @ (low[best] + high[best]) / 2
    if size_y > size_x:
        (size_x, size_y), (x_axis, y_axis) = (size_y, size_x), (y_axis, -x_axis)
    if x_axis[0] < 0 or (x_axis[0] == 0 and x_axis[1] > 0):
        x_axis, y_axis = -x_axis, -y_axis
    bottom, top = points[:, 2].min(), points[:, 2].max()
    world_from_box = np.eye(4)
    world_from_box[:2, 0], world_from_box[:2, 1] = x_axis, y_axis
    world_from_box[:3, 3] = *(centre + middle[:2]), (bottom + top) / 2
    return world_from_box, (float(size_x), float(size_y), float(top - bottom))
