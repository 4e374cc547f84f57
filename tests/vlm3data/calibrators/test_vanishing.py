"""Vanishing points in rendered places of known focal length, and where there are none."""

from __future__ import annotations

import numpy as np
import pytest

from tests.conftest import photo
from vlm3data.calibrators.vanishing import VanishingCalibrator, straight_edges
from vlm3data.images import decode_rgb
from vlm3data.sources.synthetic import SyntheticOptions, SyntheticSource
from vlm3data.types import Drop

METHOD = VanishingCalibrator(VanishingCalibrator.Options())


@pytest.mark.parametrize("domain", ["room", "street"])
def test_places_with_right_angles_tell_their_focal_length(domain):
    options = SyntheticOptions(domains=(domain,), scenes=4, views=1, width_px=480, height_px=360, hfov_deg=(45, 90))
    source = SyntheticSource("", options, 3)
    errors: list[float] = []
    for scene in source.scenes(None):
        (frame,) = source.frames(scene)
        image, camera = frame.image(), frame.camera
        assert isinstance(image, np.ndarray)
        assert camera is not None
        try:
            made = METHOD.calibrate(image, None)
        except Drop as drop:
            assert drop.reason == "no_vanishing_points"  # noqa: PT017
            continue
        assert made == METHOD.calibrate(image, None)
        assert made.focal_sigma_rel is not None
        errors.append(made.camera.fx_px / camera.fx_px - 1)
        assert abs(errors[-1]) < 3.5 * made.focal_sigma_rel
        assert (made.camera.width_px, made.camera.height_px) == (camera.width_px, camera.height_px)
    assert len(errors) >= 2, "seen head-on, a place does not tell; most are not"
    assert np.median(np.abs(errors)) < 0.05


@pytest.mark.parametrize("image", [np.full((200, 300, 3), 90, np.uint8), decode_rgb(photo(1, 480, 360))])
def test_what_shows_no_vanishing_points_is_dropped(image):
    with pytest.raises(Drop, match="no_vanishing_points"):
        METHOD.calibrate(image, None)


@pytest.mark.parametrize("times", [1, 3])
def test_edges_lie_where_they_are_drawn(times):
    """A white square, x from 60 to 140 and y from 50 to 130, whether the image is shrunk for the search or not."""
    image = np.full((300 * times, 400 * times, 3), 30, np.uint8)
    image[50 * times : 130 * times, 60 * times : 140 * times] = 220
    found = straight_edges(image) / times
    for side, axis in ((60, 0), (140, 0), (50, 1), (130, 1)):
        ends = found[:, [axis, axis + 2]]
        assert (np.abs(ends - side) < 0.75).all(axis=1).any(), (side, axis)
    assert np.abs(found[np.abs(found[:, 0] - found[:, 2]) < 2][:, 0].mean() - 100) < 0.5, "no half-pixel shift"
