"""Where a pixel of one view lies in another: through depth and pose, refused wherever either is in doubt."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vlm3data.geometry.camera import project, rays
from vlm3data.geometry.pose import relative_pose
from vlm3data.types import Camera, Float32Array, Float64Array, Int64Array, View

BoolArray = npt.NDArray[np.bool_]

BORDER_PX = 2.0
"""A match lies at least this far inside the other image."""
RETURN_PX = 1.0
"""How near its start a match must come back when it is followed the other way, by the other view's depth."""
EPIPOLAR_PX = 2.0
"""How far from its epipolar line a point of a sparse reconstruction may lie; COLMAP itself lets observations be 4 px
from where the point projects."""
CENTRED_PX = 0.3
"""How far across or down from the centre of its pixel an observation may lie: the question names the pixel, and what
the pixel's centre shows lies as far from the other observation."""
_BEND = 3.0
"""Neighbouring inverse depths may leave a plane by this many times the noise; more is an edge of something."""


def match(
    one: View, other: View, pixel_px: npt.ArrayLike, noise: tuple[float, float]
) -> tuple[BoolArray, Float64Array]:
    """Return which of the pixels `pixel_px` (n, 2) of `one` the `other` view sees (n,), and where (n, 2), continuous.

    Both views need `depth_m`, `depth_camera` and `world_from_cam`; `noise` is the source's `depth_noise`. A match
    is kept only where both depth maps are known and smooth around it, where they agree within the noise of both
    (else something hides it), and where the other map leads back to within `RETURN_PX` of the start.
    """
    start_px = np.asarray(pixel_px) + 0.5
    points, certain = _lifted(one, start_px, noise)
    if one.world_from_cam is None or other.world_from_cam is None:
        raise ValueError(f"views {one.frame} and {other.frame} need poses")
    one_from_other, shift = relative_pose(one.world_from_cam, other.world_from_cam)
    there = (points - shift) @ one_from_other
    there_px = project(other.camera, there)
    seen, seen_certain = _lifted(other, there_px, noise)
    back_px = project(one.camera, seen @ one_from_other.T + shift)

    size_px = (other.camera.width_px, other.camera.height_px)
    with np.errstate(invalid="ignore", divide="ignore"):
        inside = np.all((there_px >= BORDER_PX) & (there_px <= np.subtract(size_px, BORDER_PX)), axis=1)
        inverse, seen_inverse = 1 / there[:, 2], 1 / seen[:, 2]
        apart = np.abs(inverse - seen_inverse)
        agrees = apart <= noise_of(inverse, noise) + noise_of(seen_inverse, noise)
        returns = np.linalg.norm(back_px - start_px, axis=1) <= RETURN_PX
    return certain & seen_certain & inside & agrees & returns, there_px


def shared_tracks(one: View, other: View) -> tuple[Int64Array, Float64Array]:
    """Return pixels (n, 2) of `one` that hold a point of the sparse reconstruction, and where `other` shows it (n, 2).

    Both views need `tracks` and `world_from_cam`. A pair of observations that the poses contradict is left out, and
    one whose first lies beside its pixel's centre; of several points in one pixel one is kept.
    """
    start_px, there_px, ray, there_ray, centre = _observed(one, other)
    # Of all planes through both camera centres, the one that holds the first ray; in the second one's axes.
    plane = np.cross(centre, ray)
    line = plane / (other.camera.fx_px, other.camera.fy_px, 1.0)
    size_px = (other.camera.width_px, other.camera.height_px)
    with np.errstate(invalid="ignore", divide="ignore"):
        away_px = np.abs(np.sum(plane * there_ray, axis=1)) / np.linalg.norm(line[:, :2], axis=1)
    good = (away_px <= EPIPOLAR_PX) & (np.sum(ray * there_ray, axis=1) > 0)
    good &= np.all((there_px >= BORDER_PX) & (there_px <= np.subtract(size_px, BORDER_PX)), axis=1)
    good &= np.all(np.abs(start_px - np.floor(start_px) - 0.5) <= CENTRED_PX, axis=1)
    pixel_px, first = np.unique(np.floor(start_px[good]).astype(np.int64), axis=0, return_index=True)
    return pixel_px, there_px[good][first]


def parallax_deg(one: View, other: View) -> float:
    """Return the median angle under which shared points of the sparse reconstruction see both cameras; NaN of none."""
    _, _, ray, there_ray, _ = _observed(one, other)
    if not len(ray):
        return float("nan")
    angle = np.arctan2(np.linalg.norm(np.cross(ray, there_ray), axis=1), np.sum(ray * there_ray, axis=1))
    return float(np.degrees(np.median(angle)))


def _observed(one: View, other: View) -> tuple[Float64Array, Float64Array, Float64Array, Float64Array, Float64Array]:
    """Return of the points that both views observe: pixels in each, rays from each, and the first one's centre.

    Rays (n, 3) and centre (3,) are all in the axes of the second.
    """
    if one.tracks is None or other.tracks is None or one.world_from_cam is None or other.world_from_cam is None:
        raise ValueError(f"views {one.frame} and {other.frame} need tracks and poses")
    _, first, second = np.intersect1d(one.tracks.point, other.tracks.point, return_indices=True)
    start_px, there_px = one.tracks.xy_px[first], other.tracks.xy_px[second]
    one_from_other, shift = relative_pose(one.world_from_cam, other.world_from_cam)
    ray = rays(one.camera, start_px) @ one_from_other
    return start_px, there_px, ray, rays(other.camera, there_px), -shift @ one_from_other


def noise_of(inverse_depth: Float64Array, noise: tuple[float, float]) -> Float64Array:
    """Return what inverse depths are good to, where depths are to metres + share * depth."""
    metres, share = noise
    return (metres * inverse_depth + share) * inverse_depth


def _lifted(view: View, at_px: Float64Array, noise: tuple[float, float]) -> tuple[Float64Array, BoolArray]:
    """Return the points (n, 3) in the view's camera frame that it shows at `at_px` (n, 2), and which are certain."""
    if view.depth_m is None or view.depth_camera is None:
        raise ValueError(f"view {view.frame} has no depth map")
    ray = rays(view.camera, at_px)
    inverse, certain = inverse_depth_at(view.depth_m, view.depth_camera, ray, noise)
    with np.errstate(divide="ignore", invalid="ignore"):
        return ray / inverse[:, None], certain


def inverse_depth_at(
    depth_m: Float32Array, camera: Camera, ray: Float64Array, noise: tuple[float, float]
) -> tuple[Float64Array, BoolArray]:
    """Return the inverse z-depth (n,) of a map (h, w) along rays (n, 3), and where that is certain (n,).

    Inverse depth is interpolated bilinearly: on a plane it is affine in the pixel, so that this is exact there.
    Certain is what has 4x4 known values around it that bend no more than the noise explains: no edge is near.
    """
    with np.errstate(invalid="ignore"):
        cell_xy = project(camera, ray) - 0.5  # integers on pixel centres
        low = np.floor(cell_xy)
        inside = np.all((low >= 1) & (low <= np.array([camera.width_px, camera.height_px]) - 3), axis=1)
    x0, y0 = np.where(inside[:, None], low, 1).astype(np.int64).T
    around = np.arange(-1, 3)
    rows = np.minimum(y0[:, None, None] + around[:, None], camera.height_px - 1)
    columns = np.minimum(x0[:, None, None] + around, camera.width_px - 1)
    window = depth_m[rows, columns].astype(np.float64)
    inverse = 1.0 / window
    fx, fy = np.where(inside[:, None], cell_xy - low, 0.0).T
    upper = inverse[:, 1, 1] * (1 - fx) + inverse[:, 1, 2] * fx
    lower = inverse[:, 2, 1] * (1 - fx) + inverse[:, 2, 2] * fx
    value = upper * (1 - fy) + lower * fy
    bends = [np.abs(np.diff(inverse, n=2, axis=axis)).max(axis=(1, 2)) for axis in (1, 2)]
    smooth = np.maximum(*bends) <= _BEND * noise_of(value, noise)  # NaN is not
    return np.where(inside, value, np.nan), inside & smooth
