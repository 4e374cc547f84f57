"""Quaternions against SciPy's."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from vlm3data.geometry.quaternion import pose_from_quaternion, rotation_from_quaternion


def test_rotations_are_scipys_of_any_length_and_shape():
    turns = Rotation.random(60, random_state=1)
    wxyz = np.roll(turns.as_quat(), 1, axis=1) * np.linspace(0.5, 2, 60)[:, None]
    np.testing.assert_allclose(rotation_from_quaternion(wxyz), turns.as_matrix(), atol=1e-14)
    np.testing.assert_allclose(rotation_from_quaternion(wxyz[7]), turns[7].as_matrix(), atol=1e-14)
    np.testing.assert_array_equal(rotation_from_quaternion(-wxyz), rotation_from_quaternion(wxyz))


def test_a_pose_has_its_translation_in_the_last_column():
    poses = pose_from_quaternion([[1, 0, 0, 0], [0, 0, 0, 2]], [[1, 2, 3], [4, 5, 6]])
    np.testing.assert_allclose(poses[0], [[1, 0, 0, 1], [0, 1, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]])
    np.testing.assert_allclose(poses[1], [[-1, 0, 0, 4], [0, -1, 0, 5], [0, 0, 1, 6], [0, 0, 0, 1]], atol=1e-15)
