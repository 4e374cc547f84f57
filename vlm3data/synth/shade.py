"""The image of a traced view: texture, light, contact shadows and softened outlines."""

from __future__ import annotations

import cv2
import numpy as np

from vlm3data.synth.atlas import atlas, colours
from vlm3data.synth.contact import contact_light
from vlm3data.synth.packed import PackedWorld, lit
from vlm3data.synth.runs import Runs
from vlm3data.synth.screen import grid
from vlm3data.synth.trace import Traced
from vlm3data.types import Camera, Float32Array, Float64Array, Int64Array, UInt8Array

_MIX = np.array([[0, 1, 0], [1, 4, 1], [0, 1, 0]], np.float32) / 8


def shade(packed: PackedWorld, traced: Traced, camera: Camera, world_from_cam: Float64Array) -> UInt8Array:
    """Return the (h, w, 3) image."""
    x, y = grid(camera)
    depth: Float32Array = np.reciprocal(np.maximum(traced.inverse_depth, 1e-5, dtype=np.float32))
    runs = traced.runs
    u, v = (_flat_texture(row, packed, runs, depth, x, y, world_from_cam) for row in (packed.u, packed.v))
    level = np.zeros(len(packed.material), np.bool_)
    level[: packed.num_flat] = packed.normal[:, 2] > 0.99
    light = contact_light(packed, traced, depth, runs.spread(level), camera, world_from_cam)
    if (runs.surface >= packed.num_flat).any():
        at = np.flatnonzero(traced.surface >= packed.num_flat)
        rows, columns = np.divmod(at, camera.width_px)
        rays = np.stack([x[columns], y[rows], np.ones(len(at), np.float32)], 1) * depth.ravel()[at, None]
        pose = world_from_cam.astype(np.float32)
        points = rays.astype(np.float32, copy=False) @ pose[:3, :3].T + pose[:3, 3]
        surface = traced.surface.ravel()[at].astype(np.int64)
        light.ravel()[at], u.ravel()[at], v.ravel()[at] = _round(packed, points, surface)
    texels_per_px = _texels_per_px(packed, runs, depth, x, y, camera, world_from_cam)
    places = (runs.spread(values[packed.material]) for values in (atlas().px, atlas().left, atlas().bottom))
    texel = colours(u, v, texels_per_px, *places)
    tint = runs.spread(packed.colour)
    tint *= cv2.cvtColor(light, cv2.COLOR_GRAY2RGBA)
    image = np.asarray(cv2.multiply(texel, tint, dtype=cv2.CV_8U), np.uint8)
    _soften(image, traced)
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGBA2RGB), np.uint8)


def _flat_texture(
    rows: Float64Array,
    packed: PackedWorld,
    runs: Runs,
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
    a, b, c, d = table[:, runs.surface]
    coordinate = runs.fill(a)
    coordinate *= x
    coordinate += runs.fill(b * y[runs.row] + c)
    coordinate *= depth
    coordinate += runs.fill(d)
    return coordinate


def _texels_per_px(
    packed: PackedWorld,
    runs: Runs,
    depth: Float32Array,
    x: Float32Array,
    y: Float32Array,
    camera: Camera,
    world_from_cam: Float64Array,
) -> Float32Array:
    """Return how many texels of the finest level a pixel covers.

    That is depth / focal, more where the surface is slanted: by 1 / cos, with cos = distance of the surface *
    inverse depth / length of the ray. The full factor would blur what runs across the slant, hence its root.
    """
    texels_per_m = atlas().texels_per_m[packed.material]
    clear = np.abs(packed.offset_m - packed.normal @ world_from_cam[:3, 3])
    # Clouds are soft, and would shimmer near the horizon.
    clear[packed.is_sky[: packed.num_flat]] *= 0.15
    slope = np.full(len(packed.material), 0.0, np.float32)
    slope[: packed.num_flat] = 1.0 / np.maximum(clear, 1e-3)
    texels_per_m[packed.num_flat :] *= np.sqrt(1.3)
    slant: Float32Array = np.sqrt((1.0 + y * y)[:, None] + x * x)
    slant *= depth
    slant *= runs.spread(slope)
    np.maximum(slant, 1.0, out=slant)
    np.sqrt(slant, out=slant)
    slant *= depth
    slant *= runs.spread((texels_per_m * (1.4 / camera.fx_px)).astype(np.float32))
    return slant


def _round(
    packed: PackedWorld, points: Float32Array, surface: Int64Array
) -> tuple[Float32Array, Float32Array, Float32Array]:
    """Return the light and the texture coordinates of points on balls and on the sides of posts."""
    part = surface - packed.num_flat
    radius = packed.round_radius_m.astype(np.float32)[part]
    is_ball = part < len(packed.world.balls)
    from_origin = points - packed.round_origin_m.astype(np.float32)[part]
    normal = from_origin / radius[:, None]
    normal[:, 2] = np.where(is_ball, np.clip(normal[:, 2], -1.0, 1.0), np.float32(0.0))
    width_m, height_m = atlas().extent_m.astype(np.float32)[packed.material[surface]].T
    angle = np.asarray(cv2.phase(normal[:, 0].copy()[None], normal[:, 1].copy()[None]), np.float32)
    around = angle[0] * radius
    up = from_origin[:, 2]
    up[is_ball] = np.arcsin(normal[is_ball, 2]) * radius[is_ball]
    return lit(normal, packed.world.light), around / width_m, -up / height_m


def _soften(image: UInt8Array, traced: Traced) -> None:
    """Mix pixels on an outline with their neighbours: what more rays per pixel would do, at little cost."""
    surface = traced.surface
    edge = np.zeros(surface.shape, np.bool_)
    across = surface[:, 1:] != surface[:, :-1]
    down = surface[1:] != surface[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    mixed = np.asarray(cv2.filter2D(image, -1, _MIX), np.uint8)
    cv2.copyTo(mixed, edge.view(np.uint8), image)
