"""Which blur before OpenCV's bicubic makes it a proper reduction; the kernels `warp` uses.

OpenCV's bicubic (a = -0.75) looks at 4x4 pixels however much an image shrinks, so it aliases. Pillow
stretches its bicubic (a = -0.5) by the reduction, which is right but five times slower. A symmetric kernel of
3 or 5 taps before OpenCV's comes close to Pillow's (over 44 dB on photographs); the taps are a least-squares
fit. Near scale 1 they are not needed: there linear interpolation by itself gives over 41 dB (median 49), no
worse than the JPEG encoding that follows, at half the time. Far below 1 linear interpolation will do as well, with
taps of its own: what they leave is so smooth that a straight line between neighbours follows it (over 44 dB on
photographs, one or two less than the bicubic, at half the time).
"""

from __future__ import annotations

import math
from functools import lru_cache, partial

import numpy as np
import numpy.typing as npt

from vlm3data.types import Float64Array

Complex128Array = npt.NDArray[np.complex128]

LINEAR_FROM = 0.75
"""From this scale up to 1, linear interpolation without a blur will do."""

LINEAR_UP_TO = 0.45
"""Up to this scale, after the reduction by whole pixels, linear interpolation behind its own taps will do."""

_PHASES = 16


def area_reduction(scale: float) -> int:
    """Return by how much to reduce by whole-pixel averages first: the rest is then between 1/3 and 1."""
    return max(1, round(0.5 / scale))


def interpolates_linearly(scale: float) -> bool:
    """Tell whether linear interpolation is good enough at `scale`, rather than bicubic."""
    return LINEAR_FROM <= scale < 1 or scale * area_reduction(scale) <= LINEAR_UP_TO


@lru_cache(maxsize=1024)
def taps(scale: float, *, linear: bool = False) -> Float64Array:
    """Return the kernel, summing to 1, for the image already reduced by `area_reduction(scale)`.

    It is for OpenCV's bicubic, or for its linear interpolation. It is [1] from scale 1 on. For each position of a
    new pixel between the old ones, the weights that old pixels get from Pillow's filter are fitted by those from
    average, taps and interpolation together, in the frequency domain and weighted by 1/f, the amplitude spectrum
    of photographs.
    """
    if scale >= 1:
        return np.ones(1)
    cell_px = area_reduction(scale)
    reach = 1 if scale >= 0.4 else 2  # three taps do above, five are needed below
    half = math.ceil(2 / scale) + cell_px * (reach + 3)
    pixel = np.arange(-half, half + 1)
    frequency = np.fft.rfftfreq(len(pixel))
    spectrum = 1 / np.maximum(frequency, 1 / 64)
    between = _linear if linear else partial(_bicubic, a=-0.75)
    equations: list[Complex128Array] = []
    wanted: list[Complex128Array] = []
    for centre_px in (np.arange(_PHASES) + 0.5) / _PHASES * cell_px:
        pillow = _bicubic((pixel + 0.5 - centre_px) * scale, a=-0.5)
        cell = np.floor(pixel / cell_px) + 0.5 - centre_px / cell_px
        untouched = between(cell) / cell_px
        # Each tap adds a pair of shifted copies and takes them from the middle, which keeps the sum at 1.
        pairs = [(between(cell - tap) + between(cell + tap)) / cell_px - 2 * untouched for tap in range(1, reach + 1)]
        equations.append(spectrum[:, None] * np.fft.rfft(pairs).T)
        wanted.append(spectrum * np.fft.rfft(pillow / pillow.sum() - untouched))
    a, b = np.concatenate(equations), np.concatenate(wanted)
    side = np.linalg.lstsq(np.concatenate([a.real, a.imag]), np.concatenate([b.real, b.imag]))[0]
    return np.concatenate([side[::-1], [1 - 2 * side.sum()], side])


def _linear(x: Float64Array) -> Float64Array:
    return np.maximum(0.0, 1 - np.abs(x))


def _bicubic(x: Float64Array, a: float) -> Float64Array:
    """Keys' cubic convolution kernel."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    return np.where(x < 1, near, np.where(x < 2, ((a * x - 5 * a) * x + 8 * a) * x - 4 * a, 0.0))
