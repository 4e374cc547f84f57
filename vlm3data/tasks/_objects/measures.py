"""What is measured of objects, and when a comparison or a length is clear enough to be asked about.

All of it in the levelled camera frame (`vlm3data.geometry.boxes`): x to the camera's right, y down, z ahead, metres.
The quantities are those of SpatialRGPT's data pipeline, taken from the 3D boxes: sides and elevations of the centres,
depths of the nearest part, extents along x and y, volumes. Where a careful reader could understand a question in two
ways, it is asked only if both give the same answer:

- left and right: by the centres in space and by those of the 2D boxes;
- behind and in front: by the nearest part's depth, the centre's depth and the straight distance to the nearest part;
- big and small: by the volume of the boxes and by their diagonal (is a door bigger than a chair?);
- widths, heights, gaps: of the box and of the ellipsoid inside it, for what fills a box may be round.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from vlm3data.geometry.boxes import corners, gap_between, inner_reach_m, nearest_on_box, reach_m
from vlm3data.tasks._objects.regions import GRID, Region
from vlm3data.types import Float64Array

MIN_APART_M = 0.1
"""Closer than this, centres do not differ: annotators' boxes are no better."""
MIN_APART_OF_SIZE = 0.25
"""Nor where they are closer than this share of the two objects' mean extent along the same axis."""
MIN_APART_OF_VIEW = GRID // 50
"""Nor, for left and right, where the 2D centres are closer than this on the grid."""
MIN_DEEPER_M = 0.2
MIN_DEEPER = 1.1
"""An object is behind another where it is deeper by this length and by this factor."""
MIN_LARGER_M = 0.05
MIN_LARGER = 1.15
"""A width or height is larger where it is so by this length and by this factor."""
MIN_VOLUME = 2.0
"""A volume is larger where it is so by this factor: an ellipsoid fills pi / 6 of its box, so shapes cannot decide."""
MIN_SIZE_M = 0.05
MIN_OF_RANGE = 0.01
"""Lengths shorter than this share of how far away they are (10 px at f = 1000 px) are not asked for."""
MAX_ROUND = 1.2
"""Nor those that would differ by more than this factor if the objects were ellipsoids: a tenth to either side."""
MIN_BEARING = 0.5
"""No direction is asked for where the centres are closer, seen from above, than this share of their half diagonals."""


class Measures(NamedTuple):
    """One region in the levelled frame."""

    region: Region
    pose: Float64Array
    """level_from_box (4, 4)."""
    centre_m: Float64Array
    extent_m: Float64Array
    """(3,) of the box along x, y, z."""
    inner_extent_m: Float64Array
    """(3,) of the ellipsoid inside it."""
    nearest_z_m: float
    range_m: float
    """The straight distance from the camera to the box's nearest point."""
    across: float
    """Where the 2D box has its centre, from 0 at the left to `GRID`."""


def measure(region: Region, level_from_cam: Float64Array) -> Measures:
    """Return what is measured of one region; `level_from_cam` (4, 4) levels its camera."""
    pose, size_m = level_from_cam @ region.cam_from_box, region.size_m
    return Measures(
        region,
        pose,
        pose[:3, 3],
        2 * reach_m(pose, size_m, np.eye(3)),
        2 * inner_reach_m(pose, size_m, np.eye(3)),
        float(corners(pose, size_m)[:, 2].min()),
        float(np.linalg.norm(nearest_on_box(pose, size_m, np.zeros((1, 3))))),
        (region.box[0] + region.box[2]) / 2,
    )


def _side(a: Measures, b: Measures) -> int:
    """Tell whether a is to the right of b."""
    in_picture = a.across - b.across
    return _agreed(_centres(a, b, 0), _sign(in_picture) * (abs(in_picture) >= MIN_APART_OF_VIEW))


def _elevation(a: Measures, b: Measures) -> int:
    """Tell whether the centre of a is higher."""
    return -_centres(a, b, 1)


def _centres(a: Measures, b: Measures, axis: int) -> int:
    apart_m = float(a.centre_m[axis] - b.centre_m[axis])
    least_m = max(MIN_APART_M, MIN_APART_OF_SIZE * float(a.extent_m[axis] + b.extent_m[axis]) / 2)
    return _sign(apart_m) * (abs(apart_m) >= least_m)


def _depth(a: Measures, b: Measures) -> int:
    """Tell whether a is behind b."""
    if min(a.nearest_z_m, b.nearest_z_m) <= 0:
        return 0  # beside the camera or under it
    return _agreed(
        _larger(a.nearest_z_m, b.nearest_z_m, MIN_DEEPER_M, MIN_DEEPER),
        _sign(float(a.centre_m[2] - b.centre_m[2])),
        _sign(a.range_m - b.range_m),
    )


def _width(a: Measures, b: Measures) -> int:
    """Tell whether a reaches farther across the view."""
    return _extents(a, b, 0)


def _height(a: Measures, b: Measures) -> int:
    """Tell whether a is taller."""
    return _extents(a, b, 1)


def _extents(a: Measures, b: Measures, axis: int) -> int:
    """Compare a's extent with b's, whatever the shapes inside the boxes."""
    least_a, least_b = float(a.inner_extent_m[axis]), float(b.inner_extent_m[axis])
    most_a, most_b = float(a.extent_m[axis]), float(b.extent_m[axis])
    return _agreed(
        _larger(least_a, most_b, MIN_LARGER_M, MIN_LARGER), _larger(most_a, least_b, MIN_LARGER_M, MIN_LARGER)
    )


def _volume(a: Measures, b: Measures) -> int:
    """Tell whether a takes more space."""
    sizes = a.region.size_m, b.region.size_m
    return _agreed(
        _larger(math.prod(sizes[0]), math.prod(sizes[1]), 0.0, MIN_VOLUME),
        _sign(math.hypot(*sizes[0]) - math.hypot(*sizes[1])),
    )


COMPARE: dict[str, Callable[[Measures, Measures], int]] = {
    "side": _side,
    "elevation": _elevation,
    "width": _width,
    "volume": _volume,
    "depth": _depth,
    "height": _height,
}
"""1 where the first has clearly more of it, -1 where the second has, 0 where it is not clear."""


class Length(NamedTuple):
    """A length between or of regions."""

    length_m: float
    clear: bool
    """Whether it may be asked for."""


def _centre_distance(a: Measures, b: Measures, axis: int) -> Length:
    length_m = abs(float(a.centre_m[axis] - b.centre_m[axis]))
    return Length(length_m, length_m >= max(MIN_APART_M, MIN_OF_RANGE * max(a.range_m, b.range_m)))


def _horizontal(a: Measures, b: Measures) -> Length:
    """SpatialRGPT's horizontal distance: between the centres along the camera's left-right axis alone."""
    return _centre_distance(a, b, 0)


def _vertical(a: Measures, b: Measures) -> Length:
    return _centre_distance(a, b, 1)


def _gap(a: Measures, b: Measures) -> Length:
    """From surface to surface. The ellipsoids inside fall short of the boxes by `short_m` along the way."""
    gap = gap_between(a.pose, a.region.size_m, b.pose, b.region.size_m)
    if gap.distance_m < max(MIN_APART_M, MIN_OF_RANGE * max(a.range_m, b.range_m)):
        return Length(gap.distance_m, False)
    short_m = sum(
        float(reach_m(m.pose, m.region.size_m, gap.direction) - inner_reach_m(m.pose, m.region.size_m, gap.direction))
        for m in (a, b)
    )
    return Length(gap.distance_m, gap.distance_m + short_m <= MAX_ROUND * gap.distance_m)


def _extent(a: Measures, axis: int) -> Length:
    length_m, least_m = float(a.extent_m[axis]), float(a.inner_extent_m[axis])
    clear = length_m >= max(MIN_SIZE_M, MIN_OF_RANGE * a.range_m) and length_m <= MAX_ROUND * least_m
    return Length(length_m, clear)


LENGTHS: dict[str, Callable[..., Length]] = {
    "vertical": _vertical,
    "horizontal": _horizontal,
    "gap": _gap,
    "width": lambda a: _extent(a, 0),
    "height": lambda a: _extent(a, 1),
}


def hour_of(a: Measures, b: Measures) -> int | None:
    """Return the clock hour, 1 to 12, at which the centre of b lies from that of a, seen from above.

    12 is where the camera looks, 3 its right. None where the two nearly stand on the same spot. SpatialRGPT's
    pipeline takes whole hours anticlockwise of the direction, up to 30 degrees off; this is the nearest hour.
    """
    x_m, z_m = (float(b.centre_m[axis] - a.centre_m[axis]) for axis in (0, 2))
    half_diagonals_m = (math.hypot(m.extent_m[0], m.extent_m[2]) / 2 for m in (a, b))
    if math.hypot(x_m, z_m) < max(2 * MIN_APART_M, MIN_BEARING * sum(half_diagonals_m)):
        return None
    return round(math.degrees(math.atan2(x_m, z_m)) / 30) % 12 or 12


def _larger(a: float, b: float, by: float, factor: float) -> int:
    """Return 1 where a is larger than b by both, -1 where b is larger than a, else 0."""
    least = max(min(a, b) + by, min(a, b) * factor)
    return _sign(a - b) * (max(a, b) >= least)


def _agreed(*signs: int) -> int:
    return signs[0] if len(set(signs)) == 1 else 0


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
