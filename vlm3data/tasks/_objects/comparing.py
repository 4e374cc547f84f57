"""Which of two objects has clearly more of a quantity, and when that is not clear.

The quantities are those of SpatialRGPT's data pipeline, taken from the 3D boxes: sides and elevations of the centres,
depths of the nearest part, extents along x and y, volumes. Where a careful reader could understand a question in two
ways, it is asked only if both give the same answer:

- left and right: by the centres in space and by those of the 2D boxes;
- behind and in front: by the nearest part's depth, the centre's depth and the straight distance to the nearest part;
- big and small: by the volume of the boxes and by their diagonal (is a door bigger than a crate?);
- wide and tall: of the box and of the ellipsoid inside it, for what fills a box may be round.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from vlm3data.tasks._objects.measures import MIN_APART_M, Measures
from vlm3data.tasks._objects.regions import GRID

MIN_APART_OF_SIZE = 0.25
"""Centres do not differ where they are closer than this share of the two objects' mean extent along the same axis."""
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


def _larger(a: float, b: float, by: float, factor: float) -> int:
    """Return 1 where a is larger than b by both, -1 where b is larger than a, else 0."""
    least = max(min(a, b) + by, min(a, b) * factor)
    return _sign(a - b) * (max(a, b) >= least)


def _agreed(*signs: int) -> int:
    return signs[0] if len(set(signs)) == 1 else 0


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
