"""Every lens model agrees with OpenCV, and undistortion is its inverse or says that there is none."""

import cv2
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from vlm3data.geometry import distort, undistort
from vlm3data.types import Distortion

SIZES = {
    "brown_conrady": (4, 5, 8),
    "simple_radial": (1,),
    "radial": (2,),
    "opencv": (4,),
    "opencv_fisheye": (4,),
}


@st.composite
def distortions(draw):
    model = draw(st.sampled_from(sorted(SIZES)))
    params = [draw(st.floats(-0.3, 0.3)) for _ in range(draw(st.sampled_from(SIZES[model])))]
    if model in ("brown_conrady", "opencv"):
        params[2:4] = [0.02 * p for p in params[2:4]]
    return Distortion(model, tuple(params))


points = st.tuples(st.floats(-1.2, 1.2), st.floats(-1.2, 1.2)).map(lambda xy: np.array([xy]))


def by_opencv(distortion, xy):
    if distortion.model == "opencv_fisheye":
        return cv2.fisheye.distortPoints(xy[None], np.eye(3), np.array(distortion.params))[0]
    params = np.zeros(8)
    params[: len(distortion.params)] = distortion.params
    rays = np.column_stack([xy, np.ones(len(xy))])
    return cv2.projectPoints(rays, np.zeros(3), np.zeros(3), np.eye(3), params)[0][:, 0]


@given(distortions(), points)
def test_distort_agrees_with_opencv_wherever_the_model_is_valid(distortion, xy):
    distorted = distort(distortion, xy)
    assume(np.isfinite(distorted).all())
    np.testing.assert_allclose(distorted, by_opencv(distortion, xy), rtol=0, atol=1e-6)


@given(distortions(), points)
def test_undistort_is_the_inverse_to_twelve_digits(distortion, xy):
    distorted = distort(distortion, xy)
    assume(np.isfinite(distorted).all())
    step = 1e-6
    slopes = [(distort(distortion, xy + d) - distort(distortion, xy - d)) / (2 * step) for d in step * np.eye(2)]
    assume(np.linalg.det(np.concatenate(slopes)) > 0.1)  # nearer the fold no digits are left to find
    undistorted = undistort(distortion, distorted)
    np.testing.assert_allclose(undistorted, xy, rtol=0, atol=1e-10)
    np.testing.assert_allclose(distort(distortion, undistorted), distorted, rtol=0, atol=3e-12)


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
    for model, params in (("brown_conrady", (0.1,) * 6), ("radial", (0.1,))):
        with pytest.raises(ValueError, match="wrong number of parameters"):
            undistort(Distortion(model, params), [[0, 0]])
