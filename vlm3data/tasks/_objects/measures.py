"""What is measured of one object: its place, extents and depth in the levelled camera frame.

That frame (`vlm3data.geometry.boxes`) has x to the camera's right, y down and z ahead, in metres.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vlm3data.geometry.boxes import corners, inner_reach_m, nearest_on_box, reach_m
from vlm3data.tasks._objects.regions import Region
from vlm3data.types import Float64Array

MIN_APART_M = 0.1
"""Closer than this, two places do not differ: annotators' boxes are no better."""


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
