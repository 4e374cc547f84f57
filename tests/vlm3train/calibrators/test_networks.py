"""The adapters to AnyCalib and GeoCalib, on stand-ins of the same interface."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from tests import fake_networks
from vlm3data.types import Camera, Drop, UserError
from vlm3train.calibrators.anycalib import AnyCalibCalibrator
from vlm3train.calibrators.geocalib import GeoCalibCalibrator

RGB = np.zeros((60, 80, 3), np.uint8)
RGB[10, 20] = (255, 51, 0)


@pytest.fixture(autouse=True)
def _packages(monkeypatch):
    fake_networks.install(monkeypatch)


def test_anycalib_answers_in_our_pixels():
    made = AnyCalibCalibrator(AnyCalibCalibrator.Options()).calibrate(RGB, None)
    assert made.camera == Camera(300, 310, 41, 28, 80, 60)
    assert (made.method, made.focal_sigma_rel) == ("anycalib", None)
    assert made.evidence == {"model_id": "anycalib_pinhole"}
    assert fake_networks.AnyCalib.seen[:, 10, 20].tolist() == pytest.approx([1.0, 0.2, 0.0]), "red first, y before x"


def test_geocalib_gives_its_uncertainty_as_a_share():
    """It says half a standard deviation, in pixels."""
    made = GeoCalibCalibrator(GeoCalibCalibrator.Options()).calibrate(RGB, None)
    assert made.camera == Camera.centred(300, 80, 60)
    assert made.focal_sigma_rel == pytest.approx(2 * 15 / 300)
    assert fake_networks.GeoCalib.seen[:, 10, 20].tolist() == pytest.approx([1.0, 0.2, 0.0])


def test_no_uncertainty_is_none_and_not_zero(monkeypatch):
    monkeypatch.setattr(fake_networks.GeoCalib, "uncertainty_px", 0.0)
    assert GeoCalibCalibrator(GeoCalibCalibrator.Options()).calibrate(RGB, None).focal_sigma_rel is None


@pytest.mark.parametrize(
    "answer", [(float("nan"), 300.0, 40.0, 30.0), (-5.0, 300.0, 40.0, 30.0), (3.0, 3.0, float("inf"), 1.0)]
)
def test_what_is_no_camera_is_dropped(monkeypatch, answer):
    monkeypatch.setattr(fake_networks.AnyCalib, "answer", answer)
    with pytest.raises(Drop, match="calibration_failed"):
        AnyCalibCalibrator(AnyCalibCalibrator.Options()).calibrate(RGB, None)


@pytest.mark.parametrize("kind", [AnyCalibCalibrator, GeoCalibCalibrator])
@pytest.mark.parametrize("missing", ["torch", "package"])
def test_a_missing_package_says_what_to_install(monkeypatch, kind, missing):
    name = kind.__module__.rpartition(".")[2]
    monkeypatch.setitem(sys.modules, name if missing == "package" else "torch", None)
    with pytest.raises(UserError, match=rf"--calibrator {name} needs .*pip install git\+https://github.com/") as caught:
        kind(kind.Options())
    assert "\n" not in str(caught.value)


def test_listing_their_flags_needs_no_torch():
    code = (
        "import sys; from vlm3data import registry; "
        "[registry.load('calibrator', name).Options for name in registry.names('calibrator')]; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
