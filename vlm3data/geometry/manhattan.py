"""The focal length from line segments of a scene whose edges follow three directions at right angles; pure numpy.

The images of parallel edges meet in a vanishing point. Those of two orthogonal directions, v1 and v2, tell the focal
length about the principal point c: f² = -(v1 - c)·(v2 - c) (Caprile and Torre, IJCV 1990). Hypotheses are drawn from
pairs of segments, scored by the segments that point at one of the three vanishing points, and the best are refined
over rotation and focal length together. Square pixels and a known principal point are assumed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vlm3data.types import Float64Array

HYPOTHESES = 2000
REFINED = 12
STEPS = 10
TOLERANCE = np.sin(np.radians(2.0))
"""How far a segment may point beside a vanishing point and still count for it a little."""
FOCAL_RANGE = (0.35, 6.0)
"""Half diagonals of the image: fields of view from 141 to 19 degrees."""
END_NOISE_PX = 0.5
FLOOR = np.sin(np.radians(0.3))
"""What a segment's direction is good to: its ends' noise over its length, and no better than this."""
DEPENDENT = 2.0
"""By how much the scatter is widened: the edges of one wall err together. Found on photographs with known cameras."""
CENTRE = 0.02
"""What a principal point that is not quite in the middle does to the focal length, as a share."""


@dataclass(frozen=True, slots=True)
class Manhattan:
    """A focal length and what speaks for it."""

    focal_px: float
    focal_sigma_rel: float
    share: float
    """Of the segments' length, how much the three vanishing points explain."""
    counts: tuple[int, int, int]
    """Segments that point at each of the vanishing points, most first."""


def focal_from_segments(
    segments_px: npt.ArrayLike, centre_px: tuple[float, float], half_diagonal_px: float, rng: np.random.Generator
) -> Manhattan | None:
    """Return the focal length that (n, 4) segments [x1, y1, x2, y2] tell; None where no hypothesis can be drawn.

    `focal_sigma_rel` is large where the segments do not tell it, as where a wall is seen head-on.
    """
    ends = np.asarray(segments_px, np.float64).reshape(-1, 2, 2)
    lines = _Lines.of((ends - centre_px) / half_diagonal_px, END_NOISE_PX / half_diagonal_px)
    rotations, focals = _drawn(lines, rng)
    if not len(focals):
        return None
    scores = lines.scores(rotations, focals)
    best = np.argsort(-scores, kind="stable")[:REFINED]
    refined = [_refined(lines, rotations[i], float(np.log(focals[i]))) for i in best]
    final = lines.scores(np.stack([turn for turn, _, _ in refined]), np.exp([log_f for _, log_f, _ in refined]))
    winner = int(np.argmax(final))
    rotation, log_focal, formal = refined[winner]
    rivals = np.array(
        [log_f for (_, log_f, _), score in zip(refined, final, strict=True) if score > 0.9 * final[winner]]
    )
    spread = float(np.sqrt(np.mean((rivals - log_focal) ** 2)))
    hits = lines.beside(rotation[None], np.exp([log_focal]))[0]
    nearest, explained = hits.argmin(axis=1), hits.min(axis=1) < TOLERANCE
    counts = sorted((int(np.count_nonzero(explained & (nearest == axis))) for axis in range(3)), reverse=True)
    return Manhattan(
        focal_px=float(np.exp(log_focal)) * half_diagonal_px,
        focal_sigma_rel=float(np.hypot(DEPENDENT * np.hypot(formal, spread), CENTRE)),
        share=float(lines.length[explained].sum() / lines.length.sum()),
        counts=(counts[0], counts[1], counts[2]),
    )


@dataclass(frozen=True, slots=True)
class _Lines:
    """Segments in units of the half diagonal about the principal point."""

    middle: Float64Array
    normal: Float64Array
    """(n, 2) unit vectors across them."""
    length: Float64Array
    through: Float64Array
    """(n, 3) homogeneous lines."""
    sigma: Float64Array
    """(n,) what the sine of their direction is good to."""

    @classmethod
    def of(cls, ends: Float64Array, noise: float) -> _Lines:
        along = ends[:, 1] - ends[:, 0]
        length = np.hypot(along[:, 0], along[:, 1])
        normal = np.stack([-along[:, 1], along[:, 0]], axis=1) / length[:, None]
        middle = ends.mean(axis=1)
        through = np.column_stack([normal, -(normal * middle).sum(axis=1)])
        return cls(middle, normal, length, through, np.hypot(FLOOR, 2 * noise / length))

    def beside(self, rotations: Float64Array, focals: Float64Array) -> Float64Array:
        """Return (m, n, 3): the sine by which each segment points beside each vanishing point."""
        return np.abs(self.signed(rotations, focals))

    def signed(self, rotations: Float64Array, focals: Float64Array) -> Float64Array:
        x, y = (rotations[:, axis, None, :] * focals[:, None, None] for axis in (0, 1))
        z = rotations[:, 2, None, :]
        to_x = x - z * self.middle[None, :, 0, None]
        to_y = y - z * self.middle[None, :, 1, None]
        across = to_x * self.normal[None, :, 0, None] + to_y * self.normal[None, :, 1, None]
        return across / np.maximum(np.hypot(to_x, to_y), 1e-9)

    def scores(self, rotations: Float64Array, focals: Float64Array) -> Float64Array:
        """Return (m,): the length that points at a vanishing point, less where it points beside it."""
        found = np.empty(len(focals))
        for first in range(0, len(focals), 500):  # so many at once stay in the cache
            part = slice(first, first + 500)
            off = self.beside(rotations[part], focals[part]).min(axis=2) / TOLERANCE
            found[part] = np.maximum(0, 1 - off**2) @ self.length
        return found


def _drawn(lines: _Lines, rng: np.random.Generator) -> tuple[Float64Array, Float64Array]:
    """Return rotations (m, 3, 3), whose columns are the three directions, and focal lengths (m,)."""
    count = len(lines.length)
    if count < 4:
        return np.empty((0, 3, 3)), np.empty(0)
    four = rng.choice(count, (HYPOTHESES, 4), p=lines.length / lines.length.sum())
    one = np.cross(lines.through[four[:, 0]], lines.through[four[:, 1]])
    two = np.cross(lines.through[four[:, 2]], lines.through[four[:, 3]])
    with np.errstate(divide="ignore", invalid="ignore"):
        squared = -(one[:, :2] * two[:, :2]).sum(axis=1) / (one[:, 2] * two[:, 2])
    low, high = FOCAL_RANGE
    with np.errstate(invalid="ignore"):
        kept = (squared > low**2) & (squared < high**2)
    focals = np.sqrt(squared[kept])
    first, second = (_unit(np.column_stack([v[kept, :2] / focals[:, None], v[kept, 2]])) for v in (one, two))
    return np.stack([first, second, np.cross(first, second)], axis=2), focals


def _refined(lines: _Lines, rotation: Float64Array, log_focal: float) -> tuple[Float64Array, float, float]:
    """Return rotation, log focal length and the latter's standard deviation after a few Gauss-Newton steps."""
    sigma = np.inf
    for _ in range(STEPS):
        off = lines.signed(rotation[None], np.exp([log_focal]))[0]
        axis = np.abs(off).argmin(axis=1)
        rows = np.arange(len(axis))
        residual = off[rows, axis]
        weight = np.maximum(0, 1 - (residual / TOLERANCE) ** 2) ** 2 / lines.sigma**2
        jacobian = np.empty((len(axis), 4))
        for parameter in range(4):
            step = np.zeros(4)
            step[parameter] = 1e-5
            after, before = (
                lines.signed(_turned(rotation, sign * step[:3])[None], np.exp([log_focal + sign * step[3]]))[0]
                for sign in (1, -1)
            )
            jacobian[:, parameter] = (after[rows, axis] - before[rows, axis]) / 2e-5
        normal = jacobian.T @ (weight[:, None] * jacobian) + np.diag([1e-6] * 3 + [1.0])  # a focal length within e
        step = np.linalg.solve(normal, -jacobian.T @ (weight * residual))
        step *= min(1, 0.2 / max(float(np.abs(step).max()), 1e-12))
        rotation, log_focal = _turned(rotation, step[:3]), log_focal + float(step[3])
        used = weight > 0
        freedom = max(int(used.sum()) - 4, 1)
        excess = max(1.0, float((weight * residual**2).sum()) / freedom)
        sigma = float(np.sqrt(np.linalg.inv(normal)[3, 3] * excess))
        low, high = np.log(FOCAL_RANGE)
        log_focal = float(np.clip(log_focal, low, high))
    return rotation, log_focal, sigma


def _turned(rotation: Float64Array, by: Float64Array) -> Float64Array:
    """Return `rotation` turned by a small rotation vector, orthonormal."""
    x, y, z = by
    turned = rotation + np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ rotation
    q, r = np.linalg.qr(turned)
    return q * np.sign(np.diag(r))


def _unit(vectors: Float64Array) -> Float64Array:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
