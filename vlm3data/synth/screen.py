"""The pixel grid of a view: its rays, functions that are affine in the pixel, and windows that hold boxes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vlm3data.types import Camera, Float32Array, Float64Array, Int64Array

Mask = npt.NDArray[np.bool_]
Window = tuple[slice, slice]
"""Rows and columns."""
NEAR_M = 0.02
_EDGES = np.array([[0, 1], [0, 2], [0, 4], [1, 3], [1, 5], [2, 3], [2, 6], [3, 7], [4, 5], [4, 6], [5, 7], [6, 7]])


def grid(camera: Camera) -> tuple[Float32Array, Float32Array]:
    """Return x / z of the columns' rays and y / z of the rows'."""
    x = (np.arange(camera.width_px) + (0.5 - camera.cx_px)) / camera.fx_px
    y = (np.arange(camera.height_px) + (0.5 - camera.cy_px)) / camera.fy_px
    return x.astype(np.float32), y.astype(np.float32)


@dataclass(frozen=True, slots=True)
class Affine:
    """Functions a x + b y + c of the pixel, as a part per column and a part per row."""

    columns: Float32Array
    rows: Float32Array

    @classmethod
    def of(cls, coefficients: Float64Array, x: Float32Array, y: Float32Array) -> Affine:
        """Return the functions with (n, 3) coefficients."""
        a, b, c = coefficients.astype(np.float32).T[..., None]
        return cls(a * x, b * y + c)

    def at(self, which: slice | list[int] | int, window: Window) -> Float32Array:
        """Return some of them in a window."""
        return self.rows[which, window[0]][..., None] + self.columns[which, window[1]][..., None, :]


def windows(corners_m: Float64Array, camera: Camera) -> Int64Array:
    """Return x0, y0, x1, y1 per part, the pixels that may see it, from its corners in the camera (3, 8, n)."""
    z = corners_m[2]
    ahead = z >= NEAR_M
    some = ahead.any(0)
    on_plane = corners_m[:2] / np.maximum(z, NEAR_M)
    bounds = np.concatenate([on_plane.min(1), on_plane.max(1)])
    split = np.flatnonzero(some & ~ahead.all(0))
    if len(split):
        bounds[:, split] = _bounds_of_split(corners_m[..., split], ahead[:, split])
    bounds *= np.array([[camera.fx_px], [camera.fy_px]] * 2)
    bounds += np.array([[camera.cx_px], [camera.cy_px]] * 2)
    np.floor(bounds[:2], out=bounds[:2])
    np.ceil(bounds[2:], out=bounds[2:])
    np.maximum(bounds, 0.0, out=bounds)
    np.minimum(bounds, np.array([[camera.width_px], [camera.height_px]] * 2), out=bounds)
    return (bounds * some).astype(np.int64).T


def _bounds_of_split(corners_m: Float64Array, ahead: Mask) -> Float64Array:
    """Return low x / z, y / z and high ones (4, n) of what is left of boxes that reach behind z = NEAR_M."""
    start, end = corners_m[:, _EDGES[:, 0]], corners_m[:, _EDGES[:, 1]]
    crosses = ahead[_EDGES[:, 0]] != ahead[_EDGES[:, 1]]
    rise = np.where(crosses, end[2] - start[2], 1.0)
    cut = start + (end - start) * ((NEAR_M - start[2]) / rise)
    points = np.concatenate([corners_m, cut], 1)
    known = np.concatenate([ahead, crosses])
    on_plane = points[:2] / np.where(known, points[2], 1.0)
    low, high = np.where(known, on_plane, np.inf), np.where(known, on_plane, -np.inf)
    return np.concatenate([low.min(1), high.max(1)])
