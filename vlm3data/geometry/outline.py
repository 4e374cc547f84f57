"""Where in an image a 3D box is seen: its outline, cut at the image's border, and the 2D box around that."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vlm3data.geometry.boxes import EDGES, corners
from vlm3data.geometry.camera import project
from vlm3data.types import Camera, Float64Array

NEAR_M = 0.05
"""What of a box is nearer to the camera's plane than this, or behind it, is cut away before projecting."""
_POINTS_PER_EDGE = 17
"""A lens bends edges: along each, so many points are projected."""

Polygon = list[tuple[float, float]]
"""Corners (x, y) in order around it."""


class BoxInImage(NamedTuple):
    """A 3D box as an image shows it."""

    box_px: tuple[float, float, float, float]
    """(x1, y1, x2, y2), continuous pixels: the tightest box around the part of the outline inside the image."""
    in_view: float
    """The share of the outline's area that lies inside the image, 0 to 1."""


def project_box(cam_from_box: npt.ArrayLike, size_m: npt.ArrayLike, camera: Camera) -> BoxInImage | None:
    """Return where `camera` sees a box, hidden or not; None where no part of it lies inside the image.

    Exact for a pinhole camera, also where the box crosses the image's border or reaches behind the camera. With a
    lens it is exact up to how edges bend between the points that are projected; points outside the lens model count
    as outside the image.
    """
    ends = _before_camera(corners(cam_from_box, size_m)[EDGES])
    if not len(ends):
        return None
    points = ends.reshape(-1, 3)
    if camera.distortion is not None:
        t = np.linspace(0, 1, _POINTS_PER_EDGE)[:, None, None]
        points = (ends[:, 0] + t * (ends[:, 1] - ends[:, 0])).reshape(-1, 3)
    seen_px = project(camera, points)
    known = np.isfinite(seen_px).all(axis=1)
    outline = convex_hull(seen_px[known])
    inside = clip_to(outline, (camera.width_px, camera.height_px))
    area = polygon_area(inside)
    if not area > 0:
        return None
    x, y = zip(*inside, strict=True)
    return BoxInImage((min(x), min(y), max(x), max(y)), area / polygon_area(outline) * float(known.mean()))


def _before_camera(edges: Float64Array) -> Float64Array:
    """Return what of edges (n, 2, 3) in camera axes lies at z >= `NEAR_M`, (m, 2, 3)."""
    z = edges[..., 2]
    edges, z = edges[(z > NEAR_M).any(axis=1)], z[(z > NEAR_M).any(axis=1)]
    start, way = edges[:, :1], edges[:, 1:] - edges[:, :1]
    crossing = (NEAR_M - z[:, :1]) / np.where(np.diff(z) != 0, np.diff(z), np.inf)
    cut = start + crossing[..., None] * way
    return np.where((z < NEAR_M)[..., None], cut, edges)


def convex_hull(points: npt.ArrayLike) -> Polygon:
    """Return the corners of the convex hull of `points` (n, 2), in order around it (Andrew's monotone chain)."""
    ordered = sorted({(x, y) for x, y in np.asarray(points, float).tolist()})
    if len(ordered) < 3:
        return ordered

    def chain(sequence: Polygon) -> Polygon:
        kept: Polygon = []
        for x, y in sequence:
            while len(kept) > 1:
                (x1, y1), (x2, y2) = kept[-2:]
                if (x2 - x1) * (y - y2) > (y2 - y1) * (x - x2):
                    break
                kept.pop()
            kept.append((x, y))
        return kept[:-1]

    return chain(ordered) + chain(ordered[::-1])


def clip_to(polygon: Polygon, size_px: tuple[int, int]) -> Polygon:
    """Return the part of a convex polygon inside an image of `size_px` (Sutherland and Hodgman)."""
    for axis, bound, sign in ((0, 0.0, 1), (1, 0.0, 1), (0, float(size_px[0]), -1), (1, float(size_px[1]), -1)):
        away = [sign * (corner[axis] - bound) for corner in polygon]
        if min(away, default=0.0) >= 0:
            continue
        kept: Polygon = []
        for index, here in enumerate(polygon):
            there, d, e = polygon[index - 1], away[index], away[index - 1]
            if (d < 0 < e) or (e < 0 < d):
                t = d / (d - e)
                kept.append((here[0] + t * (there[0] - here[0]), here[1] + t * (there[1] - here[1])))
            if d >= 0:
                kept.append(here)
        polygon = kept
    return polygon


def polygon_area(polygon: Polygon) -> float:
    """Return the area of a polygon."""
    if len(polygon) < 3:
        return 0.0
    x0, y0 = polygon[0]  # differences keep their digits where a polygon is far from the origin
    twice = 0.0
    for (x1, y1), (x2, y2) in pairwise(polygon[1:]):
        twice += (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
    return abs(twice) / 2
