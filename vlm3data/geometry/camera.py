"""Between pixels, rays and 3D points of one camera, and between the two kinds of depth."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vlm3data.geometry.distortion import distort, undistort
from vlm3data.types import Camera, DepthKind, Float64Array

_DEPTH_KINDS = ("z", "euclidean")
_ASPECT_TOLERANCE = 0.02
"""How far the sides of one view may be from shrinking alike: whole pixels of a small map are as coarse."""


def rays(camera: Camera, xy_px: npt.ArrayLike) -> Float64Array:
    """Return the (n, 3) rays, z = 1, through continuous pixels `xy_px` (n, 2).

    A distorted camera's pixels are undistorted; where no ray exists (outside the lens model's valid region)
    x and y are NaN.
    """
    xy = (np.asarray(xy_px, float) - (camera.cx_px, camera.cy_px)) / (camera.fx_px, camera.fy_px)
    if camera.distortion is not None:
        xy = undistort(camera.distortion, xy)
    return np.concatenate([xy, np.ones_like(xy[..., :1])], axis=-1)


def project(camera: Camera, points_m: npt.ArrayLike) -> Float64Array:
    """Return the continuous pixels (n, 2) of camera-frame points (n, 3); only their direction matters.

    NaN for points not in front of the camera (z <= 0) or outside the lens model's valid region. The pixel may
    lie outside the image.
    """
    points = np.asarray(points_m, float)
    z = points[..., 2:]
    with np.errstate(divide="ignore", invalid="ignore"):
        xy = np.where(z > 0, points[..., :2] / z, np.nan)
    if camera.distortion is not None:
        xy = distort(camera.distortion, xy)
    return xy * (camera.fx_px, camera.fy_px) + (camera.cx_px, camera.cy_px)


def unproject(camera: Camera, xy_px: npt.ArrayLike, depth_m: npt.ArrayLike, kind: DepthKind = "z") -> Float64Array:
    """Return the camera-frame points (n, 3), metres, seen at `xy_px` (n, 2) at depth (n,) of `kind`."""
    z_m = convert_depth(depth_m, camera, xy_px, have=kind, want="z")
    return rays(camera, xy_px) * z_m[..., None]


def euclidean_per_z(camera: Camera, xy_px: npt.ArrayLike) -> Float64Array:
    """Return sqrt(1 + x² + y²) (n,) of the rays through `xy_px` (n, 2): euclidean over z depth."""
    return np.linalg.norm(rays(camera, xy_px), axis=-1)


def convert_depth(
    depth_m: npt.ArrayLike, camera: Camera, xy_px: npt.ArrayLike, have: DepthKind, want: DepthKind
) -> Float64Array:
    """Return depth (n,), metres, of kind `want`, given it of kind `have` at pixels `xy_px` (n, 2)."""
    for kind in (have, want):
        if kind not in _DEPTH_KINDS:
            raise ValueError(f"unknown depth kind {kind!r}; known: {', '.join(_DEPTH_KINDS)}")
    depth = np.asarray(depth_m, float)
    if have == want:
        return depth
    ratio = euclidean_per_z(camera, xy_px)
    return depth * ratio if want == "euclidean" else depth / ratio


def resized(camera: Camera, size_px: tuple[int, int]) -> Camera | None:
    """Return the pinhole camera that sees the same in another number of pixels (width, height).

    None where that cannot be: a lens, or another shape of the image.
    """
    sx, sy = size_px[0] / camera.width_px, size_px[1] / camera.height_px
    if camera.distortion is not None or abs(sx / sy - 1) > _ASPECT_TOLERANCE:
        return None
    return with_size(camera, size_px)


def with_size(camera: Camera, size_px: tuple[int, int]) -> Camera:
    """Return the pinhole camera of the same view in another number of pixels (width, height), whatever its shape."""
    sx, sy = size_px[0] / camera.width_px, size_px[1] / camera.height_px
    return Camera(camera.fx_px * sx, camera.fy_px * sy, camera.cx_px * sx, camera.cy_px * sy, *size_px)
