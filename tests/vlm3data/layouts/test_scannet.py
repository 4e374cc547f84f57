"""The layout `scannet`: same bytes again, a smooth way, a mesh that lies where the depth is, a truth that is exact."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import directory_bytes
from tests.tiny_scannet import truth_of, write_scans
from vlm3data.formats.ply import read_vertices
from vlm3data.formats.scannet.recording import find_form, open_recording
from vlm3data.formats.scannet.text import parse_matrix, parse_values
from vlm3data.geometry import invert_pose, project, relative_pose, rotation_angle_deg
from vlm3data.layouts.scannet import ScannetLayout
from vlm3data.storage import open_store
from vlm3data.types import Camera

SCAN = "scene0000_00"


def recording(root: Path):
    fs, directory = open_store(str(root / "scans" / SCAN))
    found = find_form(directory, [str(path) for path in fs.ls(directory, detail=False)])
    assert found is not None
    return open_recording(fs, *found)


@pytest.fixture(scope="module", params=[False, True], ids=["together", "apart"])
def written(request, tmp_path_factory) -> Path:
    return write_scans(tmp_path_factory.mktemp("scans"), apart=request.param, lost=0.2, frames=30)


@pytest.mark.parametrize("form", ["sens", "python", "cpp"])
def test_the_same_options_and_seed_give_the_same_bytes(tmp_path, form):
    tiny = {"color_width_px": 64, "color_height_px": 48, "depth_width_px": 32, "depth_height_px": 24}
    one, two, other = (
        directory_bytes(write_scans(tmp_path / name, form=form, frames=3, seed=seed, **tiny))
        for name, seed in (("one", 1), ("two", 1), ("other", 2))
    )
    assert one == two
    assert one.keys() == other.keys()
    assert one != other


def test_it_says_what_it_wrote(tmp_path):
    small = {"color_width_px": 64, "color_height_px": 48, "depth_width_px": 32, "depth_height_px": 24}
    options = ScannetLayout.Options.model_validate({"scans": 2, "frames": 5, "lost": 0.3} | small)
    told = []
    counts = ScannetLayout(options, 0).write(str(tmp_path), lambda done, total: told.append((done, total)))
    assert (counts["scans"], counts["frames"]) == (2, 10)
    truths = [truth_of(tmp_path, f"scene000{i}_00") for i in range(2)]
    assert counts["lost"] == sum(frame["lost"] for truth in truths for frame in truth["frames"])
    assert counts["objects"] == sum(len(truth["boxes"]) for truth in truths)
    assert told[-1] == (2, 2)


def test_the_camera_moves_smoothly_and_does_move(written):
    poses = [np.array(frame["world_from_cam"]) for frame in truth_of(written)["frames"]]
    steps = [relative_pose(a, b) for a, b in pairwise(poses)]
    assert max(np.linalg.norm(t) for _, t in steps) < 0.3
    assert max(rotation_angle_deg(r) for r, _ in steps) < 12
    assert np.linalg.norm(poses[0][:3, 3] - poses[-1][:3, 3]) > 0.2


def test_the_stored_pose_is_the_depth_cameras_in_a_world_that_is_not_aligned(written):
    truth, scan = truth_of(written), recording(written)
    path = written / "scans" / SCAN / f"{SCAN}.txt"
    alignment = parse_matrix(parse_values(path.read_bytes(), "")["axisAlignment"], "")
    angle = np.rad2deg(np.arctan2(alignment[1, 0], alignment[0, 0]))
    assert abs(angle) > 10
    assert np.linalg.norm(alignment[:3, 3]) > 0.1
    poses = scan.poses(list(scan.numbers))
    lost = 0
    for stored, frame in zip(poses, truth["frames"], strict=True):
        assert isinstance(stored, np.ndarray)
        if frame["lost"]:
            assert np.isneginf(stored).all()
            lost += 1
            continue
        want = np.array(frame["world_from_cam"]) @ np.array(truth["color_from_depth"])
        np.testing.assert_allclose(alignment @ stored, want, atol=1e-5)
    assert lost > 0


def test_the_mesh_lies_where_the_depth_maps_say(written):
    """No vertex floats before what the camera sees, a pixel more or less at outlines, and many are just there."""
    truth, scan = truth_of(written), recording(written)
    fs, path = open_store(str(written / "scans" / SCAN / f"{SCAN}_vh_clean_2.ply"))
    vertices = read_vertices(fs, path)
    camera = Camera(**truth["depth_camera"])
    number = next(i for i, frame in enumerate(truth["frames"]) if not frame["lost"])
    (pose,) = scan.poses([number])
    assert isinstance(pose, np.ndarray)
    cam_from_world = invert_pose(pose)
    points = vertices @ cam_from_world[:3, :3].T + cam_from_world[:3, 3]
    points = points[points[:, 2] > 0.3]
    xy = np.floor(project(camera, points))
    inside = ((xy >= 0) & (xy < (camera.width_px, camera.height_px))).all(1)
    column, row = xy[inside].astype(int).T
    seen_m = scan.depth(number) / 1000
    padded = np.pad(seen_m, 1, mode="edge")
    nearest_m = np.min(
        [padded[i : i + seen_m.shape[0], j : j + seen_m.shape[1]] for i in range(3) for j in range(3)], 0
    )
    before = points[inside, 2] < 0.95 * nearest_m[row, column]
    assert before.mean() < 0.01
    seen_m = seen_m[row, column]
    gap = (points[inside, 2] - seen_m)[seen_m > 0] / points[inside, 2][seen_m > 0]
    assert len(gap) > 300
    assert (np.abs(gap) < 0.02).mean() > 0.3


def test_the_truth_of_the_depth_is_exact(written):
    """Against the depth camera's own map, which another call traced, where both look along one ray."""
    truth, scan = truth_of(written), recording(written)
    if not np.allclose(truth["color_from_depth"], np.eye(4)):
        pytest.skip("the two cameras see different rays")
    exact_m = np.load(written / "truth" / f"{SCAN}-000000.depth.npy")
    camera, depth_camera = Camera(**truth["color_camera"]), Camera(**truth["depth_camera"])
    assert exact_m.shape == (camera.height_px, camera.width_px)
    v, u = np.indices((depth_camera.height_px, depth_camera.width_px))
    x = (u + 0.5 - depth_camera.cx_px) / depth_camera.fx_px * camera.fx_px + camera.cx_px
    y = (v + 0.5 - depth_camera.cy_px) / depth_camera.fy_px * camera.fy_px + camera.cy_px
    inside = (x >= 0) & (y >= 0) & (x < camera.width_px) & (y < camera.height_px)
    stored_m = scan.depth(0)[inside] / 1000
    error = np.abs(exact_m[y[inside].astype(int), x[inside].astype(int)] / stored_m - 1)
    assert np.median(error) < 0.002
