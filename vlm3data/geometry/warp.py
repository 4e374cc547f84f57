"""Move an image's pixels as `focal` moves its camera: resize, crop or pad, undistort, in one resampling."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from vlm3data.geometry.focal import Align, FocalMode, move_of
from vlm3data.geometry.lookup import source_pixels
from vlm3data.geometry.prefilter import LINEAR_FROM, area_reduction, interpolates_linearly, taps
from vlm3data.types import Camera, Drop, Float32Array, Int64Array, Move, UInt8Array

_Range = tuple[int, int]
"""First and last + 1 pixel of one axis."""


def unify_image(
    image: UInt8Array,
    camera: Camera,
    focal_px: float = 1000.0,
    mode: FocalMode = "uniform",
    align: Align = "crop",
    multiple: int = 32,
) -> tuple[UInt8Array, Camera, tuple[float, float], tuple[int, int]]:
    """Return the image (h, w, 3) at `focal_px`, its camera, the scale (sx, sy) and the crop's offset.

    Raises Drop: `image_size_mismatch` where image and camera disagree, `image_too_small` where nothing stays.
    """
    check_size(image, camera)
    move = move_of(camera, focal_px, mode, align, multiple)
    return moved_image(image, move), move.camera, move.scale, move.crop_xy_px


def check_size(image: UInt8Array, camera: Camera) -> None:
    """Raise Drop: image_size_mismatch, where image (h, w, 3) and camera disagree."""
    if image.shape[:2] != (camera.height_px, camera.width_px):
        raise Drop(
            "image_size_mismatch",
            f"image {image.shape[1]}x{image.shape[0]}, camera {camera.width_px}x{camera.height_px}",
        )


def moved_image(image: UInt8Array, move: Move) -> UInt8Array:
    """Return the image (h, w, 3) that `move.camera` sees, of one that `move.source_camera` took."""
    moved = resample(image, move.source_camera, move.camera, move.scale, move.crop_xy_px)
    # Where the unified size was rounded down, the rest of a pixel must not show in the padding.
    moved[:, move.unified.width_px - move.crop_xy_px[0] :] = 0
    moved[move.unified.height_px - move.crop_xy_px[1] :] = 0
    return moved


def resample(
    image: UInt8Array,
    source_camera: Camera,
    target_camera: Camera,
    scale: tuple[float, float],
    crop_xy_px: tuple[int, int],
) -> UInt8Array:
    """Return the pixels (h, w, 3), in memory of their own, that `target_camera` sees of `source_camera`'s image.

    Continuous source positions times exactly `scale`, minus `crop_xy_px`, are target positions. Black outside
    the scaled frame and, for a distorted source, where it would look over half a pixel outside its image.
    """
    columns = _visible(source_camera.width_px * scale[0], crop_xy_px[0], target_camera.width_px)
    rows = _visible(source_camera.height_px * scale[1], crop_xy_px[1], target_camera.height_px)
    if source_camera.distortion is None:
        part = _resized(image, scale)[
            slice(rows[0] + crop_xy_px[1], rows[1] + crop_xy_px[1]),
            slice(columns[0] + crop_xy_px[0], columns[1] + crop_xy_px[0]),
        ]
    else:
        part = _undistorted(image, source_camera, target_camera, scale, (columns, rows))
    if part.shape[:2] == (target_camera.height_px, target_camera.width_px):
        return part.copy() if np.may_share_memory(part, image) else part
    canvas = np.zeros((target_camera.height_px, target_camera.width_px, 3), np.uint8)
    canvas[slice(*rows), slice(*columns)] = part
    return canvas


def _visible(scaled_size: float, offset_px: int, target_size_px: int) -> _Range:
    """Return which target pixels of one axis lie in the scaled frame, which ends where cv2.resize ends it."""
    return max(0, -offset_px), min(target_size_px, round(scaled_size) - offset_px)


def _resized(image: UInt8Array, scale: tuple[float, float]) -> UInt8Array:
    if scale == (1.0, 1.0):
        return image
    smooth, (nx, ny) = _prefiltered(image, scale)
    # Given factors and no size, OpenCV steps by exactly 1/factor; given a size, by the rounded ratio.
    resized = cv2.resize(smooth, None, fx=scale[0] * nx, fy=scale[1] * ny, interpolation=_interpolation(scale))
    return np.asarray(resized, np.uint8)


def _interpolation(scale: tuple[float, float]) -> int:
    """Return how OpenCV interpolates: linearly where that is enough on both axes."""
    return cv2.INTER_LINEAR if all(map(interpolates_linearly, scale)) else cv2.INTER_CUBIC


def _undistorted(
    image: UInt8Array,
    source_camera: Camera,
    target_camera: Camera,
    scale: tuple[float, float],
    part: tuple[_Range, _Range],
) -> UInt8Array:
    smooth, (nx, ny) = _prefiltered(image, scale)
    map_x, map_y, outside = _maps(source_camera, target_camera, (nx, ny), part)
    moved = cv2.remap(smooth, map_x, map_y, _interpolation(scale), borderMode=cv2.BORDER_REPLICATE)
    moved.reshape(-1, 3)[outside] = 0
    return np.asarray(moved, np.uint8)


@lru_cache(maxsize=4)
def _maps(
    source_camera: Camera, target_camera: Camera, reduction: tuple[int, int], part: tuple[_Range, _Range]
) -> tuple[Float32Array, Float32Array, Int64Array]:
    """Return for cv2.remap where each target pixel of `part` comes from, and which (flat) come from outside.

    Cached because a source has few cameras and many images; eight bytes a pixel, so only a few.
    """
    columns, rows = (np.arange(*axis) + 0.5 for axis in part)
    x_px, y_px = source_pixels(source_camera, target_camera, columns, rows)
    inside = (x_px >= -0.5) & (x_px <= source_camera.width_px + 0.5)
    inside &= (y_px >= -0.5) & (y_px <= source_camera.height_px + 0.5)
    outside = np.flatnonzero(~inside)
    # OpenCV's maps count from the first pixel's centre.
    map_x, map_y = ((at / n - 0.5).astype(np.float32) for at, n in zip((x_px, y_px), reduction, strict=True))
    map_x.flat[outside] = map_y.flat[outside] = 0.0
    return map_x, map_y, outside


def _prefiltered(image: UInt8Array, scale: tuple[float, float]) -> tuple[UInt8Array, tuple[int, int]]:
    """Return the image without detail too fine for new pixels, and its whole-number reduction (nx, ny)."""
    nx, ny = area_reduction(scale[0]), area_reduction(scale[1])
    smooth = image
    if (nx, ny) != (1, 1):
        height, width = image.shape[:2]
        whole = cv2.copyMakeBorder(image, 0, -height % ny, 0, -width % nx, cv2.BORDER_REPLICATE)
        reduced_size = (whole.shape[1] // nx, whole.shape[0] // ny)
        smooth = np.asarray(cv2.resize(whole, reduced_size, interpolation=cv2.INTER_AREA), np.uint8)
    if min(scale) < LINEAR_FROM:
        linear = _interpolation(scale) == cv2.INTER_LINEAR
        x_taps, y_taps = (taps(along, linear=linear) for along in scale)
        blurred = cv2.sepFilter2D(smooth, -1, x_taps, y_taps, borderType=cv2.BORDER_REPLICATE)
        smooth = np.asarray(blurred, np.uint8)
    return smooth, (nx, ny)
