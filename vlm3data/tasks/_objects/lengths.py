"""Lengths of and between objects, and clock directions; which of them are clear enough to be asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from vlm3data.geometry.boxes import gap_between, inner_reach_m, reach_m
from vlm3data.tasks._objects.measures import MIN_APART_M, Measures

MIN_SIZE_M = 0.05
"""Smaller widths and heights are not asked for."""
MIN_OF_RANGE = 0.01
"""Lengths shorter than this share of how far away they are (10 px at f = 1000 px) are not asked for."""
MAX_ROUND = 1.2
"""Nor those that would differ by more than this factor if the objects were the ellipsoids inside their boxes."""
MIN_BEARING = 0.5
"""No direction is asked for where the centres are closer, seen from above, than this share of their half diagonals."""


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
