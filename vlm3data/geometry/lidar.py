"""From a LiDAR's points to the depth labels of one image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vlm3data.types import Camera, DepthPoints, Float64Array, Int64Array


def project_points(
    camera: Camera, cam_from_lidar: Float64Array, points_m: Float64Array, margin: tuple[float, float] = (0.0, 0.0)
) -> tuple[Int64Array, Float64Array, Float64Array]:
    """Return which of the points (3, n) fall into the image of a pinhole, their pixels (m, 2) and z-depths (m,).

    `margin` widens the image by so many focal lengths on both sides, horizontally and vertically.
    """
    rotation, translation = cam_from_lidar[:3, :3], cam_from_lidar[:3, 3:]
    beside, above = margin
    left = -camera.cx_px / camera.fx_px - beside
    right = (camera.width_px - camera.cx_px) / camera.fx_px + beside
    top_px, bottom_px = -above * camera.fy_px, camera.height_px + above * camera.fy_px
    x_m, z_m = rotation[[0, 2]] @ points_m + translation[[0, 2]]
    # Most points go here, before anything else is computed of them.
    ahead = np.flatnonzero((z_m > 0) & (x_m >= left * z_m) & (x_m < right * z_m))
    x_m, z_m = x_m[ahead], z_m[ahead]
    y_m = rotation[1] @ np.take(points_m, ahead, axis=1) + translation[1]
    with np.errstate(over="ignore"):  # a point next to the camera's plane
        x_px, y_px = x_m / z_m * camera.fx_px + camera.cx_px, y_m / z_m * camera.fy_px + camera.cy_px
    # x once more: a division may round over the edge.
    inside = (x_px >= -beside * camera.fx_px) & (x_px < camera.width_px + beside * camera.fx_px)
    inside = np.flatnonzero(inside & (y_px >= top_px) & (y_px < bottom_px))
    return ahead[inside], np.stack([x_px[inside], y_px[inside]], axis=1), z_m[inside]


def nearest_per_pixel(xy_px: npt.ArrayLike, depth_m: Float64Array, width_px: int) -> DepthPoints:
    """Return the pixels that the continuous `xy_px` (n, 2) fall into, each once, with the smallest depth in it."""
    pixel_px = np.floor(np.asarray(xy_px, float)).astype(np.int64)
    flat = pixel_px[:, 1] * width_px + pixel_px[:, 0]
    # One sort by pixel and by depth within it, which is less than 1 here; two sorts take twice as long.
    # Stable, because it is twice as fast for points that a scanner has put nearly in order.
    order = np.argsort(flat + depth_m / (2 * depth_m.max(initial=1.0)), kind="stable")
    ordered = flat[order]
    first = np.ones(len(order), bool)
    first[1:] = ordered[1:] != ordered[:-1]
    nearest = order[first]
    return DepthPoints(np.take(pixel_px, nearest, axis=0), depth_m[nearest])
