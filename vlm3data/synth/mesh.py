"""The surfaces of a world as triangles, part by part: what a scan of it would be reconstructed to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from vlm3data.synth.world import Ball, Block, Plane, Post, World
from vlm3data.types import Float64Array, Int64Array

SPACING_M = 0.05
"""Of the vertices on objects; about what ScanNet's decimated meshes have."""
SHELL_SPACING_M = 0.2
"""Of the vertices on floors, walls and ceilings."""
_AROUND = 24
"""Vertices around balls and posts."""


class Patch(NamedTuple):
    """One connected piece of surface."""

    thing: int
    """The object that it belongs to; -1 for none."""
    plane: int
    """The plane of the world that it lies on; -1 for none."""
    vertices_m: Float64Array
    """(n, 3)."""
    faces: Int64Array
    """(m, 3) vertices of each triangle."""


def patches(world: World) -> Iterator[Patch]:
    """Yield the faces of blocks, the balls, the sides and tops of posts, and the planes where the others confine them.

    Every plane must be one side of a box about the origin, as in a room.
    """
    for block in world.blocks:
        for face in range(6):
            yield _block_face(block, face)
    for ball in world.balls:
        yield _ball(ball)
    for post in world.posts:
        yield _post_side(post)
        yield _post_top(post)
    for number in range(len(world.planes)):
        yield _plane(world.planes, number)


def _grid(
    rows: int, columns: int, at: Callable[[Float64Array, Float64Array], Float64Array], thing: int, plane: int = -1
) -> Patch:
    """Return a patch of rows x columns vertices; `at` maps a and b in [0, 1], both (rows, columns), to points."""
    a, b = np.meshgrid(np.linspace(0, 1, columns), np.linspace(0, 1, rows))
    first = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
    upper = np.stack([first, first + 1, first + columns], 1)
    lower = np.stack([first + 1, first + columns + 1, first + columns], 1)
    return Patch(thing, plane, at(a, b).reshape(-1, 3), np.concatenate([upper, lower]))


def _steps(length_m: float, spacing_m: float) -> int:
    return max(2, int(np.ceil(length_m / spacing_m)) + 1)


def _block_face(block: Block, face: int) -> Patch:
    axis, side = divmod(face, 2)
    along, across = [other for other in range(3) if other != axis]
    c, s = np.cos(block.yaw_rad), np.sin(block.yaw_rad)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])

    def at(a: Float64Array, b: Float64Array) -> Float64Array:
        local = np.zeros((*a.shape, 3))
        local[..., axis] = block.size_m[axis] * (0.5 - side)
        local[..., along] = block.size_m[along] * (a - 0.5)
        local[..., across] = block.size_m[across] * (b - 0.5)
        return local @ turn.T + block.centre_m

    rows, columns = _steps(block.size_m[across], SPACING_M), _steps(block.size_m[along], SPACING_M)
    return _grid(rows, columns, at, block.thing)


def _ball(ball: Ball) -> Patch:
    def at(a: Float64Array, b: Float64Array) -> Float64Array:
        round_, up = 2 * np.pi * a, np.pi * (b - 0.5)
        unit = np.stack([np.cos(round_) * np.cos(up), np.sin(round_) * np.cos(up), np.sin(up)], -1)
        return unit * ball.radius_m + ball.centre_m

    return _grid(_AROUND // 2 + 1, _AROUND + 1, at, ball.thing)


def _post_side(post: Post) -> Patch:
    def at(a: Float64Array, b: Float64Array) -> Float64Array:
        round_ = 2 * np.pi * a
        local = np.stack([np.cos(round_) * post.radius_m, np.sin(round_) * post.radius_m, b * post.height_m], -1)
        return local + post.base_m

    return _grid(_steps(post.height_m, SPACING_M), _AROUND + 1, at, post.thing)


def _post_top(post: Post) -> Patch:
    def at(a: Float64Array, b: Float64Array) -> Float64Array:
        round_ = 2 * np.pi * a
        flat = np.stack([np.cos(round_) * b, np.sin(round_) * b], -1) * post.radius_m
        return np.concatenate([flat, np.full((*a.shape, 1), post.height_m)], -1) + post.base_m

    return _grid(_steps(post.radius_m, SPACING_M), _AROUND + 1, at, post.thing)


def _plane(planes: tuple[Plane, ...], number: int) -> Patch:
    """Return the side of the box that the planes enclose."""
    normals = np.array([plane.normal for plane in planes])
    offsets = np.array([plane.offset_m for plane in planes])
    low, high = np.zeros(3), np.zeros(3)
    for axis in range(3):
        # Normals point inwards: +x bounds from below, -x from above.
        low[axis] = offsets[normals[:, axis] > 0.5].max()
        high[axis] = -offsets[normals[:, axis] < -0.5].max()
    axis = int(np.argmax(np.abs(normals[number])))
    along, across = [other for other in range(3) if other != axis]
    extent = high - low

    def at(a: Float64Array, b: Float64Array) -> Float64Array:
        points = np.zeros((*a.shape, 3))
        points[..., axis] = low[axis] if normals[number][axis] > 0 else high[axis]
        points[..., along] = low[along] + a * extent[along]
        points[..., across] = low[across] + b * extent[across]
        return points

    rows, columns = _steps(extent[across], SHELL_SPACING_M), _steps(extent[along], SHELL_SPACING_M)
    return _grid(rows, columns, at, -1, number)
