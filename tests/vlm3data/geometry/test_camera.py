"""Pixels, rays, points and the two kinds of depth agree with one another."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm3data.geometry import convert_depth, euclidean_per_z, project, rays, unproject
from vlm3data.geometry.camera import resized, with_size
from vlm3data.types import Camera, Distortion

LENSES = (
    None,
    Distortion("simple_radial", (-0.1,)),
    Distortion("opencv", (-0.1, 0.02, 1e-3, -2e-3)),
    Distortion("opencv_fisheye", (0.02, -0.01, 0.003, -0.001)),
)


@st.composite
def cameras(draw):
    width, height = draw(st.integers(64, 2000)), draw(st.integers(64, 2000))
    focal = max(width, height) * draw(st.floats(0.8, 3.0))
    return Camera(
        fx_px=focal,
        fy_px=focal * draw(st.floats(0.9, 1.1)),
        cx_px=width * draw(st.floats(0.4, 0.6)),
        cy_px=height * draw(st.floats(0.4, 0.6)),
        width_px=width,
        height_px=height,
        distortion=draw(st.sampled_from(LENSES)),
    )


@given(cameras(), st.floats(0, 1), st.floats(0, 1), st.floats(0.1, 100), st.sampled_from(["z", "euclidean"]))
def test_a_pixel_with_depth_becomes_a_point_that_projects_back(camera, across, down, depth_m, kind):
    xy_px = np.array([[across * camera.width_px, down * camera.height_px]])
    point_m = unproject(camera, xy_px, [depth_m], kind)
    measured_m = point_m[0, 2] if kind == "z" else np.linalg.norm(point_m[0])
    assert measured_m == pytest.approx(depth_m, rel=1e-12)
    np.testing.assert_allclose(project(camera, point_m), xy_px, rtol=0, atol=1e-8)


@given(cameras(), st.floats(0, 1), st.floats(0.1, 100))
def test_depth_converts_there_and_back_and_euclidean_is_never_shorter(camera, across, z_m):
    xy_px = np.array([[across * camera.width_px, 3.0]])
    euclidean_m = convert_depth([z_m], camera, xy_px, have="z", want="euclidean")
    assert euclidean_m[0] >= z_m
    assert convert_depth(euclidean_m, camera, xy_px, have="euclidean", want="z")[0] == pytest.approx(z_m)


def test_the_two_depths_differ_by_a_quarter_at_37_degrees():
    camera = Camera(1000, 1000, 0, 0, 2000, 2000)
    assert euclidean_per_z(camera, [[750, 0]])[0] == 1.25
    assert convert_depth([2.0], camera, [[750, 0]], have="z", want="euclidean")[0] == 2.5


def test_the_principal_point_looks_along_the_axis():
    camera = Camera(500, 400, 321.5, 240.25, 640, 480, LENSES[2])
    np.testing.assert_array_equal(rays(camera, [[321.5, 240.25]]), [[0, 0, 1]])


def test_points_not_in_front_of_the_camera_have_no_pixel():
    camera = Camera(500, 500, 320, 240, 640, 480)
    assert np.isnan(project(camera, [[1, 1, -2], [1, 1, 0], [0, 0, 0], [np.nan, 0, 1]])).any(axis=1).all()
    np.testing.assert_array_equal(project(camera, [[1, 0, 2]]), [[570, 240]])


def test_a_point_that_the_lens_model_folds_into_the_image_has_no_pixel():
    folding = Camera(500, 500, 320, 240, 640, 480, Distortion("simple_radial", (-0.3,)))
    assert np.isnan(project(folding, [[1.6, 0, 1]])).all()


def test_an_unknown_kind_of_depth_is_refused_with_the_choices():
    with pytest.raises(ValueError, match="known: z, euclidean"):
        unproject(Camera(1, 1, 1, 1, 2, 2), [[1, 1]], [1.0], "disparity")


def test_a_resized_camera_sees_the_same_in_other_pixels():
    camera = Camera(500.0, 520.0, 310.0, 250.0, 640, 480)
    smaller = resized(camera, (320, 240))
    assert smaller == Camera(250.0, 260.0, 155.0, 125.0, 320, 240)
    points = np.random.default_rng(0).normal((0, 0, 4), 1, (20, 3))
    np.testing.assert_allclose(project(smaller, points), project(camera, points) / 2)
    assert resized(camera, (321, 240)) == with_size(camera, (321, 240)), "whole pixels are as coarse as that"


@pytest.mark.parametrize("size_px", [(320, 250), (320, 230), (331, 240), (309, 240), (240, 320)])
def test_there_is_no_resized_camera_of_another_shape(size_px):
    assert resized(Camera(500.0, 520.0, 310.0, 250.0, 640, 480), size_px) is None


def test_there_is_no_resized_camera_of_a_lens():
    lens = Camera(500.0, 520.0, 310.0, 250.0, 640, 480, Distortion("simple_radial", (-0.1,)))
    assert resized(lens, (320, 240)) is None
