"""Lens distortion of normalised points (x/z, y/z) and its inverse.

One form serves every model: p·N(q)/D(q) plus the tangential terms, q = |p|², as in OpenCV's calib3d. A
fisheye (Kannala-Brandt, cv2.fisheye) is the same polynomial of the *angle* θ off the axis: its points are
first written as θ times their direction.

A lens polynomial folds back beyond some radius, where two rays would share a pixel. Only the region around
the axis in which it rises is valid; everything outside is NaN, in both directions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from numpy.polynomial import polynomial

from vlm3data.types import Distortion, Float64Array

_NEWTON_STEPS = 50
_RESIDUAL = 1e-12


@dataclass(frozen=True, slots=True)
class _Lens:
    """N and D by ascending powers of q, the tangential terms, and the radius at which the model folds."""

    numerator: tuple[float, ...]
    denominator: tuple[float, ...] = (1.0,)
    p1: float = 0.0
    p2: float = 0.0
    fisheye: bool = False

    @property
    def max_radius(self) -> float:
        """The first radius where the slope of r·N/D is zero or D is; for a fisheye at most 90° off axis."""
        n, d = self.numerator, self.denominator
        times_q = (0.0, 2.0)
        slope = polynomial.polysub(
            polynomial.polymul(polynomial.polyadd(n, polynomial.polymul(times_q, polynomial.polyder(n))), d),
            polynomial.polymul(polynomial.polymul(times_q, n), polynomial.polyder(d)),
        )
        # np.roots takes the highest power first, so these are roots in 1/q; it divides by N(0) = D(0) = 1,
        # while dividing by a tiny last coefficient would cost roots in q all their digits.
        inverse = np.concatenate([np.roots(slope), np.roots(d)])
        real = inverse.real[(np.abs(inverse.imag) <= 1e-9 * np.abs(inverse)) & (inverse.real > 0)]
        return min([*(1 / np.sqrt(real)), np.pi / 2 if self.fisheye else np.inf])


def _brown_conrady(k1: float, k2: float, p1: float, p2: float, *more: float) -> _Lens:
    if len(more) not in (0, 1, 4):
        raise TypeError("4, 5 or 8 parameters")
    k3, k4, k5, k6 = (*more, 0.0, 0.0, 0.0, 0.0)[:4]
    return _Lens((1.0, k1, k2, k3), (1.0, k4, k5, k6), p1, p2)


def _simple_radial(k: float) -> _Lens:
    return _Lens((1.0, k))


def _radial(k1: float, k2: float) -> _Lens:
    return _Lens((1.0, k1, k2))


def _opencv(k1: float, k2: float, p1: float, p2: float) -> _Lens:
    return _Lens((1.0, k1, k2), p1=p1, p2=p2)


def _opencv_fisheye(k1: float, k2: float, k3: float, k4: float) -> _Lens:
    return _Lens((1.0, k1, k2, k3, k4), fisheye=True)


_MODELS: dict[str, Callable[..., _Lens]] = {
    "brown_conrady": _brown_conrady,
    "simple_radial": _simple_radial,
    "radial": _radial,
    "opencv": _opencv,
    "opencv_fisheye": _opencv_fisheye,
}


@lru_cache(maxsize=256)
def _lens(distortion: Distortion) -> tuple[_Lens, float]:
    if distortion.model not in _MODELS:
        raise ValueError(f"unknown distortion {distortion.model!r}; known: {', '.join(_MODELS)}")
    try:
        lens = _MODELS[distortion.model](*distortion.params)
    except TypeError as error:
        raise ValueError(f"wrong number of parameters: {distortion} ({error})") from None
    return lens, lens.max_radius


def distort(distortion: Distortion, xy: npt.ArrayLike) -> Float64Array:
    """Return where the lens images the ideal normalised points `xy` (n, 2); NaN outside the valid region.

    Raises ValueError for an unknown model or a wrong number of parameters.
    """
    lens, max_radius = _lens(distortion)
    points = np.asarray(xy, float)
    if lens.fisheye:
        points = _with_radius(points, np.arctan)
    with np.errstate(all="ignore"):  # far outside the valid region the polynomials overflow
        distorted, jacobian = _apply(lens, points)
        return np.where(_valid(points, jacobian, max_radius), distorted, np.nan)


def undistort(distortion: Distortion, xy: npt.ArrayLike) -> Float64Array:
    """Return the ideal normalised points (n, 2) that `distort` takes to `xy`, to 1e-12; NaN where none is.

    Newton's method, started just below the solution of the radial part, which keeps it on the rising branch.
    """
    lens, max_radius = _lens(distortion)
    target = np.asarray(xy, float)
    with np.errstate(all="ignore"):  # points without a solution wander off; they are NaN in the end
        points = _radial_start(lens, target, max_radius)
        for _ in range(_NEWTON_STEPS):
            distorted, (xx, xy_, yy) = _apply(lens, points)
            error = distorted - target
            step = np.stack(
                [yy * error[..., 0] - xy_ * error[..., 1], xx * error[..., 1] - xy_ * error[..., 0]], axis=-1
            )
            step /= (xx * yy - xy_**2)[..., None]
            points = points - step
            if not np.any(np.abs(step) > 1e-15 * (1 + np.abs(points))):
                break
        distorted, jacobian = _apply(lens, points)
        residual = np.linalg.norm(distorted - target, axis=-1, keepdims=True)
        solved = residual <= _RESIDUAL * (1 + np.linalg.norm(target, axis=-1, keepdims=True))
        points = np.where(solved & _valid(points, jacobian, max_radius), points, np.nan)
    return _with_radius(points, np.tan) if lens.fisheye else points


def _apply(lens: _Lens, points: Float64Array) -> tuple[Float64Array, tuple[Float64Array, ...]]:
    """Return the distorted points and their derivatives (dx/dx, dx/dy = dy/dx, dy/dy)."""
    x, y = points[..., 0], points[..., 1]
    q = x * x + y * y
    n, d = polynomial.polyval(q, lens.numerator), polynomial.polyval(q, lens.denominator)
    n_slope = polynomial.polyval(q, polynomial.polyder(lens.numerator))
    d_slope = polynomial.polyval(q, polynomial.polyder(lens.denominator))
    gain, gain_slope = n / d, (n_slope * d - n * d_slope) / d**2
    p1, p2 = lens.p1, lens.p2
    distorted = np.stack(
        [
            x * gain + 2 * p1 * x * y + p2 * (q + 2 * x * x),
            y * gain + 2 * p2 * x * y + p1 * (q + 2 * y * y),
        ],
        axis=-1,
    )
    return distorted, (
        gain + 2 * x * x * gain_slope + 2 * p1 * y + 6 * p2 * x,
        2 * x * y * gain_slope + 2 * p1 * x + 2 * p2 * y,
        gain + 2 * y * y * gain_slope + 6 * p1 * y + 2 * p2 * x,
    )


def _valid(points: Float64Array, jacobian: tuple[Float64Array, ...], max_radius: float) -> npt.NDArray[np.bool_]:
    xx, xy, yy = jacobian
    return ((np.linalg.norm(points, axis=-1) < max_radius) & (xx * yy > xy * xy))[..., None]


def _radial_start(lens: _Lens, target: Float64Array, max_radius: float) -> Float64Array:
    """Return points just below the solution without tangential terms, from a table of the radial curve."""
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
