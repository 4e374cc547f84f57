"""What the tests of ScanNet measure with: synthetic scans, their truth, and how well depth maps agree."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from vlm3data.formats.sens import read_color, read_depth, read_header, walk, write_sens
from vlm3data.geometry import invert_pose, project, rays, unproject
from vlm3data.layouts.scannet import ScannetLayout
from vlm3data.sources.scannet import ScannetSource
from vlm3data.storage import open_store
from vlm3data.types import Camera, Frame

SMALL = {"color_width_px": 324, "color_height_px": 242, "depth_width_px": 160, "depth_height_px": 120}


def write_scans(out: Path, *, seed: int = 7, **options: Any) -> Path:
    """Write synthetic scans and return their root."""
    about = {"scans": 1, "frames": 16, "lost": 0.0} | SMALL | options
    ScannetLayout(ScannetLayout.Options.model_validate(about), seed).write(str(out), lambda done, total: None)
    return out


def opened(root: Path, **options: Any) -> ScannetSource:
    return ScannetSource(str(root), ScannetSource.Options.model_validate({"stride": 1} | options), 0)


def frames_of(root: Path, **options: Any) -> list[Frame]:
    source = opened(root, **options)
    return [frame for scene in source.scenes(None) for frame in source.frames(scene)]


def with_header(path: Path, **changes: Any) -> None:
    """Write a `.sens` again with other words in its header."""
    fs, name = open_store(str(path))
    header = read_header(fs, name)
    pictures = [
        (frame.world_from_cam, read_color(fs, name, header, frame), read_depth(fs, name, header, frame))
        for frame in walk(fs, name, header)
    ]
    with path.open("wb") as file:
        write_sens(file, replace(header, **changes), pictures)


def truth_of(root: Path, scan: str = "scene0000_00") -> dict[str, Any]:
    return orjson.loads((root / "truth" / f"{scan}.json").read_bytes())


def shifted(camera: Camera, by_px: float) -> Camera:
    return replace(camera, cx_px=camera.cx_px + by_px, cy_px=camera.cy_px + by_px)


def agreement(
    depths_m: tuple[np.ndarray, np.ndarray], camera: Camera, poses: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """Return |seen / expected - 1| of the pixels of one depth map where the other sees them, as far as both know."""
    v, u = np.nonzero(~np.isnan(depths_m[0]))
    points = unproject(camera, np.stack([u, v], 1) + 0.5, depths_m[0][v, u])
    other_from_one = invert_pose(poses[1]) @ poses[0]
    points = points @ other_from_one[:3, :3].T + other_from_one[:3, 3]
    xy = np.floor(project(camera, points))
    inside = ((xy >= 0) & (xy < (camera.width_px, camera.height_px))).all(1)
    column, row = xy[inside].astype(int).T
    error = np.abs(depths_m[1][row, column] / points[inside, 2] - 1)
    return error[~np.isnan(error)]


def in_colour_pixels(depth_m: np.ndarray, depth_camera: Camera, camera: Camera) -> np.ndarray:
    """Return the depth map's value at the centre of each pixel of `camera`, which shares its centre and axes."""
    v, u = np.indices((camera.height_px, camera.width_px))
    xy = project(depth_camera, rays(camera, np.stack([u, v], -1) + 0.5))
    column, row = np.moveaxis(np.floor(xy).astype(int), -1, 0)
    inside = (column >= 0) & (column < depth_camera.width_px) & (row >= 0) & (row < depth_camera.height_px)
    found = np.full(inside.shape, np.nan)
    found[inside] = depth_m[row[inside], column[inside]]
    return found


def shift_px(found_m: np.ndarray, exact_m: np.ndarray) -> np.ndarray:
    """Return by how many pixels (x, y) `found_m` is shifted against `exact_m`, both (h, w): least squares on slopes."""
    slope_y, slope_x = np.gradient(exact_m)
    difference = found_m - exact_m
    smooth = (np.abs(slope_x) + np.abs(slope_y) < 0.03 * exact_m) & (np.abs(difference) < 0.05 * exact_m)
    slopes = np.stack([slope_x[smooth], slope_y[smooth]], 1)
    return np.linalg.lstsq(slopes, difference[smooth], rcond=None)[0]
