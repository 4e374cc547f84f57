"""Upright boxes: points of a known box give that box back; the least of all rectangles."""

from __future__ import annotations

import numpy as np
import pytest

from vlm3data.geometry.upright import upright_box


def points_of(
    yaw: float, size: tuple[float, float, float], centre: tuple[float, float, float], seed: int
) -> np.ndarray:
    """Return the corners of a box and points inside it."""
    rng = np.random.default_rng(seed)
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    local = np.concatenate([signs, rng.uniform(-1, 1, (200, 3))]) * np.array(size) / 2
    c, s = np.cos(yaw), np.sin(yaw)
    return local @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]).T + centre


@pytest.mark.parametrize("yaw_deg", [-90, -89.9, -45, -10, 0, 30, 45, 89.9])
def test_a_box_comes_back_whatever_its_yaw(yaw_deg):
    centre = (1000.0, -2000.0, 3.0)
    world_from_box, size = upright_box(points_of(np.deg2rad(yaw_deg), (2.0, 0.5, 1.2), centre, 1))
    np.testing.assert_allclose(size, (2.0, 0.5, 1.2), atol=1e-5)
    np.testing.assert_allclose(world_from_box[:3, 3], centre, atol=1e-5)
    found = np.rad2deg(np.arctan2(world_from_box[1, 0], world_from_box[0, 0]))
    assert -90 <= found < 90
    assert min(abs(found - yaw_deg), 180 - abs(found - yaw_deg)) < 1e-3
    np.testing.assert_allclose(world_from_box[:3, :3].T @ world_from_box[:3, :3], np.eye(3), atol=1e-12)
    assert np.linalg.det(world_from_box[:3, :3]) == pytest.approx(1)
    np.testing.assert_array_equal(world_from_box[:3, 2], [0, 0, 1])


@pytest.mark.parametrize("seed", range(10))
def test_the_box_holds_all_points_and_no_turned_one_is_smaller(seed):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(300, 3)) @ rng.normal(size=(3, 3))
    world_from_box, size = upright_box(points)
    local = (points - world_from_box[:3, 3]) @ world_from_box[:3, :3]
    assert (np.abs(local) <= np.array(size) / 2 + 1e-5).all()
    for angle in np.linspace(0, np.pi / 2, 91):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        assert np.prod(np.ptp(points[:, :2] @ turn, axis=0)) >= size[0] * size[1] * (1 - 1e-5)


def test_points_on_a_line_or_one_point_have_a_flat_box():
    line = np.stack([np.linspace(0, 1, 5), np.linspace(0, 1, 5), np.zeros(5)], 1)
    np.testing.assert_allclose(upright_box(line)[1], (np.sqrt(2), 0, 0), atol=1e-6)
    np.testing.assert_allclose(upright_box(line[:1])[1], (0, 0, 0), atol=1e-12)
