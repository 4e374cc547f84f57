"""Which frames of a scene see the same surfaces: covisibility of many pairs, from small depth maps and poses.

A known pixel of one frame is seen by another if its point lies before that camera, inside its image, and at the
depth that the other's map holds there. As in MapAnything's covisibility (depth maps reduced by the nearest
pixel, lifted, projected, compared with the nearest value), with the tolerance taken from the source's own
`depth_noise` in place of fixed metres, so that scenes without a metric scale work alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vlm3data.geometry.camera import project, rays, with_size
from vlm3data.geometry.pose import invert_pose
from vlm3data.types import Camera, Float32Array, Float64Array, Int64Array

POINTS = 512
"""Known pixels of a frame that are looked for in the others; a share is then good to about two percent."""

_CHUNK = 64
"""Frames handled at a time: what is computed for them stays in the processor's cache."""
_MAX_SLACK = 0.5
"""Inverse depth may change by this share at most from a small map's sample to the edge of its pixel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lowres:
    """The geometry of one frame in a small pinhole image, as `lowres` makes it."""

    camera: Camera
    near_m: Float32Array
    """(h, w) the nearest z-depth that the surface seen at a pixel has anywhere in it; NaN where unknown."""
    far_m: Float32Array
    """(h, w) the farthest, likewise."""
    points_m: Float32Array
    """(3, POINTS) known pixels, spread over the image, lifted into the camera's frame; NaN beyond as many as known."""
    world_from_cam: Float64Array


def lowres(
    depth_m: npt.NDArray[np.floating], camera: Camera, world_from_cam: npt.ArrayLike, long_side_px: int = 64
) -> Lowres:
    """Return the geometry of a frame with z-depth `depth_m` (h, w) of `camera`, NaN unknown.

    The small image is a pinhole's: a lens is undone, and what it shows beyond a straight picture left out.
    Values are taken from the nearest pixel, never averaged over a depth edge. What the surface's depth can be
    within a small pixel follows from its slope to either side, the gentler one, so that an edge of an object
    does not count as a slope.
    """
    if depth_m.shape != (camera.height_px, camera.width_px):
        raise ValueError(f"depth {depth_m.shape}, camera {camera.width_px}x{camera.height_px}")
    small = _reduced(camera, long_side_px)
    centres = np.stack(np.meshgrid(np.arange(small.width_px) + 0.5, np.arange(small.height_px) + 0.5), axis=-1)
    at_px = np.nan_to_num(project(camera, rays(small, centres)), nan=-1.0)
    column, row = np.moveaxis(np.floor(at_px).astype(np.int64), -1, 0)
    inside = (column >= 0) & (column < camera.width_px) & (row >= 0) & (row < camera.height_px)
    sampled = np.where(inside, depth_m[np.where(inside, row, 0), np.where(inside, column, 0)], np.nan)
    inverse = 1.0 / sampled.astype(np.float64)

    # A sample lies up to half a source pixel off its small pixel's centre, and that half a pixel off the edge.
    reach = [0.5 + 0.5 * small.width_px / camera.width_px, 0.5 + 0.5 * small.height_px / camera.height_px]
    slack = reach[0] * _gentler_slope(inverse) + reach[1] * _gentler_slope(inverse.T).T
    slack = np.minimum(slack, _MAX_SLACK * inverse)

    known = np.flatnonzero(np.isfinite(inverse))
    chosen = known[_spread(len(known))]
    pixel = np.stack([column.flat[chosen], row.flat[chosen]], axis=1) + 0.5
    points = np.full((3, POINTS), np.nan, np.float32)
    points[:, : len(chosen)] = (rays(camera, pixel) * sampled.flat[chosen][:, None]).T
    return Lowres(
        camera=small,
        near_m=(1.0 / (inverse + slack)).astype(np.float32),
        far_m=(1.0 / (inverse - slack)).astype(np.float32),
        points_m=points,
        world_from_cam=np.asarray(world_from_cam, np.float64),
    )


def _reduced(camera: Camera, long_side_px: int) -> Camera:
    """Return the pinhole camera of the same view, no larger than `long_side_px`."""
    scale = min(1.0, long_side_px / max(camera.width_px, camera.height_px))
    width_px, height_px = max(1, round(camera.width_px * scale)), max(1, round(camera.height_px * scale))
    return with_size(camera, (width_px, height_px))


def _gentler_slope(values: Float64Array) -> Float64Array:
    """Return (h, w) the smaller absolute difference to the left and right neighbour; 0 where both are unknown."""
    step = np.pad(np.abs(np.diff(values, axis=1)), ((0, 0), (1, 1)), constant_values=np.nan)
    return np.nan_to_num(np.fmin(step[:, :-1], step[:, 1:]), nan=0.0)


def _spread(count: int) -> Int64Array:
    """Return up to POINTS numbers below `count`, one from each of equal ranges, at places that form no pattern."""
    if count <= POINTS:
        return np.arange(count)
    order = np.arange(POINTS)
    golden = 0.6180339887498949
    return ((order + order * golden % 1.0) * (count / POINTS)).astype(np.int64)


class Covisibility:
    """The frames of one scene, stacked once so that each can be compared with all of them at the cost of arrays."""

    def __init__(self, frames: Sequence[Lowres], noise: tuple[float, float]) -> None:
        """Take the frames and the source's `depth_noise` (metres, share); without metric scale metres must be 0.

        Two depths agree within the noise of both, that is twice (metres + share * depth).
        """
        metres, share = noise
        self.world_from_cam = np.stack([frame.world_from_cam for frame in frames])
        self.cam_from_world = np.stack([invert_pose(frame.world_from_cam) for frame in frames])
        self.pixel_from_cam = np.stack([_matrix(frame.camera) for frame in frames])
        self.points_m = np.stack([frame.points_m for frame in frames])
        self.known = np.isfinite(self.points_m[:, 2]).sum(axis=1)
        self.size_px = np.array([(frame.camera.width_px, frame.camera.height_px) for frame in frames])
        self.first = np.concatenate([[0], np.cumsum(self.size_px.prod(axis=1))])[:-1]
        near_m = np.concatenate([frame.near_m.ravel() for frame in frames])
        far_m = np.concatenate([frame.far_m.ravel() for frame in frames])
        self.low_m = near_m - 2 * (np.float32(metres) + np.float32(share) * near_m)
        self.high_m = far_m + 2 * (np.float32(metres) + np.float32(share) * far_m)
        self.centre_m, self.radius_m = _spheres(self.points_m)
        self.inward, self.deepest_m = self._frustums()

    def __len__(self) -> int:
        return len(self.known)

    def of(self, anchor: int) -> tuple[Float64Array, Float64Array]:
        """Return forward (n,), the share of the anchor's known pixels that each frame sees, and backward (n,).

        Backward is the share of each frame's known pixels that the anchor sees. A frame without a known pixel
        has a share of NaN.
        """
        everyone = np.arange(len(self))
        them_from_anchor = self.cam_from_world @ self.world_from_cam[anchor]
        anchor_from_them = self.cam_from_world[anchor] @ self.world_from_cam
        forward, backward = np.zeros(len(self)), np.zeros(len(self))

        ahead = self._may_see(everyone, them_from_anchor, np.full(len(self), anchor))
        for some in _chunks(np.flatnonzero(ahead)):
            pixel_from_anchor = _float32(self.pixel_from_cam[some] @ them_from_anchor[some, :3])
            moved = (pixel_from_anchor[:, :, :3].reshape(-1, 3) @ self.points_m[anchor]).reshape(3, len(some), -1)
            forward[some] = self._seen(moved, pixel_from_anchor[:, :, 3:], some)

        behind = self._may_see(np.full(len(self), anchor), anchor_from_them, everyone)
        for some in _chunks(np.flatnonzero(behind)):
            pixel_from_them = _float32(self.pixel_from_cam[anchor] @ anchor_from_them[some, :3])
            moved = np.empty((3, len(some), POINTS), np.float32)
            np.matmul(pixel_from_them[:, :, :3].swapaxes(0, 1), self.points_m[some], out=moved.swapaxes(0, 1))
            backward[some] = self._seen(moved, pixel_from_them[:, :, 3:], np.full(len(some), anchor))
        with np.errstate(invalid="ignore"):
            return forward / np.float64(self.known[anchor]), backward / self.known

    def _seen(self, moved: Float32Array, shift: Float32Array, viewers: Int64Array) -> Int64Array:
        """Return how many points each viewer sees; `moved` + `shift` (3, m, points): x·z and y·z in its pixels, z."""
        x, y, z = np.add(moved, shift, out=moved)
        width, height = self.size_px[viewers].T
        wide, high = width[:, None].astype(np.float32), height[:, None].astype(np.float32)
        # x >= 0 and x < width * z together say that z > 0.
        inside = (x >= 0) & (x < wide * z) & (y >= 0) & (y < high * z)
        per_viewer = np.count_nonzero(inside, axis=1)
        depth_m = z[inside]
        # The division may round up to the image's end.
        column = np.minimum((x[inside] / depth_m).astype(np.int64), np.repeat(width - 1, per_viewer))
        row = np.minimum((y[inside] / depth_m).astype(np.int64), np.repeat(height - 1, per_viewer))
        cell = np.repeat(self.first[viewers], per_viewer) + row * np.repeat(width, per_viewer) + column
        agrees = (self.low_m[cell] < depth_m) & (depth_m < self.high_m[cell])
        return np.bincount(np.repeat(np.arange(len(viewers)), per_viewer)[agrees], minlength=len(viewers))

    def _may_see(self, viewers: Int64Array, viewer_from_seen: Float64Array, seen: Int64Array) -> npt.NDArray[np.bool_]:
        """Tell, a pair, whether the sphere around one's points reaches into the other's field of view.

        Where it does not, no point is seen; nothing else is left out.
        """
        centre = np.einsum("nij,nj->ni", viewer_from_seen[:, :3, :3], self.centre_m[seen]) + viewer_from_seen[:, :3, 3]
        radius = self.radius_m[seen]
        beside = np.einsum("nij,nj->ni", self.inward[viewers], centre) < -radius[:, None]
        return ~beside.any(axis=1) & (centre[:, 2] - radius < self.deepest_m[viewers])

    def _frustums(self) -> tuple[Float64Array, Float64Array]:
        """Return the unit normals (n, 4, 3) of the sides of each field of view, inward, and the largest depth in it."""
        x, y, z = np.moveaxis(self.pixel_from_cam, 1, 0)
        width, height = self.size_px[:, :1], self.size_px[:, 1:]
        sides = np.stack([x, width * z - x, y, height * z - y], axis=1)
        deepest = np.maximum.reduceat(np.nan_to_num(self.high_m, nan=0.0), self.first)
        return sides / np.linalg.norm(sides, axis=2, keepdims=True), deepest.astype(np.float64)


def covisible(
    anchor: Lowres, others: Sequence[Lowres], noise: tuple[float, float]
) -> tuple[Float64Array, Float64Array]:
    """Return `Covisibility.of` an anchor that need not be among `others`: forward (n,) and backward (n,).

    For many anchors of one scene stack its frames once, in a `Covisibility`.
    """
    forward, backward = Covisibility([anchor, *others], noise).of(0)
    return forward[1:], backward[1:]


def choose_partner(
    forward: npt.ArrayLike,
    backward: npt.ArrayLike,
    rng: np.random.Generator,
    *,
    itself: int | None = None,
    bins: int = 5,
    low: float = 0.25,
    high: float = 0.95,
) -> int | None:
    """Return the number of a frame to pair an anchor with, or None where none fits.

    The overlap of a pair is the smaller of its two shares. It must be over `low` (MapAnything keeps pairs over
    0.25) and not over `high`: views that show the same both ways are nearly one view, from which neither a
    movement nor a correspondence is to be learnt. First one of the `bins` equal ranges of overlap is drawn, of
    those that hold any frame, then a frame in it: else the many easy neighbours in a video would crowd out the
    rest. `itself` is the anchor's own number, which is never drawn.
    """
    overlap = np.minimum(forward, backward)
    fits = (overlap > low) & (overlap <= high)
    if itself is not None:
        fits[itself] = False
    candidates = np.flatnonzero(fits)
    if not len(candidates):
        return None
    bin_of = np.ceil((overlap[candidates] - low) / (high - low) * bins)
    return int(rng.choice(candidates[bin_of == rng.choice(np.unique(bin_of))]))


def _matrix(camera: Camera) -> Float64Array:
    """Return K (3, 3), from camera axes to pixels."""
    return np.array([[camera.fx_px, 0, camera.cx_px], [0, camera.fy_px, camera.cy_px], [0, 0, 1.0]])


def _float32(pixel_from_cam: Float64Array) -> Float32Array:
    """Return (m, 3, 4) matrices as (3, m, 4): a row of the result is then one stretch of memory."""
    return np.ascontiguousarray(pixel_from_cam.swapaxes(0, 1), np.float32)


def _spheres(points_m: Float32Array) -> tuple[Float64Array, Float64Array]:
    """Return centres (n, 3) and radii (n,) of spheres around points (n, 3, m); an empty one has radius 0."""
    lowest, highest = np.fmin.reduce(points_m, axis=2), np.fmax.reduce(points_m, axis=2)
    centre = np.nan_to_num((lowest.astype(np.float64) + highest) / 2)
    distance = np.linalg.norm(points_m - centre[:, :, None], axis=1)
    return centre, np.nan_to_num(distance, nan=0.0).max(axis=1) * (1 + 1e-6)


def _chunks(numbers: Int64Array) -> list[Int64Array]:
    return [numbers[start : start + _CHUNK] for start in range(0, len(numbers), _CHUNK)]
