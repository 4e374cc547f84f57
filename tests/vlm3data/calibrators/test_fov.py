"""A given field of view, across the side that it is given for."""

from __future__ import annotations

import numpy as np
import pytest

from vlm3data.calibrators.fov import FovCalibrator
from vlm3data.types import Camera, UserError

RGB = np.zeros((300, 400, 3), np.uint8)


@pytest.mark.parametrize(("name", "focal_px"), [("hfov_deg", 200.0), ("vfov_deg", 150.0), ("dfov_deg", 250.0)])
def test_ninety_degrees_are_half_the_side(name, focal_px):
    made = FovCalibrator(FovCalibrator.Options(**{name: 90.0})).calibrate(RGB, None)
    assert made.camera == Camera.centred(made.camera.fx_px, 400, 300)
    assert made.camera.fx_px == pytest.approx(focal_px)
    assert made.focal_sigma_rel is None


@pytest.mark.parametrize("given", [{}, {"hfov_deg": 60, "vfov_deg": 50}, {"hfov_deg": 180}, {"dfov_deg": 0}])
def test_one_angle_below_180_is_needed(given):
    with pytest.raises(UserError, match="calibrator fov") as caught:
        FovCalibrator.Options.check(given, where="calibrator fov")
    assert "\n" not in str(caught.value)
