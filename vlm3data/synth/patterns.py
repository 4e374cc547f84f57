"""Tileable patterns that the materials are painted with; all arrays cover one tile, row 0 on top."""

from __future__ import annotations

import numpy as np

from vlm3data.types import Float64Array

Paint = Float64Array
"""(px, px, 3), 0 to 1."""


def speckle(rng: np.random.Generator, px: int, slope: float = 1.0) -> Float64Array:
    """Return (px, px) tileable noise of mean 0 and deviation 1, smoother for a larger `slope`."""
    frequency = np.hypot(np.fft.fftfreq(px)[:, None], np.fft.rfftfreq(px)[None])
    frequency[0, 0] = 1.0
    spectrum = np.fft.rfft2(rng.standard_normal((px, px))) / frequency**slope
    spectrum[0, 0] = 0.0
    noise = np.fft.irfft2(spectrum, s=(px, px))
    return noise / noise.std()


def plain(colour: tuple[float, float, float], grain: Float64Array, strength: float = 0.04) -> Paint:
    """Return `colour` with `grain` on it."""
    return np.asarray(colour) * (1.0 + strength * grain[..., None])


def metres(px: int, extent_m: tuple[float, float]) -> tuple[Float64Array, Float64Array]:
    """Return x (1, px) and y (px, 1) of the texel centres, metres from the tile's top left."""
    centres = (np.arange(px) + 0.5) / px
    return centres[None] * extent_m[0], centres[:, None] * extent_m[1]


def inside(
    px: int, extent_m: tuple[float, float], x0: float, y0: float, x1: float, y1: float
) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Return the mask of a rectangle given in metres from the tile's top left."""
    x, y = metres(px, extent_m)
    return (x >= x0) & (x < x1) & (y >= y0) & (y < y1)


def laid(
    rng: np.random.Generator,
    px: int,
    extent_m: tuple[float, float],
    unit_m: tuple[float, float],
    joint_m: float,
    *,
    bond: float = 0.5,
    spread: float = 0.12,
) -> tuple[Float64Array, Float64Array]:
    """Return the tone of each laid unit (about 1) and the share of joint per texel, both (px, px).

    Units of `unit_m` fill the tile a whole number of times; every other course is shifted by `bond` units.
    """
    x, y = metres(px, extent_m)
    columns, rows = round(extent_m[0] / unit_m[0]), round(extent_m[1] / unit_m[1])
    row = np.floor(y / unit_m[1]).astype(int) % rows
    along = x / unit_m[0] + bond * (row % 2)
    column = np.floor(along).astype(int) % columns
    tone = 1.0 + spread * rng.standard_normal((rows, columns))[row, column]
    across = y / unit_m[1] % 1.0
    to_side = np.minimum(along % 1.0, 1.0 - along % 1.0) * unit_m[0]
    to_bed = np.minimum(across, 1.0 - across) * unit_m[1]
    texel = max(extent_m) / px
    joint = np.clip((joint_m / 2 - np.minimum(to_side, to_bed)) / texel + 0.5, 0.0, 1.0)
    return tone, joint


def grouted(base: Paint, joint: Float64Array, colour: tuple[float, float, float]) -> Paint:
    """Return `base` with the joints in `colour`."""
    return base * (1.0 - joint[..., None]) + np.asarray(colour) * joint[..., None]
