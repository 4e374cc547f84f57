"""Interpolated lookup tables are as good as exact ones, and where they cannot be they are exact."""

import numpy as np
import pytest

from vlm3data.geometry import project, rays
from vlm3data.geometry.lookup import STEP_PX, TOLERANCE_PX, source_pixels
from vlm3data.layouts._colmap.stage import LENSES
from vlm3data.types import Camera, Distortion

TARGET = Camera(1000, 1000, 480.5, 370.25, 960, 736)
AXES = np.arange(960) + 0.5, np.arange(5, 736) + 0.5


def exact(source, target=TARGET, axes=AXES):
    return np.moveaxis(project(source, rays(target, np.stack(np.meshgrid(*axes), -1))), -1, 0)


@pytest.mark.parametrize("model", sorted(set(LENSES) - {"pinhole"}))
def test_every_lens_is_interpolated_to_a_thousandth_of_a_pixel(model, monkeypatch):
    source = Camera(2400, 2400, 1200, 900, 2400, 1800, Distortion(model, LENSES[model]))
    expected = exact(source)
    asked = []
    monkeypatch.setattr(
        "vlm3data.geometry.lookup.project", lambda camera, points: asked.append(points.size) or project(camera, points)
    )
    np.testing.assert_allclose(source_pixels(source, TARGET, *AXES), expected, rtol=0, atol=TOLERANCE_PX)
    assert sum(asked) < expected.size / 20  # which is the point of it


def test_where_a_lens_shows_nothing_every_pixel_is_computed():
    source = Camera(900, 900, 480, 370, 960, 740, Distortion("simple_radial", (-1.9,)))
    expected = exact(source)
    assert 0.01 < np.isnan(expected).mean() < 0.9
    np.testing.assert_array_equal(source_pixels(source, TARGET, *AXES), expected)


def test_a_lens_too_wild_to_interpolate_is_computed_pixel_by_pixel():
    wild = Distortion("radial", (-400.0, 120000.0))
    target = Camera(20000, 20000, 480.5, 370.25, 960, 736)
    source = Camera(20000, 20000, 480.5, 370.25, 960, 736, wild)
    np.testing.assert_allclose(source_pixels(source, target, *AXES), exact(source, target), rtol=0, atol=TOLERANCE_PX)
    tiny = Camera(60, 60, 30, 22, 60, 44, Distortion("opencv_fisheye", (0.3, -0.5, 0.4, -0.1)))
    small = Camera(60, 60, 30, 22, 60, 44)
    axes = np.arange(60) + 0.5, np.arange(44) + 0.5
    np.testing.assert_allclose(source_pixels(tiny, small, *axes), exact(tiny, small, axes), rtol=0, atol=TOLERANCE_PX)


@pytest.mark.parametrize("size", [1, 4 * STEP_PX - 1, 4 * STEP_PX, 4 * STEP_PX + 1, 100])
def test_every_size_ends_where_it_should(size):
    source = Camera(300, 310, 50, 51, 100, 100, Distortion("opencv", (-0.1, 0.02, 1e-3, -2e-3)))
    target = Camera(250, 250, 50, 50, 100, 100)
    axes = np.arange(size) + 0.5, np.arange(100) + 0.5
    np.testing.assert_allclose(
        source_pixels(source, target, *axes), exact(source, target, axes), rtol=0, atol=TOLERANCE_PX
    )


def test_where_a_cubic_would_be_off_every_pixel_is_computed():
    """A view so wide that a pixel's step bends: interpolation would be 0.1 to 0.8 px off."""
    lens = Camera(60.0, 60.0, 40.0, 40.0, 80, 80, Distortion("opencv_fisheye", (0.02, 0.0, 0.0, 0.0)))
    centres = np.arange(80) + 0.5
    for focal_px in (12.0, 20.0):
        target = Camera(focal_px, focal_px, 40.0, 40.0, 80, 80)
        exact = project(lens, rays(target, np.stack(np.meshgrid(centres, centres), axis=-1)))
        found = np.stack(source_pixels(lens, target, centres, centres), axis=-1)
        assert np.abs(found - exact).max() <= 1e-3
