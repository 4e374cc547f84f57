"""Exact ray casting for rays that are no pixels, and a spinning LiDAR made of them.

`cast` shares no code with the camera's tracer, which works in inverse depth and in windows of the image; each
can check the other.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vlm3data.synth.packed import PackedWorld
from vlm3data.types import Float32Array, Float64Array, Int64Array

NUM_RINGS = 32
NUM_COLUMNS = 1084
"""Firings a turn, as in nuScenes' files: 32 x 1084 rays."""
ELEVATION_DEG = (-30.67, 10.67)
"""Of the lowest and the highest ring of a Velodyne HDL-32E (its manual)."""
REACH_M = (1.0, 100.0)
"""Nearer and farther returns are not recorded."""
_RAYS_AT_ONCE = 4096
"""Few enough for the processor's cache."""
_TINY = 1e-30


class Scan(NamedTuple):
    """The returns of one turn, firing by firing; rays that meet nothing in reach are left out."""

    points: Float32Array
    """(n, 5): x, y, z in metres in the LiDAR's own frame (x right, y ahead, z up), intensity 0 to 255, ring."""
    surface: Int64Array
    """(n,) The surface of the packed world that each return is from."""


def scan(
    packed: PackedWorld, world_from_lidar: Float64Array, noise_m: float = 0.0, rng: np.random.Generator | None = None
) -> Scan:
    """Return one turn seen from a LiDAR that stands still, as motion-compensated sweeps are.

    A turn begins at the left and goes clockwise. Ranges are exact, unless `noise_m`, the standard deviation of a
    normal error along the ray, is given together with `rng`.
    """
    rays = _rays_of_a_turn()
    directions = rays @ world_from_lidar[:3, :3].T
    range_m, surface = cast(packed, np.broadcast_to(world_from_lidar[:3, 3], rays.shape), directions)
    met = np.flatnonzero((range_m >= REACH_M[0]) & (range_m <= REACH_M[1]))
    range_m, surface = range_m[met], surface[met]
    if noise_m and rng is not None:
        range_m = range_m + rng.normal(0.0, noise_m, len(met))
    points = np.empty((len(met), 5), np.float32)
    points[:, :3] = rays[met] * range_m[:, None]
    points[:, 3] = np.clip(np.rint(60.0 * packed.colour[surface, :3].mean(1)), 0, 255)
    points[:, 4] = met % NUM_RINGS
    return Scan(points, surface)


def _rays_of_a_turn() -> Float64Array:
    """Return (columns * rings, 3) unit vectors, the rings of one firing together, from the lowest up."""
    azimuth = np.pi - 2 * np.pi * np.arange(NUM_COLUMNS)[:, None] / NUM_COLUMNS
    elevation = np.deg2rad(np.linspace(*ELEVATION_DEG, NUM_RINGS))
    level = np.cos(elevation)
    rays = [
        np.cos(azimuth) * level,
        np.sin(azimuth) * level,
        np.broadcast_to(np.sin(elevation), (NUM_COLUMNS, NUM_RINGS)),
    ]
    return np.stack(rays, 2).reshape(-1, 3)


def cast(packed: PackedWorld, origins_m: Float64Array, directions: Float64Array) -> tuple[Float64Array, Int64Array]:
    """Return per ray how far the nearest surface is, and its number in `packed`.

    `origins_m` and `directions` are (n, 3), in the world. The distance is in lengths of the ray's direction: metres
    where that is 1, z-depth where it is 1 along a camera's axis. Where nothing or only the sky is met it is inf, and
    the surface -1. As for the tracer, a ray that starts inside something does not meet that.
    """
    distance = np.full(len(directions), np.inf)
    surface = np.full(len(directions), -1, np.int64)
    spheres = _spheres(packed)
    for first in range(0, len(directions), _RAYS_AT_ONCE):
        some = slice(first, first + _RAYS_AT_ONCE)
        _cast_some(packed, spheres, origins_m[some], directions[some], distance[some], surface[some])
    return distance, surface


def _spheres(packed: PackedWorld) -> tuple[Float64Array, Float64Array]:
    """Return the middles (parts, 3) and radii of balls around the parts (blocks, balls, posts)."""
    corners = packed.corners.reshape(3, 8, -1)[..., : len(packed.by_thing)]
    middle = corners.mean(1)
    return middle.T, np.sqrt(((corners - middle[:, None]) ** 2).sum(0)).max(0)


def _cast_some(
    packed: PackedWorld,
    spheres: tuple[Float64Array, Float64Array],
    origin: Float64Array,
    way: Float64Array,
    distance: Float64Array,
    surface: Int64Array,
) -> None:
    """Shorten `distance` to what is met, and set `surface`."""

    def keep(rays: Int64Array, t: Float64Array, number: int | Int64Array) -> None:
        nearer = (t > 0) & (t < distance[rays])
        distance[rays[nearer]] = t[nearer]
        surface[rays[nearer]] = number if isinstance(number, int) else number[nearer]

    first, num_blocks, num_balls = len(packed.world.planes), len(packed.world.blocks), len(packed.world.balls)
    everyone = np.arange(len(way))
    for plane in np.flatnonzero(~packed.is_sky[:first]).tolist():
        slope = way @ packed.normal[plane]
        gap = packed.offset_m[plane] - origin @ packed.normal[plane]
        keep(everyone, gap / np.where(slope == 0, _TINY, slope), plane)
    near = _near(spheres, origin, way)
    for part in np.flatnonzero(near.any(1)).tolist():
        rays = np.flatnonzero(near[part])
        start, along = origin[rays], way[rays]
        if part < num_blocks:
            face = first + 6 * part
            t, which = _block(packed.normal[face : face + 6], packed.offset_m[face : face + 6], start, along)
            keep(rays, t, face + which)
        elif part < num_blocks + num_balls:
            ball = part - num_blocks
            to_ball = packed.round_origin_m[ball] - start
            keep(rays, _first_root(along, to_ball, packed.round_radius_m[ball]), packed.num_flat + ball)
        else:
            post = part - num_blocks - num_balls
            side, top = _post(packed, post, start, along)
            keep(rays, side, packed.num_flat + num_balls + post)
            keep(rays, top, first + 6 * num_blocks + post)


def _near(spheres: tuple[Float64Array, Float64Array], origin: Float64Array, way: Float64Array) -> npt.NDArray[np.bool_]:
    """Return (parts, rays): whether the ray's line comes near the part, and the part is not all behind."""
    middle, radius = spheres
    unit = way / np.sqrt((way * way).sum(1))[:, None]
    along = middle @ unit.T - (origin * unit).sum(1)
    away = (middle * middle).sum(1)[:, None] - 2.0 * (middle @ origin.T) + (origin * origin).sum(1)
    away -= along * along
    reach = (radius * 1.0001 + 1e-3)[:, None]
    return (away <= reach * reach) & (along >= -reach)


def _block(
    normal: Float64Array, offset_m: Float64Array, start: Float64Array, way: Float64Array
) -> tuple[Float64Array, Int64Array]:
    """Return where rays enter the space behind six planes (inf: never), and through which."""
    slope, gap = way @ normal.T, offset_m - start @ normal.T
    t = gap / np.where(slope == 0, _TINY, slope)
    into = slope < 0
    enter = np.where(into, t, -np.inf)
    leave = np.where(into, np.inf, t)
    face = enter.argmax(1)
    met = enter[np.arange(len(t)), face]
    return np.where(met < leave.min(1), met, np.inf), face


def _first_root(way: Float64Array, to_middle: Float64Array, radius: float) -> Float64Array:
    """Return the smaller t with |t way - to_middle| = radius, inf where there is none."""
    square = np.maximum((way * way).sum(1), _TINY)
    half = (way * to_middle).sum(1)
    under = half * half - square * ((to_middle * to_middle).sum(1) - radius * radius)
    return np.where(under > 0, (half - np.sqrt(np.maximum(under, 0.0))) / square, np.inf)


def _post(packed: PackedWorld, post: int, start: Float64Array, way: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Return where rays meet the side of a post, and its top from above."""
    index = len(packed.world.balls) + post
    radius, height = packed.round_radius_m[index], packed.world.posts[post].height_m
    to_foot = packed.round_origin_m[index] - start
    side = _first_root(way[:, :2], to_foot[:, :2], radius)
    up = np.where(np.isfinite(side), side, 0.0) * way[:, 2] - to_foot[:, 2]
    top = (to_foot[:, 2] + height) / np.where(way[:, 2] == 0, _TINY, way[:, 2])
    off = top[:, None] * way[:, :2] - to_foot[:, :2]
    on_top = (way[:, 2] < 0) & ((off * off).sum(1) <= radius * radius)
    return np.where((up >= 0) & (up <= height), side, np.inf), np.where(on_top, top, np.inf)
