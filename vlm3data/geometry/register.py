"""Moving a depth map into another camera's place."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from vlm3data.geometry.camera import project, unproject
from vlm3data.types import Camera, Float32Array, Float64Array

EDGE = 0.05
"""Neighbours that differ by more than this share of the depth belong to two surfaces."""


def register_depth(
    depth_m: Float32Array, depth_camera: Camera, target_from_depth: npt.ArrayLike, target_camera: Camera
) -> Float32Array:
    """Return the z-depth (h, w) that `target_camera` sees of a z-depth map (h, w) of `depth_camera`.

    Every known pixel becomes a point and is drawn where the target sees it, the nearest winning. What nothing falls
    into is NaN, and so are the pixels at an edge between two surfaces: only whole pixels are hit, so that which of
    the two is seen at their centres is not known, and between the samples of the nearer one the other shows through.
    Elsewhere a point's depth is carried over to the centre of its pixel along the surface that its neighbours show.
    """
    v, u = np.nonzero(np.isfinite(depth_m))
    points = unproject(depth_camera, np.stack([u, v], axis=1) + 0.5, depth_m[v, u])
    pose = np.asarray(target_from_depth, float)
    points = points @ pose[:3, :3].T + pose[:3, 3]
    xy = project(target_camera, points)
    cells = np.floor(xy)
    size = (target_camera.width_px, target_camera.height_px)
    with np.errstate(invalid="ignore"):
        inside = ((cells >= 0) & (cells < size)).all(axis=1)  # NaN, behind the target, is not
    column, row = cells[inside].astype(np.int64).T
    to_centre_px = (cells - xy)[inside] + 0.5
    inverse = 1 / points[inside, 2] + (_slopes(depth_m, depth_camera, target_camera)[v, u][inside] * to_centre_px).sum(
        1
    )
    z_m = (1 / inverse).astype(np.float32)
    far_first = np.argsort(-z_m, kind="stable")
    seen = np.full((target_camera.height_px, target_camera.width_px), np.inf, np.float32)
    seen[row[far_first], column[far_first]] = z_m[far_first]
    around = np.ones((3, 3), np.uint8)
    nearest = np.asarray(cv2.erode(seen, around, borderValue=np.inf))
    hit = np.isfinite(seen)
    farthest = np.asarray(cv2.dilate(np.where(hit, seen, 0), around, borderValue=0))
    seen[~hit | (farthest > nearest * (1 + EDGE))] = np.nan
    return seen


def _slopes(depth_m: Float32Array, depth_camera: Camera, target_camera: Camera) -> Float64Array:
    """Return by how much the inverse depth grows a target pixel to the right and down, (h, w, 2), at each depth pixel.

    On a plane the inverse depth is affine in the pixel. 0 where a neighbour is unknown or, by `EDGE`, of another
    surface. The two cameras are taken to look nearly the same way.
    """
    inverse = 1 / depth_m.astype(np.float64)
    down, right = np.gradient(inverse)
    slopes = np.stack(
        [right * depth_camera.fx_px / target_camera.fx_px, down * depth_camera.fy_px / target_camera.fy_px], -1
    )
    with np.errstate(invalid="ignore"):
        return np.where(np.abs(slopes) < EDGE / 2 * inverse[..., None], slopes, 0.0)
