"""Synthetic iBims-1: both forms hold the same, and what is read of them is the truth."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat

from tests.conftest import directory_bytes
from vlm3data.build import BuildConfig, samples
from vlm3data.layouts.ibims import IbimsLayout
from vlm3data.sources import ibims
from vlm3data.sources.ibims import IbimsSource
from vlm3data.types import Frame


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ibims")
    IbimsLayout(IbimsLayout.Options(images=3), 5).write(str(out), lambda *_: None)
    return out


def frames_of(root: Path) -> list[Frame]:
    source = IbimsSource(str(root), IbimsSource.Options(), 0)
    return [frame for scene in source.scenes(None) for frame in source.frames(scene)]


def faults(out: Path, form: str) -> set[str]:
    found = set()
    cameras = json.loads((out / "truth" / "cameras.json").read_text())
    for frame, (name, camera) in zip(frames_of(out / f"ibims1_core_{form}"), cameras.items(), strict=True):
        assert frame.camera
        assert frame.depth_m
        assert frame.key == name
        if any(abs(getattr(frame.camera, key) - camera[key]) > 1e-9 for key in ("fx_px", "fy_px", "cx_px", "cy_px")):
            found.add("camera")
        truth, read = np.load(out / "truth" / f"{name}.npy"), frame.depth_m()
        if (np.isnan(truth) != np.isnan(read)).any():
            found.add("masks")
        known = np.isfinite(truth) & np.isfinite(read)
        if np.abs(read[known] - truth[known]).max() > (0.0004 if form == "raw" else 1e-6):
            found.add("depth")
    return found


@pytest.mark.parametrize("form", ["raw", "mat"])
def test_cameras_depth_and_masks_are_the_truth(written, form):
    assert faults(written, form) == set()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [("METRES_PER_COUNT", 0.001, "depth"), ("PIXEL_SHIFT", 0.0, "camera"), ("known", None, "masks")],
)
def test_a_planted_fault_shows(written, monkeypatch, name, value, expected):
    if name == "known":
        right = ibims.known
        value = lambda depth_m, invalid, transparent: right(depth_m, transparent, transparent)  # noqa: E731
    monkeypatch.setattr(ibims, name, value)
    assert faults(written, "raw") == {expected}


def test_labels_agree_with_the_exact_depth_at_their_pixel(written):
    truths = {path.stem: np.load(path) for path in (written / "truth").glob("*.npy")}
    config = BuildConfig(source="ibims", root=str(written), focal_px=1000.0, tasks={"depth": {"pixels": 64}})
    count = 0
    for sample in samples(config):
        view, depth_m = sample.record["views"][0], truths[sample.record["frames"][0]]
        for question in sample.questions:
            at = (np.array(question.truth["pixel_px"]) + view["crop_xy_px"] + 0.5) / view["scale"]
            u, v = np.floor(at).astype(int)
            near = depth_m[max(v - 1, 0) : v + 2, max(u - 1, 0) : u + 2]
            assert np.nanmin(np.abs(near / question.truth["depth_m"] - 1)) < 0.01
            count += 1
    assert count == 3 * 64


def test_both_forms_are_as_the_originals_are(written):
    data = loadmat(written / "ibims1_core_mat" / "room_01.mat")["data"]
    calib = data["calib"][0][0]
    assert (calib[0, 0], calib[1, 1], calib[2, 0], calib[2, 1]) == (559.62, 558.14, 361.87, 241.99)
    assert (written / "ibims1_core_raw" / "calib" / "room_01.txt").read_text() == "559.62,558.14,361.87,241.99"
    assert data["rgb"][0][0].shape == (480, 640, 3)
    assert (written / "imagelist.txt").read_text().split() == ["room_01", "room_02", "room_03"]


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        IbimsLayout(IbimsLayout.Options(images=1), seed).write(str(tmp_path / name), lambda *_: None)
    a, b, c = (directory_bytes(tmp_path / name) for name in "abc")
    assert a == b != c
