"""Points of a sparse reconstruction: which observations of them can be trusted, and which images share them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vlm3data.geometry.camera import project
from vlm3data.types import Camera, Float32Array, Float64Array, Int64Array


class Seen(NamedTuple):
    """What one image observes: names of points (n,), where it shows them (n, 2), and where they are (n, 3)."""

    point: Int64Array
    xy_px: Float64Array
    world_m: Float64Array

    def only(self, which: npt.NDArray[np.bool_]) -> Seen:
        """Return the observations that are marked (n,)."""
        return Seen(self.point[which], self.xy_px[which], self.world_m[which])


def z_depth_of(seen: Seen, world_from_cam: Float64Array) -> Float64Array:
    """Return the z-depth (n,) of the points, in the units that they and the pose are in."""
    return (seen.world_m - world_from_cam[:3, 3]) @ world_from_cam[:3, 2]


def reprojection_px(seen: Seen, camera: Camera, world_from_cam: Float64Array) -> Float64Array:
    """Return how far from each observation (n,) its point projects to; inf where it projects to nothing."""
    with np.errstate(over="ignore", invalid="ignore"):  # of a damaged model
        expected_px = project(camera, (seen.world_m - world_from_cam[:3, 3]) @ world_from_cam[:3, :3])
        return np.nan_to_num(np.linalg.norm(expected_px - seen.xy_px, axis=1), nan=np.inf)


def sound(seen: Seen, camera: Camera, error_px: Float64Array, max_error_px: float) -> Seen:
    """Return the observations inside the image whose error (n,) is at most `max_error_px`.

    Of a point that the image observes in two places neither can be trusted.
    """
    with np.errstate(invalid="ignore"):
        inside = ((seen.xy_px >= 0) & (seen.xy_px < (camera.width_px, camera.height_px))).all(axis=1)
    _, which, times = np.unique(seen.point, return_inverse=True, return_counts=True)
    return seen.only((error_px <= max_error_px) & inside & (times[which] == 1))


def shared_share(seen: Sequence[Int64Array], at_least: int) -> Float32Array:
    """Return (n, n): of the points that image i observes, the share that image j observes too.

    `seen` holds per image the names of its points, each once. NaN for images that observe fewer than `at_least`.
    D2-Net's overlap (Dusmanu et al. 2019), computed from the tracks: the work is what the tracks' lengths make it, not
    the number of pairs.
    """
    counts = np.array([len(points) for points in seen], np.int64)
    begin = np.cumsum(counts) - counts
    _, name, length = np.unique(np.concatenate([*seen, np.zeros(0, np.int64)]), return_inverse=True, return_counts=True)
    image = np.repeat(np.arange(len(seen), dtype=np.int32), counts)[np.argsort(name, kind="stable")]
    first = np.cumsum(length) - length
    shares = np.full((len(seen), len(seen)), np.nan, np.float32)
    usable = counts >= at_least
    for number in np.flatnonzero(usable).tolist():
        mine = name[begin[number] : begin[number] + counts[number]]
        times = length[mine]
        # the images of each of my points, one point's after another's
        start = first[mine] - (np.cumsum(times) - times)
        others = image[np.repeat(start, times) + np.arange(times.sum())]
        shares[number] = np.bincount(others, minlength=len(seen)) / counts[number]
    shares[:, ~usable] = np.nan
    return shares
