"""Depth labels on their way from the source's pixels to the unified image: checked, counted, moved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from vlm3data.geometry import convert_depth, move_pixels, project, rays
from vlm3data.types import Camera, DepthKind, DepthPoints, Float32Array, Float64Array, Int64Array, Move

CANDIDATES = 1024
"""How many pixels of a dense depth map are looked at: far more than are stored, far fewer than there are."""
CELLS = 4
DEPTH_BINS = 8
STRATA = CELLS * CELLS * DEPTH_BINS
"""`spread` has 4 x 4 x 8 strata; in photographs 40 to 70 of them are occupied, as many as labels are stored."""


def sample_dense(depth_m: Float32Array, depth_camera: Camera, camera: Camera, rng: np.random.Generator) -> DepthPoints:
    """Return up to `CANDIDATES` pixels of a (h, w) depth map; NaN means unknown and is never chosen.

    The pixels are those of `camera`, the image's: where the depth map has a camera of its own, the ray through the
    centre of a depth pixel says which pixel of the image sees the same point. Those outside the image are left out.
    """
    known = np.flatnonzero(~np.isnan(depth_m))
    chosen = rng.choice(known, size=min(CANDIDATES, len(known)), replace=False, shuffle=False)
    v, u = np.divmod(np.sort(chosen), depth_m.shape[1])
    # the shortest decimal that is this float32: 2.7 in the labels, not 2.700000047683716
    values = np.array([float(str(value)) for value in depth_m[v, u]], np.float64)
    pixels = np.stack([u, v], axis=1)
    if depth_camera == camera:
        return DepthPoints(pixels, values)
    seen_at = np.floor(project(camera, rays(depth_camera, pixels + 0.5)))
    with np.errstate(invalid="ignore"):
        inside = ((seen_at >= 0) & (seen_at < (camera.width_px, camera.height_px))).all(axis=1)
    return DepthPoints(seen_at[inside].astype(np.int64), values[inside])


def spread(points: DepthPoints, size_px: tuple[int, int], count: int, rng: np.random.Generator) -> Int64Array:
    """Return the indices of `count` points (or all), spread over the image and over log-depth.

    The image has `CELLS` x `CELLS` cells, the depths of this image `DEPTH_BINS` bins of equal width in log-depth.
    Every occupied (cell, bin) gives one point before any gives a second: near ground, which most pixels show,
    does not crowd out what is far or small. The order is random within each such turn, and a smaller `count` gives
    the first of the same indices: what is stored holds every smaller choice.
    """
    if not len(points.depth_m):
        return np.empty(0, np.int64)
    column, row = (
        np.minimum(at * CELLS // size, CELLS - 1) for at, size in zip(points.pixel_px.T, size_px, strict=True)
    )
    logarithm = np.log(points.depth_m)
    low, high = logarithm.min(), logarithm.max()
    bin_ = np.minimum((logarithm - low) / max(high - low, 1e-9) * DEPTH_BINS, DEPTH_BINS - 1).astype(np.int64)
    # Of so few values a stable sort of small integers is many times as fast.
    stratum = ((bin_ * CELLS + row) * CELLS + column).astype(np.uint8)
    order = rng.permutation(len(stratum))
    shuffled = stratum[order]
    by_stratum = np.argsort(shuffled, kind="stable")
    sizes = np.bincount(stratum, minlength=STRATA)
    first_of = np.repeat(np.cumsum(sizes) - sizes, sizes)
    turn = np.empty(len(stratum), np.uint16 if len(stratum) < 1 << 16 else np.int64)
    turn[by_stratum] = np.arange(len(stratum)) - first_of
    return order[np.argsort(turn, kind="stable")[:count]]


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


def moved(points: DepthPoints, move: Move, cut: Counter[str]) -> tuple[DepthPoints, Int64Array]:
    """Return the points in the unified image, and which of `points` they are, in their order.

    Of several that fall into one pixel the nearest surface alone. What the processing itself removes is counted in
    `cut`.
    """
    pixel_px = move_pixels(points.pixel_px, move.source_camera, move.scale, move.crop_xy_px, published=move.published)
    kept = np.flatnonzero(in_sight(pixel_px, move))
    if len(kept) < len(pixel_px):
        cut["cropped"] += len(pixel_px) - len(kept)
    flat = (pixel_px[:, 1] * move.camera.width_px + pixel_px[:, 0])[kept]
    order = np.argsort(flat, kind="stable")  # of labels that are nearly in order, many times as fast
    ordered = flat[order]
    again = np.flatnonzero(ordered[1:] == ordered[:-1])
    if len(again):
        # Only what shares its pixel has to be sorted by depth, too.
        alone = np.ones(len(flat), bool)
        alone[order[again]] = alone[order[again + 1]] = False
        shared = np.flatnonzero(~alone)
        nearest_first = shared[np.lexsort((points.depth_m[kept[shared]], flat[shared]))]
        alone[nearest_first[np.diff(flat[nearest_first], prepend=-1) != 0]] = True
        cut["same_pixel"] += len(flat) - int(alone.sum())
        kept = kept[alone]
    return DepthPoints(np.take(pixel_px, kept, axis=0), points.depth_m[kept]), kept


def in_sight(xy_px: Int64Array | Float64Array, move: Move) -> npt.NDArray[np.bool_]:
    """Return which of the moved places (n, 2) lie in the image; padding shows nothing and takes no label."""
    (x, y), (left_px, above_px) = xy_px.T, move.crop_xy_px
    right_px = min(move.camera.width_px, move.unified.width_px - left_px)
    bottom_px = min(move.camera.height_px, move.unified.height_px - above_px)
    with np.errstate(invalid="ignore"):
        inside: npt.NDArray[np.bool_] = (x >= max(0, -left_px)) & (x < right_px)
        return inside & (y >= max(0, -above_px)) & (y < bottom_px)


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
    return DepthPoints(np.compress(good, points.pixel_px, axis=0), points.depth_m[good])
