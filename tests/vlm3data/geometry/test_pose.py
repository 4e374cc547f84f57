"""Angles name the turns that a person would see, and give the rotation back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from vlm3data.geometry import (
    invert_pose,
    relative_pose,
    rotation_angle_deg,
    rotation_from_yaw_pitch_roll_deg,
    yaw_pitch_roll_deg,
)

turns = st.floats(-179.9, 179.9)
tilts = st.floats(-90, 90)


def pose(rotation, centre):
    world_from_cam = np.eye(4)
    world_from_cam[:3, :3], world_from_cam[:3, 3] = rotation, centre
    return world_from_cam


@given(turns, tilts, turns)
def test_the_matrix_is_scipys_and_the_angles_give_it_back(yaw, pitch, roll):
    rotation = rotation_from_yaw_pitch_roll_deg(yaw, pitch, roll)
    expected = Rotation.from_euler("YXZ", [yaw, pitch, roll], degrees=True).as_matrix()
    np.testing.assert_allclose(rotation, expected, atol=1e-14)
    angles = yaw_pitch_roll_deg(rotation)
    np.testing.assert_allclose(rotation_from_yaw_pitch_roll_deg(*angles), rotation, atol=1e-13)
    if abs(pitch) < 89:
        np.testing.assert_allclose(angles, [yaw, pitch, roll], atol=1e-10)


@pytest.mark.parametrize("pitch", [90, -90])
def test_straight_up_and_down_still_give_the_rotation_back(pitch):
    rotation = rotation_from_yaw_pitch_roll_deg(35, pitch, -20)
    angles = yaw_pitch_roll_deg(rotation)
    assert angles[1] == pytest.approx(pitch)
    np.testing.assert_allclose(rotation_from_yaw_pitch_roll_deg(*angles), rotation, atol=1e-14)


def test_the_signs_mean_right_up_and_bank_right():
    ahead, right = np.array([0, 0, 1]), np.array([1, 0, 0])
    assert (rotation_from_yaw_pitch_roll_deg(10, 0, 0) @ ahead)[0] > 0  # looks to +x, right
    assert (rotation_from_yaw_pitch_roll_deg(0, 10, 0) @ ahead)[1] < 0  # looks to -y, up
    assert (rotation_from_yaw_pitch_roll_deg(0, 0, 10) @ right)[1] > 0  # the right axis goes to +y, down


@given(turns, tilts, turns)
def test_the_angle_is_scipys(yaw, pitch, roll):
    rotation = rotation_from_yaw_pitch_roll_deg(yaw, pitch, roll)
    expected = np.degrees(Rotation.from_matrix(rotation).magnitude())
    assert rotation_angle_deg(rotation) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("angle", [0, 1e-7, 1e-3, 90, 179.999, 180])
def test_small_and_half_turns_keep_their_digits(angle):
    assert rotation_angle_deg(rotation_from_yaw_pitch_roll_deg(0, 0, angle)) == pytest.approx(angle, rel=1e-9)


def test_the_released_pose_sample():
    rotation = rotation_from_yaw_pitch_roll_deg(89.60077227075526, 2.598684372865458, 6.072327841623985)
    assert rotation_angle_deg(rotation) == pytest.approx(89.6547345694857, abs=1e-6)


@given(turns, tilts, turns, turns, tilts)
def test_a_relative_pose_carries_points_of_camera_2_to_camera_1(yaw1, pitch1, roll1, yaw2, pitch2):
    world_from_cam1 = pose(rotation_from_yaw_pitch_roll_deg(yaw1, pitch1, roll1), [1, 2, 3])
    world_from_cam2 = pose(rotation_from_yaw_pitch_roll_deg(yaw2, pitch2, 5), [-2, 0.5, 4])
    rotation, translation_m = relative_pose(world_from_cam1, world_from_cam2)
    point2 = np.array([0.3, -0.2, 2.0])
    world = world_from_cam2 @ [*point2, 1]
    np.testing.assert_allclose(
        rotation @ point2 + translation_m, (invert_pose(world_from_cam1) @ world)[:3], atol=1e-12
    )
    np.testing.assert_allclose(invert_pose(world_from_cam1), np.linalg.inv(world_from_cam1), atol=1e-12)


def test_a_camera_that_steps_right_and_turns_right_is_described_so():
    world_from_cam1 = pose(rotation_from_yaw_pitch_roll_deg(90, 0, 0), [0, 0, 0])  # looks along world x
    world_from_cam2 = pose(rotation_from_yaw_pitch_roll_deg(120, 0, 0), [0, 0, -2])  # its right is world -z
    rotation, translation_m = relative_pose(world_from_cam1, world_from_cam2)
    np.testing.assert_allclose(translation_m, [2, 0, 0], atol=1e-12)
    np.testing.assert_allclose(yaw_pitch_roll_deg(rotation), [30, 0, 0], atol=1e-12)
