"""Which matrices pass for a rotation and a translation."""

from __future__ import annotations

import numpy as np
import pytest

from vlm3data.geometry import rotation_from_yaw_pitch_roll_deg
from vlm3data.geometry.rigid import as_rigid


def pose() -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = rotation_from_yaw_pitch_roll_deg(40, -20, 70)
    matrix[:3, 3] = 1, 2, 3
    return matrix


def test_rounding_is_mended_and_hardly_moves_anything():
    found = as_rigid(np.round(pose(), 6).astype(np.float32))
    assert found is not None
    np.testing.assert_allclose(found[:3, :3] @ found[:3, :3].T, np.eye(3), atol=1e-14)
    np.testing.assert_allclose(found, pose(), atol=2e-6)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda m: m * np.nan,
        lambda m: np.full((4, 4), -np.inf),
        lambda m: np.zeros((4, 4)),
        lambda m: m * np.diag([1.002, 1.002, 1.002, 1]),
        lambda m: m @ np.diag([1.0, 1, -1, 1]),
        lambda m: m.T,
        lambda m: m + np.array([[0, 0.01, 0, 0], *[[0] * 4] * 3]),
        lambda m: m * 1e200,
    ],
    ids=["nan", "lost", "zero", "scaled", "mirrored", "transposed", "sheared", "huge"],
)
def test_what_is_not_rigid_is_refused(spoil):
    assert as_rigid(spoil(pose())) is None
