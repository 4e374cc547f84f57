"""The sparse points of a staged scene: places on surfaces, with their exact pixels in every image that sees them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vlm3data.formats.colmap.images import Observations
from vlm3data.formats.colmap.writing import WrittenPoints
from vlm3data.geometry import project, rays
from vlm3data.layouts._colmap.stage import Stage
from vlm3data.synth.lidar import cast
from vlm3data.types import Float64Array

LOOSE = 0.3
"""Keypoints of no point, for each of one."""
FOUND = 0.65
"""How often a point is found in an image that shows it: detectors miss many, and so do matchers."""
_HIDDEN = 1e-6
"""A point is seen where the ray to it meets nothing before this share of its distance is left."""


def sparse_points(
    stage: Stage, per_image: int, noise_px: float, rng: np.random.Generator
) -> tuple[WrittenPoints, list[Observations]]:
    """Return the points, and per image what it observes; `noise_px` is the standard deviation of each coordinate."""
    points_m = np.concatenate(
        [_looked_at(stage, number, per_image, rng) for number in range(len(stage.world_from_cam))]
    )
    seen = [_seen(stage, number, points_m) for number in range(len(stage.world_from_cam))]
    found = rng.random((len(seen), len(points_m))) < FOUND
    seen = [(sees & finds, xy_px) for (sees, xy_px), finds in zip(seen, found, strict=True)]
    views = np.sum([sees for sees, _ in seen], axis=0)
    ids = np.where(views >= 2, np.cumsum(views >= 2), -1)
    observed, errors, track = [], np.zeros(len(points_m)), []
    size_px = (stage.camera.width_px, stage.camera.height_px)
    for number, (sees, exact_px) in enumerate(seen):
        which = np.flatnonzero(sees & (ids > 0))
        noisy = exact_px[which] + rng.normal(0.0, noise_px, (len(which), 2)) if noise_px else exact_px[which]
        errors[which] += np.linalg.norm(noisy - exact_px[which], axis=1)
        loose = rng.uniform((0, 0), size_px, (round(LOOSE * len(which)), 2))
        xy_px, point = np.concatenate([noisy, loose]), np.append(ids[which], np.full(len(loose), -1))
        order = rng.permutation(len(point))
        observed.append(Observations(xy_px[order], point[order]))
        place = np.flatnonzero(point[order] > 0)
        track.append(np.stack([point[order][place], np.full(len(place), number + 1), place], axis=1))
    tracks = np.concatenate(track)
    tracks = tracks[np.argsort(tracks[:, 0], kind="stable")]
    kept = ids > 0
    first = np.searchsorted(tracks[:, 0], np.arange(1, kept.sum() + 2))
    rgb = rng.integers(0, 256, (int(kept.sum()), 3)).astype(np.uint8)
    error_px = errors[kept] / views[kept]
    return WrittenPoints(ids[kept], stage.in_model(points_m[kept]), rgb, error_px, first, tracks[:, 1:]), observed


def _looked_at(stage: Stage, number: int, count: int, rng: np.random.Generator) -> Float64Array:
    """Return the points (n, 3) on surfaces that an image shows at random pixels; the sky has none."""
    pose = stage.world_from_cam[number]
    pixels = rng.uniform((1, 1), (stage.camera.width_px - 1, stage.camera.height_px - 1), (count, 2))
    ways = rays(stage.camera, pixels) @ pose[:3, :3].T
    z_m, surface = cast(stage.packed, np.broadcast_to(pose[:3, 3], ways.shape), ways)
    met = (surface >= 0) & (z_m < stage.far_m)
    return pose[:3, 3] + ways[met] * z_m[met, None]


def _seen(stage: Stage, number: int, points_m: Float64Array) -> tuple[npt.NDArray[np.bool_], Float64Array]:
    """Return which points an image sees, and where (n, 2)."""
    pose = stage.world_from_cam[number]
    ways = points_m - pose[:3, 3]
    xy_px = project(stage.camera, ways @ pose[:3, :3])
    with np.errstate(invalid="ignore"):
        inside = ((xy_px > 0) & (xy_px < (stage.camera.width_px, stage.camera.height_px))).all(axis=1)
    reached, _ = cast(stage.packed, np.broadcast_to(pose[:3, 3], ways.shape), ways)
    return inside & (reached > 1 - _HIDDEN), xy_px
