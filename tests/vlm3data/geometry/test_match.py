"""Reading a depth map between its pixels: exact on planes, certain only where all around is known and smooth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.vlm3data.tasks.test_correspondence import far_wall
from vlm3data.geometry import rays
from vlm3data.geometry.match import inverse_depth_at, match, noise_of
from vlm3data.types import Camera

CAMERA = Camera(30.0, 36.0, 9.3, 7.1, 20, 14)
NOISE = (0.001, 0.005)


def plane(camera: Camera) -> np.ndarray:
    """Return the z-depth (h, w) of a plane that is slanted both ways: its inverse is affine in the pixel."""
    v, u = np.mgrid[: camera.height_px, : camera.width_px] + 0.5
    return (1 / (0.4 + 0.004 * u - 0.007 * v)).astype(np.float32)


def test_a_plane_is_read_exactly_wherever_four_by_four_pixels_lie_around():
    rng = np.random.default_rng(0)
    xy_px = rng.uniform(0, (20, 14), (4000, 2))
    inverse, certain = inverse_depth_at(plane(CAMERA), CAMERA, rays(CAMERA, xy_px), NOISE)
    low = np.floor(xy_px - 0.5)
    inside = ((low >= 1) & (low + 2 <= (19, 13))).all(axis=1)
    np.testing.assert_array_equal(certain, inside)
    np.testing.assert_array_equal(np.isfinite(inverse), inside)
    np.testing.assert_allclose(inverse[inside], (0.4 + xy_px @ (0.004, -0.007))[inside], rtol=1e-6)


def test_nothing_is_certain_beside_an_edge_or_what_is_unknown():
    xy_px = np.array([[10.2, 6.4]])  # between the pixels 9 and 10, 5 and 6: looks at 8 to 11, 4 to 7
    for dv in range(-2, 4):
        for du in range(-2, 4):
            for value in (np.nan, 0.5):
                depth_m = plane(CAMERA)
                depth_m[5 + dv, 9 + du] = value
                _, (certain,) = inverse_depth_at(depth_m, CAMERA, rays(CAMERA, xy_px), NOISE)
                assert certain == (not (-1 <= du <= 2 and -1 <= dv <= 2)), (du, dv, value)


@pytest.mark.parametrize(("times", "sure"), [(2.9, True), (3.1, False), (3.9, False)])
def test_a_bend_of_three_times_the_noise_is_an_edge(times, sure):
    _, u = np.mgrid[: CAMERA.height_px, : CAMERA.width_px]
    inverse = 0.4 + 0.5 * (u - 9.5) ** 2 * times * noise_of(np.array(0.4), NOISE)  # whose second difference is that
    _, (certain,) = inverse_depth_at((1 / inverse).astype(np.float32), CAMERA, rays(CAMERA, [[10.5, 6.5]]), NOISE)
    assert certain == sure


def test_noise_of_inverse_depth_is_that_of_depth():
    depth_m = np.array([0.5, 2.0, 40.0])
    off_m = 0.02 + 0.01 * depth_m
    np.testing.assert_allclose(noise_of(1 / depth_m, (0.02, 0.01)), off_m / depth_m**2, rtol=1e-12)


def test_views_without_a_pose_are_a_mistake_of_the_caller():
    posed = far_wall()
    for views in ((posed, replace(posed, world_from_cam=None)), (replace(posed, world_from_cam=None), posed)):
        with pytest.raises(ValueError, match="need poses"):
            match(*views, np.array([[20, 20]]), NOISE)
