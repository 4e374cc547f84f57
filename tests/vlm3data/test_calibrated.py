"""Frames without intrinsics in the main flow: estimated, recorded and checked; known cameras are left alone."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import WIDTH, directory_bytes, jsonl_line, write_jsonl
from vlm3data.build import BuildConfig, build, samples
from vlm3data.calibrated import calibrated
from vlm3data.calibrators.fov import FovCalibrator
from vlm3data.cli import app
from vlm3data.command import run_app
from vlm3data.shards.verify import _calibration_problem, verify
from vlm3data.types import Camera, Drop, Frame, UserError

FOV = FovCalibrator(FovCalibrator.Options(hfov_deg=60.0))
FOCAL_PX = WIDTH / 2 / math.tan(math.radians(30))


def unknown(root: Path) -> Path:
    """Write a dataset whose lines have no intrinsics, or null."""
    lines = [jsonl_line(number, intrinsics=None) for number in range(3)]
    del lines[0]["intrinsics"]
    return write_jsonl(root, list(lines))


def config(root: Path, **changes: object) -> BuildConfig:
    given: dict = {"calibrator": "fov", "calibrator_options": {"hfov_deg": 60.0}} | changes
    return BuildConfig(source="jsonl", root=str(root), focal_px=150.0, **given)


def test_the_estimate_is_used_and_recorded(tmp_path):
    root = unknown(tmp_path / "r")
    build(config(root), str(tmp_path / "out"), workers=1)
    assert verify(str(tmp_path / "out")).problems == []
    for sample in samples(config(root)):
        (view,) = sample.record["views"]
        assert view["source_camera"]["fx_px"] == pytest.approx(FOCAL_PX)
        assert view["scale"][0] == pytest.approx(150 / FOCAL_PX)
        assert view["calibration"] == {"method": "fov", "focal_sigma_rel": None, "evidence": {"hfov_deg": 60.0}}


def test_a_camera_that_is_known_is_left_alone(tmp_path, toy_root):
    with_it, without = config(toy_root), config(toy_root, calibrator=None, calibrator_options={})
    for one, other in zip(samples(with_it), samples(without), strict=True):
        assert one.images == other.images
        assert one.record["views"] == other.record["views"]
        assert "calibration" not in one.record["views"][0]


def test_it_shapes_the_bytes_and_so_the_digest(tmp_path):
    root = unknown(tmp_path / "r")
    build(config(root), str(tmp_path / "out"), workers=1)
    before = directory_bytes(tmp_path / "out")
    with pytest.raises(UserError, match="another build"):
        build(config(root, calibrator_options={"hfov_deg": 61.0}), str(tmp_path / "out"), workers=1)
    build(config(root), str(tmp_path / "again"), workers=1)
    assert directory_bytes(tmp_path / "again") == before


def test_without_one_the_frames_are_a_named_drop_and_the_end_says_what_helps(tmp_path, capsys):
    root = unknown(tmp_path / "r")
    with pytest.raises(UserError, match=r"no_intrinsics 3; --calibrator exif"):
        build(config(root, calibrator=None, calibrator_options={}), str(tmp_path / "out"), workers=1)
    common = ["build", "jsonl", "--root", str(root), "--focal", "150", "--workers", "1", "--out"]
    assert run_app(app, [*common, str(tmp_path / "a"), "--calibrator", "fov", "--hfov-deg", "60"]) == 0
    assert run_app(app, [*common, str(tmp_path / "b"), "--calibrator", "nonsense"]) == 2
    assert "known: anycalib, exif, fov, geocalib, vanishing" in capsys.readouterr().err
    assert run_app(app, [*common, str(tmp_path / "b"), "--hfov-deg", "60"]) == 2
    assert run_app(app, [*common, str(tmp_path / "b"), "--calibrator", "fov"]) != 0
    assert "give exactly one of --hfov-deg" in capsys.readouterr().err


def test_what_is_wrong_with_the_image_comes_first():
    def refuse() -> bytes:
        raise Drop("image_missing")

    for calibrator in (None, FOV):
        with pytest.raises(Drop, match="image_missing"):
            calibrated(Frame(key="k", scene="s", image=refuse), calibrator)
    image = np.zeros((30, 40, 3), np.uint8)
    with pytest.raises(Drop, match="no_intrinsics"):
        calibrated(Frame(key="k", scene="s", image=lambda: image), None)
    frame, calibration = calibrated(Frame(key="k", scene="s", image=lambda: image), FOV)
    assert calibration is not None
    assert frame.camera == calibration.camera == Camera.centred(calibration.camera.fx_px, 40, 30)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, None),
        ({"focal_sigma_rel": 0.1}, None),
        ({"focal_sigma_rel": 0.0}, "focal_sigma_rel"),
        ({"focal_sigma_rel": -0.1}, "focal_sigma_rel"),
        ({"focal_sigma_rel": "little"}, "focal_sigma_rel"),
        ({"method": ""}, "no method"),
        ({"method": None}, "no method"),
        ({"evidence": None}, "without its evidence"),
    ],
)
def test_the_record_of_an_estimate_is_checked(changes, problem):
    record = {"method": "fov", "focal_sigma_rel": None, "evidence": {}} | changes
    found = _calibration_problem({"source_camera": {"distortion": None}, "calibration": record})
    assert (found is None) if problem is None else (found is not None and problem in found)
    assert _calibration_problem({"source_camera": {"distortion": {}}}) is None
