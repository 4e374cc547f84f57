"""All materials in one array with their mip levels, and the lookup of filtered colours in it."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vlm3data.randomness import rng_for
from vlm3data.sources._synthetic.materials import MATERIALS, NAMES
from vlm3data.types import Float32Array, Int64Array, UInt8Array

LEVELS = 10


class Atlas(NamedTuple):
    """`texels` holds red, green and blue in the low 8 of 16 bits each, so that one integer product weighs all.

    `start` and `side` are indexed by material * LEVELS + level; a level that a material lacks repeats its last.
    """

    texels: npt.NDArray[np.int64]
    start: Int64Array
    side: Int64Array
    px: Float32Array
    """Texels on a side of each material's finest level."""
    extent_m: npt.NDArray[np.float64]


@cache
def atlas() -> Atlas:
    """Paint every material, once per process; the same for every seed."""
    pieces: list[npt.NDArray[np.int64]] = []
    start, side, used = [], [], 0
    for name, material in MATERIALS.items():
        paint = material.paint(rng_for("material", name), material.px, material.extent_m)
        image = np.clip(np.broadcast_to(paint, (material.px, material.px, 3)), 0.0, 1.0) * 255.0
        for level in range(LEVELS):
            size = material.px >> level
            if size:
                whole = np.rint(image).astype(np.int64)
                pieces.append((whole[..., 0] | whole[..., 1] << 16 | whole[..., 2] << 32).ravel())
                start.append(used)
                used += size * size
            else:
                start.append(start[-1])
            side.append(max(size, 1))
            if size > 1:
                image = image.reshape(size // 2, 2, size // 2, 2, 3).mean((1, 3))
    extent = np.array([MATERIALS[name].extent_m for name in NAMES])
    px = np.array([MATERIALS[name].px for name in NAMES], np.float32)
    return Atlas(np.concatenate(pieces), np.array(start), np.array(side), px, extent)


def colours(material: Int64Array, u: Float32Array, v: Float32Array, texels_per_px: Float32Array) -> UInt8Array:
    """Return the (n, 3) colours at (u, v), in tiles, bilinear in the level whose texels match a pixel."""
    source = atlas()
    # The exponent bits of a float are floor(log2) + 127.
    level = (np.maximum(texels_per_px, 1.0).view(np.int32) >> 23) - 127
    place = np.minimum(level, LEVELS - 1) + material * LEVELS
    side = source.side.take(place)
    start = source.start.take(place)
    x, y = u * side.astype(np.float32) - np.float32(0.5), v * side.astype(np.float32) - np.float32(0.5)
    floor_x, floor_y = np.floor(x), np.floor(y)
    # Weights are whole 16ths, so that four of them sum to 256 and a channel never spills into the next.
    part_x = ((x - floor_x) * 16.0).astype(np.int64)
    part_y = ((y - floor_y) * 16.0).astype(np.int64)
    mask = side - 1
    x0, y0 = floor_x.astype(np.int64) & mask, floor_y.astype(np.int64) & mask
    x1, y1 = (x0 + 1) & mask, ((y0 + 1) & mask) * side + start
    y0 = y0 * side + start
    take = source.texels.take
    upper = take(y0 + x0) * (16 - part_x) + take(y0 + x1) * part_x
    lower = take(y1 + x0) * (16 - part_x) + take(y1 + x1) * part_x
    mixed = upper * (16 - part_y) + lower * part_y
    # Little-endian bytes 1, 3, 5 are the three sums divided by 256.
    return mixed.astype("<i8", copy=False).view(np.uint8).reshape(-1, 8)[:, 1:6:2]
