"""How much of each of several objects a depth map shows, and how much of it something hides."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vlm3data.geometry.camera import project
from vlm3data.types import Camera, Float32Array, Float64Array, Int64Array

CELLS_ACROSS = 20
"""The picture is cut into this many cells across to tell the near side of an object from its far side."""


def seen_shares(
    points_m: npt.ArrayLike,
    owner: Int64Array,
    num_objects: int,
    depth_m: Float32Array,
    camera: Camera,
    depth_noise: tuple[float, float],
) -> Float64Array:
    """Return for each object the share (0 to 1) of its near side, as far as it is in the picture, that nothing hides.

    `points_m` (n, 3) lie on the objects' surfaces, in the axes of `camera`, whose z-depth map `depth_m` (h, w) is good
    to `depth_noise` (metres, share of the depth; added). A point is hidden where the map is nearer than it is. Where
    the map knows nothing, a point says nothing. 0 for an object of which no point at all agrees with the map.
    """
    points = np.asarray(points_m, float)
    xy = project(camera, points)
    size = (camera.width_px, camera.height_px)
    with np.errstate(invalid="ignore"):
        inside = np.flatnonzero(((xy >= 0) & (xy < size)).all(axis=1))  # NaN, behind the camera, is not
    column, row = xy[inside].astype(np.int64).T
    z_m, whose = points[inside, 2], owner[inside]
    cell_px = -(-camera.width_px // CELLS_ACROSS)
    cells_down = -(-camera.height_px // cell_px)
    cell = (whose * cells_down + row // cell_px) * CELLS_ACROSS + column // cell_px
    nearest = np.full(num_objects * cells_down * CELLS_ACROSS, np.inf)
    np.minimum.at(nearest, cell, z_m)
    gap_m = z_m - depth_m[row, column]
    within_m = depth_noise[0] + depth_noise[1] * z_m
    front = (z_m <= nearest[cell] + within_m) & ~np.isnan(gap_m)  # what lies deeper is the object's own far side
    of = [
        np.bincount(whose[front & some], minlength=num_objects)
        for some in (gap_m <= within_m, gap_m > within_m, np.abs(gap_m) <= within_m)
    ]
    clear, hidden, confirmed = of
    return np.where(confirmed > 0, clear / np.maximum(clear + hidden, 1), 0.0)
