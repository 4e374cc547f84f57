"""The image of a traced view: texture, light, contact shadows and softened outlines."""

from __future__ import annotations

import numpy as np

from vlm3data.sources._synthetic.atlas import atlas, colours
from vlm3data.sources._synthetic.contact import darken
from vlm3data.sources._synthetic.packed import PackedWorld, lit
from vlm3data.sources._synthetic.trace import Traced
from vlm3data.types import Camera, Float32Array, Float64Array, Int64Array, UInt8Array


def shade(packed: PackedWorld, traced: Traced, camera: Camera, world_from_cam: Float64Array) -> UInt8Array:
    """Return the (h, w, 3) image."""
    height, width = traced.surface.shape
    surface = traced.surface.ravel().astype(np.int64)
    depth: Float32Array = np.reciprocal(np.maximum(traced.inverse_depth, 1e-5, dtype=np.float32))
    x = ((np.arange(width) + 0.5 - camera.cx_px) / camera.fx_px).astype(np.float32)
    y = ((np.arange(height) + 0.5 - camera.cy_px) / camera.fy_px).astype(np.float32)
    u, v = (_flat_texture(row, packed, surface, depth, x, y, world_from_cam) for row in (packed.u, packed.v))

    material = packed.material.take(surface)
    texels_per_m = (atlas().px / np.sqrt(atlas().extent_m.prod(1))).astype(np.float32)
    # A pixel covers depth / focal, more where the surface is slanted: by 1 / cos, with cos = distance of the
    # surface * inverse depth / length of the ray. The full factor would blur what runs across the slant.
    clear = np.ones(len(packed.material), np.float32)
    clear[: packed.num_flat] = np.abs(packed.offset_m - packed.normal @ world_from_cam[:3, 3])
    # Clouds are soft, and would shimmer near the horizon.
    clear[packed.is_sky] *= 0.15
    ray = np.sqrt(1.0 + x * x + (y * y)[:, None])
    distance = ray * depth
    slant = np.maximum(distance.ravel() / np.maximum(clear.take(surface), np.float32(1e-3)), 1.0)
    slant[surface >= packed.num_flat] = 1.3
    footprint = depth.ravel() * np.float32(1.4 / camera.fx_px) * np.sqrt(slant)
    tint = packed.colour.take(surface, axis=0)
    round_px = np.flatnonzero(surface >= packed.num_flat)
    if len(round_px):
        rows, columns = np.divmod(round_px, width)
        rays = np.stack([x[columns], y[rows], np.ones(len(rows), np.float32)], 1)
        points = rays * depth.ravel()[round_px, None] @ world_from_cam[:3, :3].T + world_from_cam[:3, 3]
        light, u[round_px], v[round_px] = _round(packed, points, surface[round_px])
        tint[round_px] *= light[:, None].astype(np.float32)
    texel = colours(material, u, v, footprint * texels_per_m.take(material))
    image = (texel * tint).reshape(height, width, 3)
    darken(image, packed, traced, camera, world_from_cam)
    _soften(image, traced)
    return np.minimum(image, 255.0).astype(np.uint8)


def _flat_texture(
    rows: Float64Array,
    packed: PackedWorld,
    surface: Int64Array,
    depth: Float32Array,
    x: Float32Array,
    y: Float32Array,
    world_from_cam: Float64Array,
) -> Float32Array:
    """Return rows[surface] . (point, 1) for each pixel's point; 0 for surfaces that are not flat."""
    table = np.zeros((4, len(packed.material)), np.float32)
    table[:3, : packed.num_flat] = (rows[:, :3] @ world_from_cam[:3, :3]).T
    start = rows[:, :3] @ world_from_cam[:3, 3] + rows[:, 3]
    # Whole tiles are dropped here, in float64, so that float32 keeps the fraction.
    table[3, : packed.num_flat] = start - np.floor(start)
    a, b, c, d = (line.take(surface).reshape(depth.shape) for line in table)
    a *= x[None]
    b *= y[:, None]
    a += b
    a += c
    a *= depth
    a += d
    return a.ravel()


def _round(
    packed: PackedWorld, points: Float64Array, surface: Int64Array
) -> tuple[Float64Array, Float32Array, Float32Array]:
    """Return the light and the texture coordinates of points on balls and on the sides of posts."""
    world = packed.world
    origin = np.array([ball.centre_m for ball in world.balls] + [post.base_m for post in world.posts])
    radius = np.array([ball.radius_m for ball in world.balls] + [post.radius_m for post in world.posts])
    is_ball = np.arange(len(origin)) < len(world.balls)
    part = surface - packed.num_flat
    from_origin = points - origin[part]
    normal = from_origin / radius[part, None]
    normal[:, 2] = np.where(is_ball[part], np.clip(normal[:, 2], -1.0, 1.0), 0.0)
    extent = atlas().extent_m[packed.material[surface]]
    around = np.arctan2(normal[:, 1], normal[:, 0]) * radius[part]
    up = np.where(is_ball[part], np.arcsin(normal[:, 2]) * radius[part], from_origin[:, 2])
    light = lit(normal, world.light)
    return light, (around / extent[:, 0]).astype(np.float32), (-up / extent[:, 1]).astype(np.float32)


def _soften(image: Float32Array, traced: Traced) -> None:
    """Mix pixels on an outline with their neighbours: what more rays per pixel would do, at little cost."""
    surface = traced.surface
    edge = np.zeros(surface.shape, np.bool_)
    across = surface[:, 1:] != surface[:, :-1]
    down = surface[1:] != surface[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    edge[[0, -1]] = edge[:, [0, -1]] = False
    width = surface.shape[1]
    at = np.flatnonzero(edge)
    flat = image.reshape(-1, 3)
    mixed = 4.0 * flat[at]
    for step in (-1, 1, -width, width):
        mixed += flat[at + step]
    flat[at] = mixed / 8.0
