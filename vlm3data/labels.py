"""Depth labels on their way from the source's pixels to the unified image: checked, counted, moved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from vlm3data.geometry import convert_depth, move_pixels
from vlm3data.types import Camera, DepthKind, DepthPoints, Float32Array

CANDIDATES = 1024
"""How many pixels of a dense depth map are looked at: far more than are stored, far fewer than there are."""


def sample_dense(depth_m: Float32Array, rng: np.random.Generator) -> DepthPoints:
    """Return up to `CANDIDATES` pixels of a (h, w) depth map; NaN means unknown and is never chosen."""
    known = np.flatnonzero(~np.isnan(depth_m))
    chosen = rng.choice(known, size=min(CANDIDATES, len(known)), replace=False, shuffle=False)
    v, u = np.divmod(np.sort(chosen), depth_m.shape[1])
    # the shortest decimal that is this float32: 2.7 in the labels, not 2.700000047683716
    values = [float(str(value)) for value in depth_m[v, u]]
    return DepthPoints(np.stack([u, v], axis=1), np.array(values, np.float64))


def sound(
    points: DepthPoints, camera: Camera, depth_range_m: tuple[float, float], dropped: Counter[str]
) -> DepthPoints:
    """Return the points that can be labels; each other one is counted in `dropped` by what is wrong with it."""
    u, v = points.pixel_px.T
    depth_m = points.depth_m
    low_m, high_m = depth_range_m
    faults: Mapping[str, Any] = {
        "pixel_outside_image": (u < 0) | (v < 0) | (u >= camera.width_px) | (v >= camera.height_px),
        "depth_not_finite": ~np.isfinite(depth_m),
        "depth_not_positive": depth_m <= 0,
        "depth_out_of_range": (depth_m < low_m) | (depth_m > high_m),
    }
    return _without(points, faults, dropped)


def moved(
    points: DepthPoints,
    source_camera: Camera,
    unified: Camera,
    aligned: Camera,
    scale: tuple[float, float],
    crop_xy_px: tuple[int, int],
    cut: Counter[str],
    *,
    published: bool = False,
) -> DepthPoints:
    """Return the points in the unified image, the nearest surface only where several fall into one pixel.

    `unified` is the camera before alignment: padding beyond its size shows nothing and takes no label. What
    the processing itself removes is counted in `cut`.
    """
    pixel_px = move_pixels(points.pixel_px, source_camera, scale, crop_xy_px, published=published)
    offset = np.array(crop_xy_px)
    low = np.maximum(0, -offset)
    high = np.minimum((aligned.width_px, aligned.height_px), np.array((unified.width_px, unified.height_px)) - offset)
    outside = ((pixel_px < low) | (pixel_px >= high)).any(axis=1)
    inside = _without(DepthPoints(pixel_px, points.depth_m), {"cropped": outside}, cut)
    flat = inside.pixel_px[:, 1] * aligned.width_px + inside.pixel_px[:, 0]
    if len(np.unique(flat)) == len(flat):
        return inside
    nearest_first = np.lexsort((inside.depth_m, flat))
    again = np.zeros(len(flat), bool)
    again[nearest_first[1:]] = np.diff(flat[nearest_first]) == 0
    return _without(inside, {"same_pixel": again}, cut)


def of_kind(points: DepthPoints, camera: Camera, have: DepthKind, want: DepthKind) -> DepthPoints:
    """Return the points with depths of kind `want`; `camera` is the one their pixels belong to."""
    if have == want:
        return points
    centres = points.pixel_px + 0.5
    return DepthPoints(points.pixel_px, convert_depth(points.depth_m, camera, centres, have, want))


def _without(points: DepthPoints, faults: Mapping[str, Any], counts: Counter[str]) -> DepthPoints:
    good = np.ones(len(points.depth_m), bool)
    for reason, faulty in faults.items():
        if not faulty.any():
            continue
        if number := int((faulty & good).sum()):  # a point is counted once, for the first thing wrong with it
            counts[reason] += number
        good &= ~faulty
    if good.all():
        return points
    return DepthPoints(points.pixel_px[good], points.depth_m[good])
