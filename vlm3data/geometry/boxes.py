"""Oriented boxes: corners, extents, the levelled camera frame they are compared in, and how far apart they are.

A box is `a_from_box` (4, 4), a rigid pose whose origin is the box's centre, and `size_m` (3,), its extent along its own
axes. `a` is any frame: world, camera, levelled camera.

The levelled camera frame has the camera's centre as its origin and OpenCV's axes with gravity for y: x to the camera's
right and horizontal, y straight down, z horizontal, where the camera looks.
"""

from __future__ import annotations

import math
from itertools import product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vlm3data.types import Cut, Drop, Float64Array

SIGNS = np.array(list(product((-1.0, 1.0), repeat=3)))
"""The corners of a box in half sizes, (8, 3)."""
EDGES = np.array([(i, i | bit) for bit in (4, 2, 1) for i in range(8) if not i & bit])
"""The twelve edges, (12, 2) indices of corners."""
MIN_OFF_VERTICAL_DEG = 5.0
"""Looking closer to straight up or down than this, a camera has no forward on the ground."""


def corners(a_from_box: npt.ArrayLike, size_m: npt.ArrayLike) -> Float64Array:
    """Return the corners (8, 3) of a box, in the order of `SIGNS`."""
    pose = np.asarray(a_from_box, float)
    return SIGNS * np.asarray(size_m, float) / 2 @ pose[:3, :3].T + pose[:3, 3]


def up_in_camera(world_from_cam: npt.ArrayLike | None, world_up: npt.ArrayLike | None) -> Float64Array:
    """Return the unit vector (3,) that points up, in camera axes. Raises Drop("no_gravity") where it is unknown."""
    if world_from_cam is None or world_up is None:
        raise Drop("no_gravity", "pose or world up unknown")
    up = np.asarray(world_from_cam, float)[:3, :3].T @ np.asarray(world_up, float)
    return up / np.linalg.norm(up)


def level_from_cam(up_cam: npt.ArrayLike) -> Float64Array:
    """Return the camera's pose (4, 4) in its levelled frame, a pure rotation; `up_cam` (3,) is up in camera axes.

    Raises Cut("no_gravity") for a camera that looks straight up or down: it has no forward on the ground.
    """
    down = -np.asarray(up_cam, float)
    down = down / np.linalg.norm(down)
    forward = np.array([0.0, 0.0, 1.0]) - down[2] * down
    length = float(np.linalg.norm(forward))
    if length < math.sin(math.radians(MIN_OFF_VERTICAL_DEG)):
        raise Cut("no_gravity", "the camera looks straight up or down")
    forward /= length
    pose = np.eye(4)
    pose[:3, :3] = np.stack([np.cross(down, forward), down, forward])
    return pose


def reach_m(a_from_box: npt.ArrayLike, size_m: npt.ArrayLike, direction: npt.ArrayLike) -> Float64Array:
    """Return how far a box reaches from its centre along unit vectors `direction` (..., 3): half its extent there."""
    return np.abs(_half_sides(a_from_box, size_m, direction)).sum(axis=-1)


def inner_reach_m(a_from_box: npt.ArrayLike, size_m: npt.ArrayLike, direction: npt.ArrayLike) -> Float64Array:
    """Return the same of the ellipsoid inside the box: what a rounded object that fills it reaches at least."""
    return np.linalg.norm(_half_sides(a_from_box, size_m, direction), axis=-1)


def _half_sides(a_from_box: npt.ArrayLike, size_m: npt.ArrayLike, direction: npt.ArrayLike) -> Float64Array:
    axes = np.asarray(a_from_box, float)[:3, :3]
    return np.asarray(direction, float) @ axes * np.asarray(size_m, float) / 2


def nearest_on_box(a_from_box: npt.ArrayLike, size_m: npt.ArrayLike, points: npt.ArrayLike) -> Float64Array:
    """Return the points (n, 3) of a solid box that are nearest to `points` (n, 3)."""
    pose, half = np.asarray(a_from_box, float), np.asarray(size_m, float) / 2
    local = (np.asarray(points, float) - pose[:3, 3]) @ pose[:3, :3]
    return np.clip(local, -half, half) @ pose[:3, :3].T + pose[:3, 3]


class Gap(NamedTuple):
    """What lies between two boxes."""

    distance_m: float
    """Between the nearest points of their surfaces; 0 where they touch or intersect."""
    direction: Float64Array
    """The unit vector (3,) from the first box's nearest point to the second's; NaN where the distance is 0."""


def gap_between(
    a_from_box1: npt.ArrayLike, size1_m: npt.ArrayLike, a_from_box2: npt.ArrayLike, size2_m: npt.ArrayLike
) -> Gap:
    """Return the exact gap between two solid boxes.

    Nearest points of two separate convex polyhedra are a corner of one and some point of the other, or lie inside
    two edges: all 16 corners and 144 pairs of edges are tried. Boxes that no axis separates intersect.
    """
    if _intersect(a_from_box1, size1_m, a_from_box2, size2_m):
        return Gap(0.0, np.full(3, np.nan))
    corners1, corners2 = corners(a_from_box1, size1_m), corners(a_from_box2, size2_m)
    edge1, edge2 = _nearest_on_edges(corners1[EDGES], corners2[EDGES])
    first = np.concatenate([corners1, nearest_on_box(a_from_box1, size1_m, corners2), edge1])
    second = np.concatenate([nearest_on_box(a_from_box2, size2_m, corners1), corners2, edge2])
    between = second - first
    squared = (between**2).sum(axis=1)
    nearest = int(squared.argmin())
    distance_m = math.sqrt(squared[nearest])
    direction = between[nearest] / distance_m if distance_m > 0 else np.full(3, np.nan)
    return Gap(distance_m, direction)


def _intersect(
    a_from_box1: npt.ArrayLike, size1_m: npt.ArrayLike, a_from_box2: npt.ArrayLike, size2_m: npt.ArrayLike
) -> bool:
    """Tell whether no axis separates two boxes: their face normals and the cross products of their edges suffice."""
    pose1, pose2 = np.asarray(a_from_box1, float), np.asarray(a_from_box2, float)
    axes1, axes2 = pose1[:3, :3].T, pose2[:3, :3].T
    crossed = np.cross(axes1[:, None], axes2[None]).reshape(9, 3)
    length = np.linalg.norm(crossed, axis=1)
    crossed = crossed[length > 1e-9] / length[length > 1e-9, None]  # parallel edges have none of their own
    axes = np.concatenate([axes1, axes2, crossed])
    apart = np.abs(axes @ (pose2[:3, 3] - pose1[:3, 3]))
    return bool((apart <= reach_m(pose1, size1_m, axes) + reach_m(pose2, size2_m, axes)).all())


def _nearest_on_edges(edges1: Float64Array, edges2: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Return, for every pair of edges (n, 2, 3) and (m, 2, 3), the points (n·m, 3) where their lines come closest.

    Both are clamped to their edges. Where that moves one, or the lines are parallel, an end is as near as any other
    point, and the caller has tried the ends.
    """
    start1, way1 = edges1[:, None, 0], edges1[:, None, 1] - edges1[:, None, 0]
    start2, way2 = edges2[None, :, 0], edges2[None, :, 1] - edges2[None, :, 0]
    offset = start2 - start1
    a, b, c = (way1 * way1).sum(-1), (way1 * way2).sum(-1), (way2 * way2).sum(-1)
    d, e = (way1 * offset).sum(-1), (way2 * offset).sum(-1)
    determinant = a * c - b * b
    safe = np.where(determinant > 1e-12 * a * c, determinant, np.inf)
    s = np.clip((d * c - e * b) / safe, 0, 1)[..., None]
    t = np.clip((d * b - e * a) / safe, 0, 1)[..., None]
    return (start1 + s * way1).reshape(-1, 3), (start2 + t * way2).reshape(-1, 3)
