"""Every lens model agrees with OpenCV and COLMAP, and undistortion is its inverse or says that there is none."""

import cv2
import numpy as np
import pycolmap
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vlm3data.geometry import distort, undistort
from vlm3data.geometry.distortion import _apply
from vlm3data.geometry.lenses import lens_of
from vlm3data.types import Distortion

SIZES = {
    "brown_conrady": (4, 5, 8),
    "simple_radial": (1,),
    "radial": (2,),
    "opencv": (4,),
    "opencv_fisheye": (4,),
    "full_opencv": (8,),
    "fov": (1,),
    "simple_radial_fisheye": (1,),
    "radial_fisheye": (2,),
    "thin_prism_fisheye": (8,),
    "rad_tan_thin_prism_fisheye": (12,),
}
SMALL = {
    "brown_conrady": slice(2, 4),
    "opencv": slice(2, 4),
    "full_opencv": slice(2, 4),
    "thin_prism_fisheye": [2, 3, 6, 7],
    "rad_tan_thin_prism_fisheye": slice(6, 12),
}
"""The parameters that are not radial, and never as large as those that are."""
BY_COLMAP = sorted(set(SIZES) - {"brown_conrady"})


@st.composite
def distortions(draw, model=None):
    model = model or draw(st.sampled_from(sorted(SIZES)))
    params = np.array([draw(st.floats(-0.3, 0.3)) for _ in range(draw(st.sampled_from(SIZES[model])))])
    if model in SMALL:
        params[SMALL[model]] *= 0.02
    if model == "fov":
        params *= 4
    return Distortion(model, tuple(params.tolist()))


points = st.tuples(st.floats(-1.2, 1.2), st.floats(-1.2, 1.2)).map(lambda xy: np.array([xy]))


def by_opencv(distortion, xy):
    if distortion.model == "opencv_fisheye":
        return cv2.fisheye.distortPoints(xy[None], np.eye(3), np.array(distortion.params))[0]
    params = np.zeros(8)
    params[: len(distortion.params)] = distortion.params
    rays = np.column_stack([xy, np.ones(len(xy))])
    return cv2.projectPoints(rays, np.zeros(3), np.zeros(3), np.eye(3), params)[0][:, 0]


def by_colmap(distortion, xy):
    one_focal = distortion.model in ("simple_radial", "radial", "simple_radial_fisheye", "radial_fisheye")
    params = [*([1.0] if one_focal else [1.0, 1.0]), 0.0, 0.0, *distortion.params]
    camera = pycolmap.Camera(model=distortion.model.upper(), width=1000, height=1000, params=params)
    return camera.img_from_cam(np.column_stack([xy, np.ones(len(xy))]))


@given(distortions(), points)
def test_distort_agrees_with_opencv_wherever_the_model_is_valid(distortion, xy):
    assume(distortion.model in ("opencv_fisheye", "brown_conrady", "simple_radial", "radial", "opencv", "full_opencv"))
    distorted = distort(distortion, xy)
    assume(np.isfinite(distorted).all())
    np.testing.assert_allclose(distorted, by_opencv(distortion, xy), rtol=0, atol=1e-6)


@pytest.mark.parametrize("model", BY_COLMAP)
@given(st.data(), points)
@settings(max_examples=40)
def test_distort_agrees_with_colmap_wherever_the_model_is_valid(model, data, xy):
    distortion = data.draw(distortions(model))
    if model == "fov":  # below 0.01 rad COLMAP uses a series whose sign is that of the inverse, up to 3e-5 off
        assume(abs(distortion.params[0]) > 0.0101)
    distorted = distort(distortion, xy)
    assume(np.isfinite(distorted).all())
    np.testing.assert_allclose(distorted, by_colmap(distortion, xy), rtol=0, atol=1e-6)


@pytest.mark.parametrize("model", sorted(SIZES))
@given(st.data(), points)
@settings(max_examples=40)
def test_undistort_is_the_inverse_to_twelve_digits(model, data, xy):
    distortion = data.draw(distortions(model))
    distorted = distort(distortion, xy)
    assume(np.isfinite(distorted).all())
    step = 1e-6
    slopes = [(distort(distortion, xy + d) - distort(distortion, xy - d)) / (2 * step) for d in step * np.eye(2)]
    assume(np.linalg.det(np.concatenate(slopes)) > 0.1)  # nearer the fold no digits are left to find
    undistorted = undistort(distortion, distorted)
    assert np.isfinite(undistorted).all()
    np.testing.assert_allclose(undistorted, xy, rtol=0, atol=1e-10)
    np.testing.assert_allclose(distort(distortion, undistorted), distorted, rtol=0, atol=3e-12)


@pytest.mark.parametrize("model", sorted(SIZES))
@given(st.data(), points)
@settings(max_examples=10)
def test_the_derivatives_are_those_of_the_lens(model, data, bent):
    """A wrong one would still converge, more slowly, and then be wrong about where the lens folds back."""
    lens, max_radius = lens_of(data.draw(distortions(model)))
    assume(np.linalg.norm(bent) < 0.9 * max_radius)
    _, jacobian = _apply(lens, bent)
    step = 1e-6
    xx, yx, xy, yy = np.concatenate(
        [((_apply(lens, bent + d)[0] - _apply(lens, bent - d)[0]) / (2 * step))[0] for d in step * np.eye(2)]
    )
    np.testing.assert_allclose(np.array(jacobian)[:, 0], [xx, xy, yx, yy], rtol=1e-6, atol=1e-7)


def test_beyond_the_fold_there_is_nothing_in_either_direction():
    fold = 1 / np.sqrt(3 * 0.3)  # where r(1 - 0.3 r²) turns back
    barrel = Distortion("simple_radial", (-0.3,))
    highest = fold * (1 - 0.3 * fold**2)
    assert np.isfinite(distort(barrel, [[fold * 0.999, 0]])).all()
    assert np.isnan(distort(barrel, [[fold * 1.001, 0]])).all()
    assert np.isfinite(undistort(barrel, [[0, highest * 0.999]])).all()
    assert np.isnan(undistort(barrel, [[0, highest * 1.001]])).all()


def test_a_fisheye_sees_almost_to_the_side_and_not_behind():
    ideal = Distortion("opencv_fisheye", (0, 0, 0, 0))  # radius = angle
    side = np.radians(89)
    assert undistort(ideal, [[side, 0]])[0, 0] == pytest.approx(np.tan(side), rel=1e-9)
    assert np.isnan(undistort(ideal, [[np.radians(91), 0]])).all()


def test_a_lens_without_a_field_of_view_parameter_does_nothing():
    xy = np.array([[0.3, -0.8]])
    for move in (distort, undistort):
        np.testing.assert_array_equal(move(Distortion("fov", (0.0,)), xy), xy)
        np.testing.assert_allclose(move(Distortion("fov", (1e-9,)), xy), xy, rtol=0, atol=1e-15)


@pytest.mark.parametrize("model", sorted(SIZES))
def test_the_axis_and_unknown_points_stay_what_they_are(model):
    distortion = Distortion(model, (0.1,) * SIZES[model][-1])
    for move in (distort, undistort):
        moved = move(distortion, [[0, 0], [np.nan, 0.1]])
        np.testing.assert_array_equal(moved[0], 0)
        assert np.isnan(moved[1]).all()
        assert move(distortion, np.zeros((0, 2))).shape == (0, 2)


def test_a_wrong_model_or_number_of_parameters_is_refused():
    with pytest.raises(ValueError, match="known: brown_conrady"):
        distort(Distortion("kannala", (0.1,)), [[0, 0]])
    with pytest.raises(ValueError, match="under 180 degrees"):
        distort(Distortion("fov", (3.2,)), [[0, 0]])
    for model, params in (("brown_conrady", (0.1,) * 6), ("radial", (0.1,))):
        with pytest.raises(ValueError, match="wrong number of parameters"):
            undistort(Distortion(model, params), [[0, 0]])
