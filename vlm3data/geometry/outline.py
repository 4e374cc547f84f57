"""Where in an image a 3D box is seen: its outline, cut at the image's border, and the 2D box around that."""

from __future__ import annotations

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
    (x1, y1), (x2, y2) = inside.min(axis=0).tolist(), inside.max(axis=0).tolist()
    return BoxInImage((x1, y1, x2, y2), area / polygon_area(outline) * float(known.mean()))


def _before_camera(edges: Float64Array) -> Float64Array:
    """Return what of edges (n, 2, 3) in camera axes lies at z >= `NEAR_M`, (m, 2, 3)."""
    z = edges[..., 2]
    edges, z = edges[(z > NEAR_M).any(axis=1)], z[(z > NEAR_M).any(axis=1)]
    start, way = edges[:, :1], edges[:, 1:] - edges[:, :1]
    crossing = (NEAR_M - z[:, :1]) / np.where(np.diff(z) != 0, np.diff(z), np.inf)
    cut = start + crossing[..., None] * way
    return np.where((z < NEAR_M)[..., None], cut, edges)


def convex_hull(points: npt.ArrayLike) -> Float64Array:
    """Return the corners (m, 2) of the convex hull of `points` (n, 2), in order around it (Andrew's monotone chain)."""
    ordered = sorted(set(map(tuple, np.asarray(points, float).tolist())))
    if len(ordered) < 3:
        return np.array(ordered).reshape(-1, 2)

    def chain(sequence: list[tuple[float, ...]]) -> list[tuple[float, ...]]:
        kept: list[tuple[float, ...]] = []
        for x, y in sequence:
            while len(kept) > 1 and (kept[-1][0] - kept[-2][0]) * (y - kept[-2][1]) <= (kept[-1][1] - kept[-2][1]) * (
                x - kept[-2][0]
            ):
                kept.pop()
            kept.append((x, y))
        return kept[:-1]

    return np.array(chain(ordered) + chain(ordered[::-1]))


def clip_to(polygon: Float64Array, size_px: tuple[int, int]) -> Float64Array:
    """Return the part (m, 2) of a convex polygon (n, 2) inside an image of `size_px` (Sutherland and Hodgman)."""
    for axis, bound, sign in ((0, 0.0, 1), (1, 0.0, 1), (0, float(size_px[0]), -1), (1, float(size_px[1]), -1)):
        if not len(polygon):
            return polygon
        away = sign * (polygon[:, axis] - bound)
        kept: list[Float64Array] = []
        for here, there, d, e in zip(polygon, np.roll(polygon, -1, 0), away, np.roll(away, -1), strict=True):
            if d >= 0:
                kept.append(here)
            if (d < 0 < e) or (e < 0 < d):
                kept.append(here + d / (d - e) * (there - here))
        polygon = np.array(kept).reshape(-1, 2)
    return polygon


def polygon_area(polygon: Float64Array) -> float:
    """Return the area of a polygon (n, 2) by its corners in order around it."""
    if len(polygon) < 3:
        return 0.0
    x, y = (polygon - polygon.mean(axis=0)).T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)
