"""Text coordinates: pixels and boxes as integers on a grid relative to the image that the model sees."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from vlm3data.geometry.camera import project, rays
from vlm3data.geometry.focal import Align
from vlm3data.types import Camera, Float64Array, Int64Array

_POINTS_PER_EDGE = 9


def to_grid(xy_px: npt.ArrayLike, size_px: tuple[int, int], grid: int = 2000) -> Int64Array:
    """Return the grid coordinates (n, 2) of pixels `xy_px` (n, 2) in an image of `size_px` (width, height).

    round(x·grid/W), half to even, at most grid - 1; continuous pixels are floored to labels first.
    """
    label_px = np.floor(np.asarray(xy_px, float))
    return np.minimum(np.rint(label_px * grid / size_px), grid - 1).astype(np.int64)


def from_grid(grid_xy: npt.ArrayLike, size_px: tuple[int, int], grid: int = 2000) -> Int64Array:
    """Return the pixel labels (n, 2) of grid coordinates (n, 2): round(n·W/grid), half to even.

    Undoes `to_grid` exactly while the image is no larger than the grid. In an image much smaller than it, the
    last coordinates name the pixel just past the edge.
    """
    return np.rint(np.asarray(grid_xy, float) * size_px / grid).astype(np.int64)


def box_to_grid(
    box_px: tuple[float, float, float, float],
    source_camera: Camera,
    target_camera: Camera,
    *,
    scale: tuple[float, float],
    crop_xy_px: tuple[int, int],
    align: Align,
    grid: int = 1000,
) -> tuple[int, int, int, int] | None:
    """Return (x1, y1, x2, y2) on 0..grid of a box in source pixels; None where less than half stays in view.

    With `align="none"` the original box over the original size, as released: rounding it to pixels in
    between would differ by one. Otherwise, and for a distorted camera, whose picture is straightened, the
    outline is moved with the pixels, boxed again and clipped to the target image.
    """
    if align == "none" and source_camera.distortion is None:
        corners, size_px = np.reshape(box_px, (2, 2)), (source_camera.width_px, source_camera.height_px)
    else:
        outline = _outline(np.reshape(box_px, (2, 2)))
        if source_camera.distortion is not None:
            outline = project(replace(source_camera, distortion=None), rays(source_camera, outline))
        moved = outline * scale - crop_xy_px
        # fmin and fmax pass over the NaN of points outside the lens model.
        corners = np.stack([np.fmin.reduce(moved), np.fmax.reduce(moved)])
        size_px = (target_camera.width_px, target_camera.height_px)
    kept = np.clip(corners, 0, size_px)
    area, kept_area = np.prod(corners[1] - corners[0]), np.prod(kept[1] - kept[0])
    if not 2 * kept_area >= area > 0:
        return None
    x1, y1, x2, y2 = np.rint(kept * grid / size_px).astype(int).ravel().tolist()
    return x1, y1, x2, y2


def _outline(corners: Float64Array) -> Float64Array:
    """Return points (n, 2) along the four edges: straightening bends them, so corners are not enough."""
    t = np.linspace(0.0, 1.0, _POINTS_PER_EDGE)
    unit = [(a, b) for edge in (0.0, 1.0) for a, b in [*((v, edge) for v in t), *((edge, v) for v in t)]]
    return corners[0] + np.array(unit) * (corners[1] - corners[0])
