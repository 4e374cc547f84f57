"""Which surface each pixel sees, and how far: exact ray intersections, one part at a time in its bounding box.

Everything is done in inverse z-depth: with rays r = R (x, y, 1) that have a z of 1 in the camera, the inverse
depth of a plane is affine in the pixel, the nearest surface has the largest value, and sky is 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vlm3data.synth.packed import PackedWorld
from vlm3data.synth.runs import Runs, runs_of
from vlm3data.synth.screen import Affine, Mask, Window, grid, windows
from vlm3data.types import Camera, Float32Array, Float64Array, Int64Array


@dataclass(frozen=True, slots=True)
class Traced:
    """`inverse_depth` (h, w) in 1/m and the number of the surface seen; pixel counts."""

    inverse_depth: Float32Array
    surface: npt.NDArray[np.int16]
    runs: Runs
    surface_px: Int64Array
    """Pixels in which each surface is seen with a known depth; a run is known where its first pixel is."""
    alone_px: Int64Array
    """Pixels in which each thing would be seen if nothing stood before it."""
    foot_windows: Int64Array
    """(things, 4) x0, y0, x1, y1 of the ground around each."""


@dataclass(frozen=True, slots=True)
class _Canvas:
    """One view and what its rays have met so far."""

    x: Float32Array
    y: Float32Array
    eye_m: Float64Array
    rotation: Float64Array
    """World from camera."""
    planes: Affine
    """Inverse depth of the planes."""
    faces: Affine
    """Inverse depth of the faces of the blocks in view."""
    number: list[int]
    """The surfaces that `faces` belong to; of each block, those that look at the camera come first."""
    sides: dict[int, tuple[int, int, int]]
    """Per block in view, where in `faces` it starts, where the faces begin that look away, and where it ends."""
    posts: Affine
    """Per post three components of the rays: towards its axis, across that, and up."""
    nearest: Float32Array
    surface: npt.NDArray[np.int16]
    claimed: npt.NDArray[np.int16]
    """The thing that last met each ray, met or hidden; counts things of several parts once."""
    alone_px: Int64Array

    def count(self, window: Window, hit: Mask, thing: int, packed: PackedWorld) -> None:
        """Count the pixels in which a part of `thing` is hit; the parts of one thing follow each other."""
        if thing < 0:
            return
        if packed.num_parts[thing] > 1:
            claimed = self.claimed[window]
            hit = hit & (claimed != thing)
            np.copyto(claimed, thing, where=hit)
        self.alone_px[thing] += np.count_nonzero(hit)

    def put(self, window: Window, inverse: Float32Array, surface: int) -> None:
        """Keep `inverse` (0 or less: no hit) where it is nearest."""
        nearest = self.nearest[window]
        np.copyto(self.surface[window], surface, where=inverse > nearest)
        np.maximum(nearest, inverse, out=nearest)


def trace(packed: PackedWorld, camera: Camera, world_from_cam: Float64Array, far_m: float) -> Traced:
    """Return what `camera` sees of the world; what is beyond `far_m` does not count as seen."""
    rotation, eye = world_from_cam[:3, :3], world_from_cam[:3, 3]
    num_blocks, num_balls = len(packed.world.blocks), len(packed.world.balls)
    corners = rotation.T @ (packed.corners - eye[:, None])
    all_boxes = windows(corners.reshape(3, 8, -1), camera)
    boxes, foot_windows = np.split(all_boxes, [len(packed.by_thing)])
    canvas = _canvas(packed, camera, world_from_cam, boxes[:num_blocks])
    for i, window in _planes_in_view(canvas.planes):
        inverse = canvas.planes.at(i, window)
        # Sky must stay beyond `far_m` even in the corner of a very wide view.
        canvas.put(window, np.minimum(inverse, 0.99 / far_m) if packed.world.planes[i].is_sky else inverse, i)
    in_view = (boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3])
    bounds = boxes.tolist()
    for part in packed.by_thing[in_view[packed.by_thing]].tolist():
        x0, y0, x1, y1 = bounds[part]
        window = (slice(y0, y1), slice(x0, x1))
        if part < num_blocks:
            _block(canvas, packed, part, window)
        elif part < num_blocks + num_balls:
            _ball(canvas, packed, part - num_blocks, window)
        else:
            _post(canvas, packed, part - num_blocks - num_balls, window)
    runs = runs_of(canvas.surface)
    known_px = runs.length * (canvas.nearest.ravel()[runs.start] >= 1.0 / far_m)
    surface_px = np.bincount(runs.surface, known_px, len(packed.material)).astype(np.int64)
    return Traced(canvas.nearest, canvas.surface, runs, surface_px, canvas.alone_px, foot_windows)


def _planes_in_view(planes: Affine) -> list[tuple[int, Window]]:
    """Return the planes that are nearest somewhere, and the rows in which they may be seen."""
    ends = planes.rows[..., None] + planes.columns[:, None, [0, -1]]
    corners = ends[:, [0, -1]].reshape(-1, 4)
    # Where another plane is nearer in all four corners, it is nearer everywhere.
    hidden = np.any((corners > corners[:, None]).all(2), axis=1)
    found: list[tuple[int, Window]] = []
    for i in np.flatnonzero(~hidden & (corners > 0).any(1)).tolist():
        rows = np.flatnonzero((ends[i] > 0).any(1))
        found.append((i, (slice(int(rows[0]), int(rows[-1]) + 1), slice(None))))
    return found


def _canvas(packed: PackedWorld, camera: Camera, world_from_cam: Float64Array, boxes: Int64Array) -> _Canvas:
    """Return an empty canvas for a pose from which the blocks are seen in windows `boxes`."""
    shape = camera.height_px, camera.width_px
    rotation, eye = world_from_cam[:3, :3], world_from_cam[:3, 3]
    x, y = grid(camera)
    gap = packed.offset_m - packed.normal @ eye
    inverse = (packed.normal @ rotation) / np.where(np.abs(gap) < 1e-9, 1e-9, gap)[:, None]
    first = len(packed.world.planes)
    blocks = np.flatnonzero((boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3]))
    # Faces that look at the camera come first in each block; an underside in the ground is not needed.
    behind = gap[first : first + 6 * len(boxes)].reshape(-1, 6)[blocks] >= 0
    number = np.argsort(behind, 1, kind="stable") + (first + 6 * blocks[:, None])
    front = 6 - behind.sum(1)
    count = 6 - packed.grounded[blocks]
    sides = {
        block: (6 * k, 6 * k + enters, 6 * k + leaves)
        for k, (block, enters, leaves) in enumerate(zip(blocks.tolist(), front.tolist(), count.tolist(), strict=True))
    }
    return _Canvas(
        x=x,
        y=y,
        eye_m=eye,
        rotation=rotation,
        planes=Affine.of(inverse[:first], x, y),
        faces=Affine.of(inverse[number.ravel()], x, y),
        number=number.ravel().tolist(),
        sides=sides,
        posts=Affine.of(_post_axes(packed, eye) @ rotation, x, y),
        nearest=np.zeros(shape, np.float32),
        surface=np.zeros(shape, np.int16),
        claimed=np.full(shape, -1, np.int16),
        alone_px=np.zeros(len(packed.world.things), np.int64),
    )


def _post_axes(packed: PackedWorld, eye_m: Float64Array) -> Float64Array:
    """Return three rows a post: the level unit vectors towards it and across that, and the one that points up."""
    to = packed.round_origin_m[len(packed.world.balls) :, :2] - eye_m[:2]
    to = to / np.maximum(np.hypot(to[:, 0], to[:, 1]), 1e-6)[:, None]
    axes = np.zeros((len(to), 3, 3))
    axes[:, 0, :2] = to
    axes[:, 1, 0], axes[:, 1, 1] = to[:, 1], -to[:, 0]
    axes[:, 2, 2] = 1.0
    return axes.reshape(-1, 3)


def _block(canvas: _Canvas, packed: PackedWorld, index: int, window: Window) -> None:
    """Enter through the farthest of the faces that look at the camera, leave through the nearest other."""
    first, middle, end = canvas.sides[index]
    front = middle - first
    if not front:
        return
    faces = canvas.faces.at(slice(first, end), window)
    enter = np.minimum.reduce(faces[:front]) if front > 1 else faces[0]
    leave = np.maximum.reduce(faces[front:])
    thing = packed.world.blocks[index].thing
    if thing >= 0:
        hit = enter > leave
        hit &= enter > 0
        canvas.count(window, hit, thing, packed)
    nearest, surface = canvas.nearest[window], canvas.surface[window]
    np.maximum(leave, nearest, out=leave)
    closer = enter > leave
    np.copyto(nearest, enter, where=closer)
    np.copyto(surface, canvas.number[first], where=closer)
    for face in range(1, front):
        np.copyto(surface, canvas.number[first + face], where=closer & (faces[face] == enter))


def _ball(canvas: _Canvas, packed: PackedWorld, index: int, window: Window) -> None:
    """Solve |t r - c|^2 = R^2 in the camera's axes for 1/t."""
    ball = packed.world.balls[index]
    to_ball = np.asarray(ball.centre_m) - canvas.eye_m
    outside = to_ball @ to_ball - ball.radius_m**2
    a, b, c = (to_ball @ canvas.rotation / outside).astype(np.float32)
    x, y = canvas.x[window[1]], canvas.y[window[0]]
    along = a * x + (b * y + c)[:, None]
    square = x * x + (y * y + np.float32(1.0))[:, None]
    square /= np.float32(outside)
    under = along * along
    under -= square
    hit = under > 0
    hit &= along > 0
    np.maximum(under, 0.0, out=under)
    inverse = np.sqrt(under, out=under)
    inverse += along
    if ball.centre_m[2] < ball.radius_m:
        # What is under the ground is no part of the object, and would count as hidden.
        a, b, c = canvas.rotation[2].astype(np.float32)
        hit &= a * x + (b * y + c)[:, None] >= -np.float32(canvas.eye_m[2]) * inverse
    inverse *= hit
    canvas.count(window, hit, ball.thing, packed)
    canvas.put(window, inverse, packed.num_flat + index)


def _post(canvas: _Canvas, packed: PackedWorld, index: int, window: Window) -> None:
    """Meet the side as a circle seen from above, cut at the height of its ends; then the top."""
    post = packed.world.posts[index]
    x, y, low = (np.asarray(post.base_m) - canvas.eye_m).tolist()
    high, radius, far = low + post.height_m, post.radius_m, math.hypot(x, y)
    outside = far * far - radius * radius
    along, across, up = canvas.posts.at(slice(3 * index, 3 * index + 3), window)
    across_square = across * across
    if outside > 0:
        # The root's argument without the difference of large numbers.
        under = along * along
        under *= (radius / outside) ** 2
        under -= across_square * (1.0 / outside)
        hit = under > 0
        hit &= along > 0
        np.maximum(under, 0.0, out=under)
        inverse = np.sqrt(under, out=under)
        inverse += along * (far / outside)
        hit &= up >= low * inverse
        hit &= up <= high * inverse
        inverse *= hit
        canvas.count(window, hit, post.thing, packed)
        canvas.put(window, inverse, packed.num_flat + len(packed.world.balls) + index)
    if high < 0:
        inverse = up * (1.0 / high)
        off = along - far * inverse
        off *= off
        off += across_square
        hit = off <= (radius * inverse) ** 2
        hit &= inverse > 0
        inverse *= hit
        canvas.count(window, hit, post.thing, packed)
        canvas.put(window, inverse, len(packed.world.planes) + 6 * len(packed.world.blocks) + index)
