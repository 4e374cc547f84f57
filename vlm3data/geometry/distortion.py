"""Lens distortion of normalised points (x/z, y/z) and its inverse, for every model in `lenses`.

A lens polynomial folds back beyond some radius, where two rays would share a pixel. Only the region around
the axis in which it rises is valid; everything outside is NaN, in both directions.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from numpy.polynomial import polynomial

from vlm3data.geometry.lenses import Lens, lens_of
from vlm3data.types import Distortion, Float64Array

_NEWTON_STEPS = 50
_RESIDUAL = 1e-12

_Jacobian = tuple[Float64Array, Float64Array, Float64Array, Float64Array]
"""dx/dx, dx/dy, dy/dx, dy/dy."""


def distort(distortion: Distortion, xy: npt.ArrayLike) -> Float64Array:
    """Return where the lens images the ideal normalised points `xy` (n, 2); NaN outside the valid region.

    Raises ValueError for an unknown model or a wrong number of parameters.
    """
    lens, max_radius = lens_of(distortion)
    points = np.asarray(xy, float)
    if lens.bend:
        points = _with_radius(points, lens.bend.to)
    with np.errstate(all="ignore"):  # far outside the valid region the polynomials overflow
        distorted, jacobian = _apply(lens, points)
        return np.where(_valid(points, jacobian, max_radius), distorted, np.nan)


def undistort(distortion: Distortion, xy: npt.ArrayLike) -> Float64Array:
    """Return the ideal normalised points (n, 2) that `distort` takes to `xy`, to 1e-12; NaN where none is.

    Newton's method, started just below the solution of the radial part, which keeps it on the rising branch.
    """
    lens, max_radius = lens_of(distortion)
    target = np.asarray(xy, float)
    with np.errstate(all="ignore"):  # points without a solution wander off; they are NaN in the end
        points = _radial_start(lens, target, max_radius)
        for _ in range(_NEWTON_STEPS):
            distorted, (xx, xy_, yx, yy) = _apply(lens, points)
            error = distorted - target
            step = np.stack(
                [yy * error[..., 0] - xy_ * error[..., 1], xx * error[..., 1] - yx * error[..., 0]], axis=-1
            )
            step /= (xx * yy - xy_ * yx)[..., None]
            points = points - step
            if not np.any(np.abs(step) > 1e-15 * (1 + np.abs(points))):
                break
        distorted, jacobian = _apply(lens, points)
        residual = np.linalg.norm(distorted - target, axis=-1, keepdims=True)
        solved = residual <= _RESIDUAL * (1 + np.linalg.norm(target, axis=-1, keepdims=True))
        points = np.where(solved & _valid(points, jacobian, max_radius), points, np.nan)
    return _with_radius(points, lens.bend.back) if lens.bend else points


def _apply(lens: Lens, points: Float64Array) -> tuple[Float64Array, _Jacobian]:
    """Return the distorted points of bent ones, and the derivatives."""
    x, y = points[..., 0], points[..., 1]
    q = x * x + y * y
    n, d = polynomial.polyval(q, lens.numerator), polynomial.polyval(q, lens.denominator)
    n_slope = polynomial.polyval(q, polynomial.polyder(lens.numerator))
    d_slope = polynomial.polyval(q, polynomial.polyder(lens.denominator))
    gain, gain_slope = n / d, (n_slope * d - n * d_slope) / d**2
    radial = np.stack([x * gain, y * gain], axis=-1)
    cross = 2 * x * y * gain_slope
    xx, yy = gain + 2 * x * x * gain_slope, gain + 2 * y * y * gain_slope
    if not (lens.p1 or lens.p2 or any(lens.s)):
        return radial, (xx, cross, cross, yy)
    if not lens.staged:
        shift, (axx, axy, ayx, ayy) = _aside(lens, x, y)
        return radial + shift, (xx + axx, cross + axy, cross + ayx, yy + ayy)
    shift, (axx, axy, ayx, ayy) = _aside(lens, radial[..., 0], radial[..., 1])
    axx, ayy = 1 + axx, 1 + ayy
    return radial + shift, (
        axx * xx + axy * cross,
        axx * cross + axy * yy,
        ayx * xx + ayy * cross,
        ayx * cross + ayy * yy,
    )


def _aside(lens: Lens, x: Float64Array, y: Float64Array) -> tuple[Float64Array, _Jacobian]:
    """Return what the terms that are not radial add at (x, y), and its derivatives."""
    q = x * x + y * y
    p1, p2, (s0, s1, s2, s3) = lens.p1, lens.p2, lens.s
    shift = np.stack(
        [
            2 * p1 * x * y + p2 * (q + 2 * x * x) + (s0 + s1 * q) * q,
            2 * p2 * x * y + p1 * (q + 2 * y * y) + (s2 + s3 * q) * q,
        ],
        axis=-1,
    )
    across, down = 2 * (s0 + 2 * s1 * q), 2 * (s2 + 2 * s3 * q)
    return shift, (
        2 * p1 * y + 6 * p2 * x + across * x,
        2 * p1 * x + 2 * p2 * y + across * y,
        2 * p1 * x + 2 * p2 * y + down * x,
        6 * p1 * y + 2 * p2 * x + down * y,
    )


def _valid(points: Float64Array, jacobian: _Jacobian, max_radius: float) -> npt.NDArray[np.bool_]:
    xx, xy, yx, yy = jacobian
    return ((np.linalg.norm(points, axis=-1) < max_radius) & (xx * yy > xy * yx))[..., None]


def _radial_start(lens: Lens, target: Float64Array, max_radius: float) -> Float64Array:
    """Return points just below the solution without the terms that are not radial, from a table of the curve."""
    radius = np.linalg.norm(target, axis=-1, keepdims=True)
    reach = np.nanmax(radius, initial=0.0)
    end = min(max_radius, 2 * reach + 1e-9)

    def curve(r: Float64Array) -> Float64Array:
        return r * polynomial.polyval(r * r, lens.numerator) / polynomial.polyval(r * r, lens.denominator)

    while end < max_radius and curve(np.array(end)) < reach:
        end = min(max_radius, 2 * end)
    table = np.linspace(0.0, end, 512)
    below = np.searchsorted(curve(table[:-1]), radius, side="right") - 1
    return np.where(radius > 0, target * (table[below] / radius), target)


def _with_radius(points: Float64Array, change: Callable[[Float64Array], Float64Array]) -> Float64Array:
    radius = np.linalg.norm(points, axis=-1, keepdims=True)
    return points * np.divide(change(radius), radius, out=np.ones_like(radius), where=radius > 0)
