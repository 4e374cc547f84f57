"""All materials in one image with their mip levels, and the lookup of filtered colours in it."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import cv2
import numpy as np

from vlm3data.randomness import rng_for
from vlm3data.synth.materials import MATERIALS, NAMES
from vlm3data.types import Float32Array, Float64Array, UInt8Array

STRIDE = 4
"""A level of side s starts STRIDE * s above the bottom of its material, which leaves room for borders."""


class Atlas(NamedTuple):
    """`image` (h, w, 4) has a column of levels per material, each with a border that repeats its other side."""

    image: UInt8Array
    left: Float32Array
    """Where a material's levels start, in pixels of which 0 is the first one's centre."""
    bottom: Float32Array
    """Where they end."""
    px: Float32Array
    """Texels on a side of each material's finest level."""
    extent_m: Float64Array
    texels_per_m: Float64Array
    """The geometric mean of both axes."""


@cache
def atlas() -> Atlas:
    """Paint every material, once per process; the same for every seed."""
    px = np.array([MATERIALS[name].px for name in NAMES])
    left, bottom = _places(px.tolist())
    image = np.zeros((max(bottom), int((np.array(left) + px).max()) + 1, 4), np.uint8)
    for name, x, end in zip(NAMES, left, bottom, strict=True):
        material = MATERIALS[name]
        side = material.px
        paint = material.paint(rng_for("material", name), side, material.extent_m)
        level = np.clip(np.broadcast_to(paint, (side, side, 3)), 0.0, 1.0) * 255.0
        while side:
            y = end - STRIDE * side
            tile = np.pad(np.rint(level), ((1, 1), (1, 1), (0, 0)), "wrap")
            image[y - 1 : y + side + 1, x - 1 : x + side + 1, :3] = tile
            side //= 2
            if side:
                level = level.reshape(side, 2, side, 2, 3).mean((1, 3))
    extent = np.array([MATERIALS[name].extent_m for name in NAMES])
    edge = np.array([left, bottom], np.float32) - np.float32(0.5)
    return Atlas(image, edge[0], edge[1], px.astype(np.float32), extent, px / np.sqrt(extent.prod(1)))


def _places(sides: list[int]) -> tuple[list[int], list[int]]:
    """Return the left and the bottom of each material: side by side in rows about as wide as the largest.

    A narrow image keeps the texels of a neighbourhood on few pages of memory.
    """
    left, bottom = [0] * len(sides), [0] * len(sides)
    x, y, height = 1, 1, 0
    for i in sorted(range(len(sides)), key=lambda i: -sides[i]):
        if x > max(sides):
            x, y, height = 1, y + height, 0
        left[i], bottom[i] = x, y + STRIDE * sides[i]
        x, height = x + sides[i] + 2, max(height, STRIDE * sides[i])
    return left, bottom


def colours(
    u: Float32Array,
    v: Float32Array,
    texels_per_px: Float32Array,
    px: Float32Array,
    left: Float32Array,
    bottom: Float32Array,
) -> UInt8Array:
    """Return the (h, w, 4) colours at (u, v), in tiles, bilinear in the level whose texels match a pixel.

    All arguments are (h, w); the last three are those of the material that a pixel sees.
    """
    texels = np.maximum(texels_per_px, np.float32(1.0))
    np.minimum(texels, px, out=texels)
    # The exponent bits of a float hold floor(log2), and this is 2 to the minus that.
    side = (0x7F000000 - (texels.view(np.int32) & 0x7F800000)).view(np.float32)
    side *= px
    x, y = u - np.floor(u), v - np.floor(v)
    x *= side
    x += left
    y -= np.float32(STRIDE)
    y *= side
    y += bottom
    return np.asarray(cv2.remap(atlas().image, x, y, cv2.INTER_LINEAR), np.uint8)
