"""What the parameters of each lens model mean, all of them in one form that `distortion` computes with.

A point is bent (a fisheye's radius is the ray's angle, not its tangent), its radius multiplied by N(q)/D(q), q = |p|²,
and moved by terms that are not radial: p1 and p2 of a decentred lens, s of a tilted or thin-prism one.

Sources: OpenCV's calib3d and cv2.fisheye for their models; COLMAP's camera models (src/colmap/sensor/models.h) for
those that carry its names; Project Aria's documentation of Fisheye624 for rad_tan_thin_prism_fisheye.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.polynomial import polynomial

from vlm3data.types import Distortion, Float64Array


class Bend(NamedTuple):
    """A change of the radius before the polynomial, its inverse, and the bent radius that no ray reaches."""

    to: Callable[[Float64Array], Float64Array]
    back: Callable[[Float64Array], Float64Array]
    limit: float


FISHEYE = Bend(np.arctan, np.tan, np.pi / 2)


@dataclass(frozen=True, slots=True)
class Lens:
    """N and D by ascending powers of q, what is not radial, and how the radius is bent first."""

    numerator: tuple[float, ...] = (1.0,)
    denominator: tuple[float, ...] = (1.0,)
    p1: float = 0.0
    p2: float = 0.0
    s: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    """x moves by s[0] q + s[1] q², y by s[2] q + s[3] q²."""
    bend: Bend | None = None
    staged: bool = False
    """Whether the terms that are not radial take the point as the radial part has left it."""

    @property
    def max_radius(self) -> float:
        """The first bent radius where the slope of r·N/D is zero or D is, or that no ray reaches."""
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
        return min([*(1 / np.sqrt(real)), self.bend.limit if self.bend else np.inf])


@lru_cache(maxsize=256)
def lens_of(distortion: Distortion) -> tuple[Lens, float]:
    """Return the lens and its `max_radius`; ValueError for an unknown model or a wrong number of parameters."""
    if distortion.model not in _MODELS:
        raise ValueError(f"unknown distortion {distortion.model!r}; known: {', '.join(_MODELS)}")
    try:
        lens = _MODELS[distortion.model](*distortion.params)
    except TypeError as error:
        raise ValueError(f"wrong number of parameters: {distortion} ({error})") from None
    return lens, lens.max_radius


def _brown_conrady(k1: float, k2: float, p1: float, p2: float, *more: float) -> Lens:
    if len(more) not in (0, 1, 4):
        raise TypeError("4, 5 or 8 parameters")
    k3, k4, k5, k6 = (*more, 0.0, 0.0, 0.0, 0.0)[:4]
    return Lens((1.0, k1, k2, k3), (1.0, k4, k5, k6), p1, p2)


def _simple_radial(k: float) -> Lens:
    return Lens((1.0, k))


def _radial(k1: float, k2: float) -> Lens:
    return Lens((1.0, k1, k2))


def _opencv(k1: float, k2: float, p1: float, p2: float) -> Lens:
    return Lens((1.0, k1, k2), p1=p1, p2=p2)


def _full_opencv(k1: float, k2: float, p1: float, p2: float, k3: float, k4: float, k5: float, k6: float) -> Lens:
    return _brown_conrady(k1, k2, p1, p2, k3, k4, k5, k6)


def _opencv_fisheye(k1: float, k2: float, k3: float, k4: float) -> Lens:
    return Lens((1.0, k1, k2, k3, k4), bend=FISHEYE)


def _simple_radial_fisheye(k: float) -> Lens:
    return Lens((1.0, k), bend=FISHEYE)


def _radial_fisheye(k1: float, k2: float) -> Lens:
    return Lens((1.0, k1, k2), bend=FISHEYE)


def _thin_prism_fisheye(
    k1: float, k2: float, p1: float, p2: float, k3: float, k4: float, sx1: float, sy1: float
) -> Lens:
    return Lens((1.0, k1, k2, k3, k4), p1=p1, p2=p2, s=(sx1, 0.0, sy1, 0.0), bend=FISHEYE)


def _rad_tan_thin_prism_fisheye(
    k0: float, k1: float, k2: float, k3: float, k4: float, k5: float,
    p0: float, p1: float, s0: float, s1: float, s2: float, s3: float,
) -> Lens:  # fmt: skip
    # p0 goes with x² here, which for OpenCV p2 does
    return Lens((1.0, k0, k1, k2, k3, k4, k5), p1=p1, p2=p0, s=(s0, s1, s2, s3), bend=FISHEYE, staged=True)


def _fov(omega: float) -> Lens:
    """Devernay and Faugeras' model: the distorted radius is atan(2 r tan(ω/2)) / ω."""
    if not abs(omega) < math.pi:
        raise ValueError(f"a field of view of {omega} rad: it must be under 180 degrees")
    if omega == 0:
        return Lens()
    half = math.tan(omega / 2)
    bend = Bend(
        lambda r: np.arctan(2 * half * r) / omega, lambda r: np.tan(omega * r) / (2 * half), np.pi / 2 / abs(omega)
    )
    return Lens(bend=bend)


_MODELS: dict[str, Callable[..., Lens]] = {
    "brown_conrady": _brown_conrady,
    "simple_radial": _simple_radial,
    "radial": _radial,
    "opencv": _opencv,
    "full_opencv": _full_opencv,
    "fov": _fov,
    "opencv_fisheye": _opencv_fisheye,
    "simple_radial_fisheye": _simple_radial_fisheye,
    "radial_fisheye": _radial_fisheye,
    "thin_prism_fisheye": _thin_prism_fisheye,
    "rad_tan_thin_prism_fisheye": _rad_tan_thin_prism_fisheye,
}
