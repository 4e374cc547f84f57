"""Quaternions and rotation matrices, there and back."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from vlm3data.geometry.quaternion import pose_from_quaternion, quaternion_from_rotation, rotation_from_quaternion


def test_rotations_agree_with_scipy_and_come_back() -> None:
    for turn in Rotation.random(50, random_state=0):
        x, y, z, w = turn.as_quat(canonical=True)
        np.testing.assert_allclose(rotation_from_quaternion([2 * w, 2 * x, 2 * y, 2 * z]), turn.as_matrix(), atol=1e-12)
        np.testing.assert_allclose(quaternion_from_rotation(turn.as_matrix()), [w, x, y, z], atol=1e-12)


@pytest.mark.parametrize("axis", np.eye(3))
@pytest.mark.parametrize("angle", [0.0, 1e-9, np.pi - 1e-9, np.pi])
def test_no_turn_and_half_a_turn_are_exact(axis: np.ndarray, angle: float) -> None:
    rotation = Rotation.from_rotvec(axis * angle).as_matrix()
    quaternion = quaternion_from_rotation(rotation)
    assert quaternion[0] >= 0
    np.testing.assert_allclose(rotation_from_quaternion(quaternion), rotation, atol=1e-14)


def test_many_poses_at_once() -> None:
    turns = Rotation.random(5, random_state=1)
    x, y, z, w = turns.as_quat().T
    places = np.arange(15.0).reshape(5, 3)
    poses = pose_from_quaternion(np.stack([w, x, y, z], 1), places)
    np.testing.assert_allclose(poses[:, :3, :3], turns.as_matrix(), atol=1e-12)
    np.testing.assert_array_equal(poses[:, :3, 3], places)
    np.testing.assert_array_equal(poses[:, 3], np.tile([0, 0, 0, 1], (5, 1)))
