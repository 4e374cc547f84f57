"""Which surface each pixel sees, and how far: exact ray intersections, one part at a time in its bounding box.

Everything is done in inverse z-depth: with rays r = R (x, y, 1) that have a z of 1 in the camera, the inverse
depth of a plane is affine in the pixel, the nearest surface has the largest value, and sky is 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vlm3data.sources._synthetic.packed import PackedWorld
from vlm3data.types import Camera, Float32Array, Float64Array, Int64Array

NEAR_M = 0.02
_EDGES = np.array([[0, 1], [0, 2], [0, 4], [1, 3], [1, 5], [2, 3], [2, 6], [3, 7], [4, 5], [4, 6], [5, 7], [6, 7]])


@dataclass(frozen=True, slots=True)
class Traced:
    """`inverse_depth` (h, w) in 1/m and the number of the surface seen; per thing, pixel counts."""

    inverse_depth: Float32Array
    surface: npt.NDArray[np.int16]
    seen_px: Int64Array
    """Pixels in which each thing is seen with a known depth."""
    alone_px: Int64Array
    """Pixels in which it would be seen if nothing stood before it."""


@dataclass(frozen=True, slots=True)
class _Canvas:
    """The rays of one view and what they have met so far."""

    x: Float32Array
    y: Float32Array
    rotation: Float64Array
    centre_m: Float64Array
    ray: tuple[Float32Array, ...]
    """World components of the rays, three of (h, w)."""
    nearest: Float32Array
    surface: npt.NDArray[np.int16]
    claimed: npt.NDArray[np.int16]
    """The thing that last met each ray, met or hidden; counts things of several parts once."""
    alone_px: Int64Array

    def put(self, window: tuple[slice, slice], inverse: Float32Array, surface: object, thing: int) -> None:
        """Keep `inverse` (0 or less: no hit) where it is nearest."""
        if thing >= 0:
            claimed = self.claimed[window]
            fresh = (inverse > 0) & (claimed != thing)
            self.alone_px[thing] += np.count_nonzero(fresh)
            claimed[fresh] = thing
        nearest = self.nearest[window]
        closer = inverse > nearest
        np.copyto(nearest, inverse, where=closer)
        np.copyto(self.surface[window], surface, where=closer)  # type: ignore[arg-type]


def affine(coefficients: Float64Array, x: Float32Array, y: Float32Array) -> Float32Array:
    """Return a x + b y + c over a grid, for coefficients (3,) or (n, 3)."""
    a, b, c = np.moveaxis(coefficients.astype(np.float32)[..., None], -2, 0)
    return (b * y + c)[..., :, None] + (a * x)[..., None, :]


def windows(corners_m: Float64Array, camera: Camera) -> Int64Array:
    """Return x0, y0, x1, y1 per part, the pixels that may see it, from its corners (n, 8, 3) in the camera."""
    z = corners_m[..., 2]
    start, end = corners_m[:, _EDGES[:, 0]], corners_m[:, _EDGES[:, 1]]
    crosses = (start[..., 2] < NEAR_M) != (end[..., 2] < NEAR_M)
    rise = np.where(crosses, end[..., 2] - start[..., 2], 1.0)
    cut = start + (end - start) * ((NEAR_M - start[..., 2]) / rise)[..., None]
    points = np.concatenate([corners_m, cut], 1)
    known = np.concatenate([z >= NEAR_M, crosses], 1)[..., None]
    depth = np.where(known, points[..., 2:], 1.0)
    focal = np.array([camera.fx_px, camera.fy_px])
    pixel = points[..., :2] / depth * focal + [camera.cx_px, camera.cy_px]
    size = np.array([camera.width_px, camera.height_px])
    low = np.where(known, pixel, np.inf).min(1)
    high = np.where(known, pixel, -np.inf).max(1)
    low = np.clip(np.floor(low), 0, size)
    high = np.clip(np.ceil(high), 0, size)
    return np.concatenate([low, high], 1).astype(np.int64)


def trace(packed: PackedWorld, camera: Camera, world_from_cam: Float64Array, far_m: float) -> Traced:
    """Return what `camera` sees of the world; what is beyond `far_m` does not count as seen."""
    height, width = camera.height_px, camera.width_px
    rotation, centre = world_from_cam[:3, :3], world_from_cam[:3, 3]
    x = ((np.arange(width) + 0.5 - camera.cx_px) / camera.fx_px).astype(np.float32)
    y = ((np.arange(height) + 0.5 - camera.cy_px) / camera.fy_px).astype(np.float32)
    canvas = _Canvas(
        x=x,
        y=y,
        rotation=rotation,
        centre_m=centre,
        ray=tuple(affine(rotation, x, y)),
        nearest=np.zeros((height, width), np.float32),
        surface=np.zeros((height, width), np.int16),
        claimed=np.full((height, width), -1, np.int16),
        alone_px=np.zeros(len(packed.world.things), np.int64),
    )
    gap = packed.offset_m - packed.normal @ centre
    gap = np.where(np.abs(gap) < 1e-9, 1e-9, gap)
    # Inverse depth of every flat surface, affine in (x, y, 1).
    flat = (packed.normal @ rotation) / gap[:, None]

    everywhere = (slice(None), slice(None))
    for i in range(len(packed.world.planes)):
        canvas.put(everywhere, affine(flat[i], x, y), i, -1)
    boxes = windows((packed.corners - centre) @ rotation, camera)
    num_blocks, num_balls = len(packed.world.blocks), len(packed.world.balls)
    for part in np.flatnonzero((boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3])).tolist():
        x0, y0, x1, y1 = boxes[part].tolist()
        window = (slice(y0, y1), slice(x0, x1))
        if part < num_blocks:
            _block(canvas, packed, part, window, gap, flat)
        elif part < num_blocks + num_balls:
            _ball(canvas, packed, part - num_blocks, window)
        else:
            _post(canvas, packed, part - num_blocks - num_balls, window, gap, flat)

    things = packed.thing[canvas.surface.ravel()]
    counts = (things >= 0) & (canvas.nearest.ravel() >= 1.0 / far_m)
    seen = np.bincount(things[counts], minlength=len(packed.world.things))
    return Traced(canvas.nearest, canvas.surface, seen, canvas.alone_px)


def _block(
    canvas: _Canvas,
    packed: PackedWorld,
    index: int,
    window: tuple[slice, slice],
    gap: Float64Array,
    flat: Float64Array,
) -> None:
    """Enter through the farthest of the faces that look at the camera, leave through the nearest other."""
    first = len(packed.world.planes) + 6 * index
    facing = gap[first : first + 6] < 0
    front = np.flatnonzero(facing) + first
    if not len(front):
        return
    order = np.concatenate([front, np.flatnonzero(~facing) + first])
    inverse = affine(flat[order], canvas.x[window[1]], canvas.y[window[0]])
    enter, face = inverse[0], np.full(inverse.shape[1:], front[0], np.int16)
    for candidate, surface in zip(inverse[1:], front[1:], strict=False):
        farther = candidate < enter
        face[farther] = surface
        enter = np.minimum(enter, candidate)
    leave = inverse[len(front) :].max(0)
    enter[enter <= leave] = 0.0
    canvas.put(window, enter, face, packed.world.blocks[index].thing)


def _ball(canvas: _Canvas, packed: PackedWorld, index: int, window: tuple[slice, slice]) -> None:
    """Solve |t r - c|^2 = R^2 in the camera's axes for 1/t."""
    ball = packed.world.balls[index]
    centre = (np.asarray(ball.centre_m) - canvas.centre_m) @ canvas.rotation
    x, y = canvas.x[window[1]], canvas.y[window[0]]
    along = affine(centre, x, y)
    square = (y * y + np.float32(1.0))[:, None] + (x * x)[None]
    outside = np.float32(centre @ centre - ball.radius_m**2)
    under = along * along - square * outside
    inverse = (along + np.sqrt(np.maximum(under, 0.0))) / outside
    # What is under the ground is no part of the object, and would count as hidden.
    buried = canvas.ray[2][window] < -np.float32(canvas.centre_m[2]) * inverse
    inverse[(under <= 0) | (along <= 0) | buried] = 0.0
    canvas.put(window, inverse, packed.num_flat + index, ball.thing)


def _post(
    canvas: _Canvas,
    packed: PackedWorld,
    index: int,
    window: tuple[slice, slice],
    gap: Float64Array,
    flat: Float64Array,
) -> None:
    """Meet the side as a circle seen from above, cut at the height of its ends; then the top."""
    post = packed.world.posts[index]
    radius = np.float32(post.radius_m)
    ray_x, ray_y, ray_z = (component[window] for component in canvas.ray)
    to_base = np.asarray(post.base_m) - canvas.centre_m
    base_x, base_y, low = (np.float32(part) for part in to_base)
    high = np.float32(to_base[2] + post.height_m)
    surface = packed.num_flat + len(packed.world.balls) + index
    outside = np.float32(to_base[0] ** 2 + to_base[1] ** 2 - post.radius_m**2)
    if outside > 0:
        along = ray_x * base_x + ray_y * base_y
        across = ray_x * base_y - ray_y * base_x
        # Equal to along^2 - |ray|^2 outside, but without the difference of large numbers.
        under = radius * radius * (ray_x * ray_x + ray_y * ray_y) - across * across
        inverse = (along + np.sqrt(np.maximum(under, 0.0))) / outside
        hit = (under > 0) & (along > 0) & (ray_z >= low * inverse) & (ray_z <= high * inverse)
        canvas.put(window, np.where(hit, inverse, np.float32(0.0)), surface, post.thing)
    top = len(packed.world.planes) + 6 * len(packed.world.blocks) + index
    if gap[top] < 0:
        inverse = affine(flat[top], canvas.x[window[1]], canvas.y[window[0]])
        from_x, from_y = ray_x - base_x * inverse, ray_y - base_y * inverse
        hit = from_x * from_x + from_y * from_y <= (radius * inverse) ** 2
        canvas.put(window, np.where(hit, inverse, np.float32(0.0)), top, post.thing)
