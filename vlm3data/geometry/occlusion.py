"""Which points of a LiDAR a camera beside it can see.

A LiDAR stands higher than the cameras and looks over things: the street behind a car, seen over its roof, projects
onto the car's door. As a label of that pixel it is wrong by any factor. Which points these are can be told only from
the other points, a few hundred of which lie on the things that hide them.

The idea: every point Q stands for a patch of surface, as far as its neighbours in the scan are away. Seen from the
camera, a point P that falls into Q's patch and lies clearly behind it is hidden. How far away the patch is at P
follows from the slope between Q and its neighbours above and below, so that ground, which runs away under a flat
angle, does not hide itself. Of the two slopes the gentler one counts, and none where they contradict each other:
beyond the edge of a thing the next ring lies far behind, and that is no slope.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vlm3data.types import Float64Array, Int64Array

HDL_32E = (2 * np.pi / 1084, np.deg2rad(41.34 / 31))
"""Radians between neighbouring returns of nuScenes' LiDAR: 1,084 firings a turn; 32 rings from -30.67 to 10.67 deg."""

PATCH = (1.0, 0.9)
"""Half the size of a patch, in steps of the scan: across, so that it meets its neighbours' middles; and up, where the
last ring on a thing lies up to a whole step below its edge."""
BEHIND = 0.06
"""A point is hidden if its inverse distance is this share less than the patch's."""
_BUCKET = 1.25
"""Steps; a patch reaches no farther than this, so that the nine buckets around a point hold all that may hide it."""


class Sweep(NamedTuple):
    """One turn of a LiDAR, or a part of it; all sweeps in one frame, whose z points up."""

    points_m: npt.NDArray[np.floating]
    """(n, 3)"""
    ring: npt.NDArray[np.integer]
    """(n,) The number of the beam, counted upwards."""
    origin_m: npt.ArrayLike
    """(3,) Where the LiDAR was."""


def visible(
    sweeps: Sequence[Sweep], viewpoint_m: npt.ArrayLike, step_rad: tuple[float, float] = HDL_32E
) -> npt.NDArray[np.bool_]:
    """Return which of all the sweeps' points (n,), one after the other, are seen from `viewpoint_m` (3,).

    `step_rad` is the angle between neighbouring returns, around and up. Sweeps of other moments hide each other's
    points as well. What is hidden by something that has no return of its own cannot be known.
    """
    viewpoint_m = np.asarray(viewpoint_m, float)
    middle = sum(((sweep.points_m[:, :2] - viewpoint_m[:2]).sum(axis=0) for sweep in sweeps), np.zeros(2))
    length_m = float(np.linalg.norm(middle))
    ahead = middle / length_m if length_m else np.array([1.0, 0.0])  # on all sides alike, any direction will do
    parts = (_patches(sweep, viewpoint_m, ahead, step_rad) for sweep in sweeps)
    patches = _Patches(*map(np.concatenate, zip(*parts, strict=True)))
    hidden = np.zeros(len(patches.inverse), bool)
    behind, before = _near_pairs(patches.around, patches.up, patches.inverse)
    farther = patches.inverse[behind] < patches.inverse[before] * (1 - BEHIND / 2)
    behind, before = behind[farther], before[farther]
    across = np.abs(patches.around[behind] - patches.around[before])
    above = patches.up[behind] - patches.up[before]
    reach = patches.stretch[before]
    expected = patches.inverse[before] + patches.slope[before] * above
    covered = (across < PATCH[0] * reach) & (np.abs(above) < PATCH[1] * reach)
    hidden[behind[covered & (patches.inverse[behind] < expected * (1 - BEHIND))]] = True
    return ~hidden


class _Patches(NamedTuple):
    """The points as the camera sees them, in steps of the scan."""

    around: Float64Array
    up: Float64Array
    inverse: Float64Array
    """1/m, of the distance from the camera."""
    slope: Float64Array
    """Change of `inverse` a step up."""
    stretch: Float64Array
    """How much larger a step on this surface looks from the camera than from the LiDAR."""


def _patches(sweep: Sweep, viewpoint_m: Float64Array, ahead: Float64Array, step_rad: tuple[float, float]) -> _Patches:
    """`ahead` (2,) is where the points lie: angles are counted from it, so that their seam is behind the camera."""
    forward, left, up_m = _turned(sweep.points_m, viewpoint_m, ahead)
    level = forward * forward + left * left
    inverse = 1.0 / np.sqrt(np.maximum(level + up_m * up_m, 1e-12))
    around = np.arctan2(left, forward) / step_rad[0]
    up = np.arcsin(up_m * inverse) / step_rad[1]
    forward, left, up_m = _turned(sweep.points_m, np.asarray(sweep.origin_m), ahead)
    column = np.rint(np.arctan2(left, forward) / step_rad[0]).astype(np.int64)
    below, above = _neighbours(sweep.ring.astype(np.int64), column)
    slope = _gentler(_slope(up, inverse, below), _slope(up, inverse, above))
    lidar_m = np.sqrt(forward * forward + left * left + up_m * up_m)
    # Across and up: at most what the buckets around hold.
    stretch = np.minimum(lidar_m * inverse, _BUCKET / max(PATCH))
    return _Patches(around, up, inverse, slope, stretch)


def _turned(
    points_m: npt.NDArray[np.floating], origin_m: Float64Array, ahead: Float64Array
) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Return the points seen from `origin_m`, in metres `ahead`, to the left of that, and up."""
    x, y, z = (points_m[:, axis] - origin_m[axis] for axis in range(3))
    return ahead[0] * x + ahead[1] * y, ahead[0] * y - ahead[1] * x, z


def _neighbours(ring: Int64Array, column: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Return, a point, the number of the point in the ring below and in the ring above in its column; -1: none."""
    column = column - column.min(initial=0)
    ring = ring - ring.min(initial=0)
    table = np.full((int(ring.max(initial=0)) + 3, int(column.max(initial=0)) + 1), -1, np.int64)
    table[ring + 1, column] = np.arange(len(ring))
    return table[ring, column], table[ring + 2, column]


def _slope(up: Float64Array, inverse: Float64Array, neighbour: Int64Array) -> Float64Array:
    """Return the change of `inverse` a step towards `neighbour`; NaN where there is none, or it is level."""
    step = up[neighbour] - up
    known = (neighbour >= 0) & (np.abs(step) > 0.01)
    return np.where(known, (inverse[neighbour] - inverse) / np.where(known, step, 1.0), np.nan)


def _gentler(one: Float64Array, other: Float64Array) -> Float64Array:
    """Return the smaller of two slopes of one sign, 0 where they contradict; the known one where one is NaN."""
    gentler = np.where(np.abs(one) < np.abs(other), one, other)
    both = np.where(one * other > 0, gentler, 0.0)
    known = np.where(np.isnan(one), other, np.where(np.isnan(other), one, both))
    return np.nan_to_num(known, nan=0.0)


def _near_pairs(around: Float64Array, up: Float64Array, inverse: Float64Array) -> tuple[Int64Array, Int64Array]:
    """Return pairs (i, j) of points whose buckets touch, of all i that something there is clearly nearer than."""
    column = np.floor(around / _BUCKET).astype(np.int64)
    row = np.floor(up / _BUCKET).astype(np.int64)
    column -= column.min(initial=0) - 1
    row -= row.min(initial=0) - 1
    height, width = int(row.max(initial=0)) + 2, int(column.max(initial=0)) + 2
    bucket = row * width + column
    order = np.argsort(bucket, kind="stable")
    first_of = np.concatenate([[0], np.cumsum(np.bincount(bucket, minlength=height * width))])
    behind = np.flatnonzero(inverse < _nearest_around(bucket, inverse, (height, width)) * (1 - BEHIND / 2))
    first, second = [], []
    for beside in (-width, 0, width):
        # Three buckets side by side follow each other in the order.
        start, end = first_of[bucket[behind] + beside - 1], first_of[bucket[behind] + beside + 2]
        count = end - start
        first.append(np.repeat(behind, count))
        place = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
        second.append(order[np.repeat(start, count) + place])
    return np.concatenate(first), np.concatenate(second)


def _nearest_around(bucket: Int64Array, inverse: Float64Array, size: tuple[int, int]) -> Float64Array:
    """Return, a point, the largest inverse distance in the nine buckets around it."""
    nearest = np.zeros(size[0] * size[1])
    np.maximum.at(nearest, bucket, inverse)
    grid = nearest.reshape(size)
    # The outermost buckets are empty.
    grid[:, 1:-1] = np.maximum(np.maximum(grid[:, :-2], grid[:, 1:-1]), grid[:, 2:])
    grid[1:-1] = np.maximum(np.maximum(grid[:-2], grid[1:-1]), grid[2:])
    return nearest[bucket]
