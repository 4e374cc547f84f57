"""Give every image the same focal length: the camera's side of it (`warp` moves the pixels)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from vlm3data.geometry.camera import project, rays
from vlm3data.types import Camera, Drop, Int64Array, Move

FocalMode = Literal["uniform", "square", "none"]
Align = Literal["crop", "pad", "none"]

MAX_PIXELS = 2**27
"""Eight times what the stock Qwen3-VL processor takes; a larger image means that the intrinsics are wrong."""
_FAR_OUTSIDE_PX = 2**31

_NEW_SIZE: dict[str, Callable[[float], int]] = {"uniform": int, "square": round, "none": int}


def focal_scale(camera: Camera, focal_px: float, mode: FocalMode = "uniform") -> tuple[float, float]:
    """Return (sx, sy), new pixels per old, with which `unify_focal` scales; unrounded."""
    if mode not in _NEW_SIZE:
        raise ValueError(f"unknown focal mode {mode!r}; known: {', '.join(_NEW_SIZE)}")
    if not focal_px > 0:
        raise ValueError(f"the focal length must be positive, not {focal_px} px")
    if mode == "none":
        return 1.0, 1.0
    sx = focal_px / camera.fx_px
    sy = sx if mode == "uniform" else focal_px / camera.fy_px
    if not (math.isfinite(sx) and math.isfinite(sy)):
        raise Drop("image_too_large", f"focal length {camera.fx_px:.3g} px brought to {focal_px:.3g} px")
    return sx, sy


def unify_focal(camera: Camera, focal_px: float = 1000.0, mode: FocalMode = "uniform") -> Camera:
    """Return the pinhole camera of the same view with focal length `focal_px`; undistorted.

    `uniform` (released depth and object data): one scale focal/fx, size rounded down, fy keeps its ratio to
    fx. `square` (released pose data): a scale per axis, size rounded to nearest, fx = fy = focal. `none` keeps size
    and focal lengths, whatever `focal_px`: for comparison. The principal point scales by the unrounded factors.
    Raises Drop: image_too_small where no pixel is left, image_too_large beyond `MAX_PIXELS`.
    """
    sx, sy = focal_scale(camera, focal_px, mode)
    size = _NEW_SIZE[mode]
    if not (camera.width_px * sx) * (camera.height_px * sy) <= MAX_PIXELS:
        raise Drop("image_too_large", f"{camera.width_px}x{camera.height_px} at scale {sx:.3g}, {sy:.3g}")
    width_px, height_px = size(camera.width_px * sx), size(camera.height_px * sy)
    if min(width_px, height_px) == 0:
        raise Drop("image_too_small", f"{camera.width_px}x{camera.height_px} at scale {sx:.3g}, {sy:.3g}")
    if mode == "none":
        return replace(camera, distortion=None)
    return Camera(
        fx_px=focal_px,
        # fy·s, written so that fy = fx stays exactly so.
        fy_px=focal_px if mode == "square" else focal_px * (camera.fy_px / camera.fx_px),
        cx_px=camera.cx_px * sx,
        cy_px=camera.cy_px * sy,
        width_px=width_px,
        height_px=height_px,
    )


def move_of(
    camera: Camera,
    focal_px: float = 1000.0,
    mode: FocalMode = "uniform",
    align: Align = "crop",
    multiple: int = 32,
    *,
    published: bool = False,
) -> Move:
    """Return how the image of `camera` moves to `focal_px` and whole patches; raises as the two steps do."""
    scale = focal_scale(camera, focal_px, mode)
    unified = unify_focal(camera, focal_px, mode)
    target, crop_xy_px = align_to_patches(unified, align, multiple)
    return Move(camera, unified, target, scale, crop_xy_px, published)


def align_to_patches(camera: Camera, align: Align = "crop", multiple: int = 32) -> tuple[Camera, tuple[int, int]]:
    """Return the camera with a size in whole patches of the model, and the crop's offset (x, y) in pixels.

    A pixel of the result is the old one minus the offset. `crop` cuts centred, at floor(excess / 2); `pad`
    adds centred, at offset -floor(missing / 2); `none` changes nothing. Raises Drop("image_too_small") where
    a crop would leave nothing.
    """
    width_px, x_px = _aligned(camera.width_px, align, multiple)
    height_px, y_px = _aligned(camera.height_px, align, multiple)
    if min(width_px, height_px) == 0:
        raise Drop("image_too_small", f"{camera.width_px}x{camera.height_px} is less than {multiple} px")
    moved = replace(
        camera,
        cx_px=camera.cx_px - x_px,
        cy_px=camera.cy_px - y_px,
        width_px=width_px,
        height_px=height_px,
    )
    return moved, (x_px, y_px)


def _aligned(size_px: int, align: Align, multiple: int) -> tuple[int, int]:
    """Return the aligned size and the offset of one axis."""
    aligned_px = {
        "crop": size_px // multiple * multiple,
        "pad": math.ceil(size_px / multiple) * multiple,
        "none": size_px,
    }
    if align not in aligned_px:
        raise ValueError(f"unknown alignment {align!r}; known: {', '.join(aligned_px)}")
    new_px = aligned_px[align]
    return new_px, (size_px - new_px) // 2 if align == "crop" else -((new_px - size_px) // 2)


def move_pixels(
    pixel_px: npt.ArrayLike,
    source_camera: Camera,
    scale: tuple[float, float],
    crop_xy_px: tuple[int, int],
    *,
    published: bool = False,
) -> Int64Array:
    """Return the integer labels (n, 2) that labels `pixel_px` (n, 2) of the source image become.

    The pixel that holds the moved centre: floor((u + 0.5)·s) - crop; `published` is the released
    int(u·s) - crop. A distorted camera's pixel is undistorted first. The result may lie outside the new image
    (its fractional last column is cut, undistortion moves corners out): the caller drops those. A pixel that
    no ray reaches becomes one very far outside.
    """
    centre_px = np.asarray(pixel_px) + 0.5
    if source_camera.distortion is not None:
        centre_px = project(replace(source_camera, distortion=None), rays(source_camera, centre_px))
    label_px = np.empty(centre_px.shape, np.int64)
    for axis in (0, 1):  # twice as fast as both at once
        moved = np.floor((centre_px[:, axis] - 0.5 if published else centre_px[:, axis]) * scale[axis])
        # fmax takes the number of a number and NaN.
        bounded = np.minimum(np.fmax(moved, -_FAR_OUTSIDE_PX), _FAR_OUTSIDE_PX)
        label_px[:, axis] = bounded.astype(np.int64) - crop_xy_px[axis]
    return label_px
