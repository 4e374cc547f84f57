"""LiDAR points in images and corners of boxes, against nuscenes-devkit: stored results, and itself if installed."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.differential.record import agree, cases
from vlm3data.formats.nuscenes.scan import pose_of
from vlm3data.geometry import invert_pose, project
from vlm3data.geometry.boxes import corners
from vlm3data.geometry.lidar import project_points
from vlm3data.types import Camera

HERE = Path(__file__).parent
DEVKIT = "nuscenes-devkit 1.2.0"
WIDTH_PX, HEIGHT_PX = 1600, 900


def check(rigs: list[dict[str, Any]], how: str) -> None:
    """Compare pixels and depths (NaN behind the camera), the choice of points in the image, and boxes."""
    off_px, off_m, off_corner_m, points = [], [], [], 0
    for rig in rigs:
        cam_from_lidar = invert_pose(_pose(rig["global_from_ego_now"]) @ _pose(rig["ego_from_cam"])) @ (
            _pose(rig["global_from_ego_then"]) @ _pose(rig["ego_from_lidar"])
        )
        (fx, _, cx), (_, fy, cy), _ = rig["intrinsic"]
        camera = Camera(fx, fy, cx, cy, WIDTH_PX, HEIGHT_PX)
        points_m, truth_px = np.array(rig["points_m"]), np.array(rig["truth"]["xy_px"])
        depth_m = np.array(rig["truth"]["depth_m"])
        ahead = depth_m > 0
        seen_px = project(camera, points_m @ cam_from_lidar[:3, :3].T + cam_from_lidar[:3, 3])
        assert (np.isfinite(seen_px).all(axis=1) == ahead).all()
        off_px.append(np.abs(seen_px - truth_px)[ahead].max(initial=0))
        inside = ahead & (truth_px >= 0).all(axis=1) & (truth_px < (WIDTH_PX, HEIGHT_PX)).all(axis=1)
        which, found_px, found_m = project_points(camera, cam_from_lidar, points_m.T)
        assert which.tolist() == np.flatnonzero(inside).tolist()
        off_px.append(np.abs(found_px - truth_px[inside]).max(initial=0))
        off_m.append(np.abs(found_m - depth_m[inside]).max(initial=0))
        points += int(inside.sum())
        width_m, length_m, height_m = rig["box"]["size"]
        ours = corners(_pose(rig["box"]), (length_m, width_m, height_m))
        apart = np.linalg.norm(ours[:, None] - np.array(rig["truth"]["corners_m"])[None], axis=-1)
        assert sorted(apart.argmin(axis=1).tolist()) == list(range(8)), "another order, the same corners"
        off_corner_m.append(apart.min(axis=1).max())
    assert points > 4 * len(rigs)
    agree(f"LiDAR points in images ({how})", DEVKIT, points, off_px, 1e-5, "px")
    agree(f"their depths ({how})", DEVKIT, points, off_m, 1e-6, "m")
    agree(f"corners of boxes ({how})", DEVKIT, 8 * len(rigs), off_corner_m, 1e-6, "m")


def _pose(record: dict[str, list[float]]) -> np.ndarray:
    return pose_of(np.array([*record["rotation"], *record["translation"]]))


def test_as_the_devkit_has_written_it_down():
    check(json.loads((HERE / "nuscenes_golden.json").read_bytes()), "stored results")


def test_as_the_devkit_has_it_now():
    """PEER_NUSCENES names a Python with nuscenes-devkit, which needs an environment of its own."""
    python = os.environ.get("PEER_NUSCENES")
    if not python:
        pytest.skip("PEER_NUSCENES names no Python with nuscenes-devkit")
    made = subprocess.run(
        [python, str(HERE / "nuscenes_peer.py"), str(cases(500)), "7"], check=True, stdout=subprocess.PIPE
    )
    check(json.loads(made.stdout), "live")
