"""Oriented boxes against independent methods: bounded least squares for distances, Euler angles for levelling."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import lsq_linear
from scipy.spatial.transform import Rotation

from vlm3data.geometry import rotation_from_yaw_pitch_roll_deg
from vlm3data.geometry.boxes import (
    EDGES,
    corners,
    gap_between,
    inner_reach_m,
    level_from_cam,
    nearest_on_box,
    reach_m,
    up_in_camera,
)
from vlm3data.types import Cut, Drop


def random_box(rng: np.random.Generator, spread_m: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    pose = np.eye(4)
    pose[:3, :3] = Rotation.random(rng=rng).as_matrix() if rng.random() < 0.7 else np.eye(3)
    pose[:3, 3] = rng.normal(0, spread_m, 3)
    return pose, np.exp(rng.uniform(np.log(0.05), np.log(4), 3))


def distance_by_least_squares(pose1, size1, pose2, size2) -> float:
    """The smallest |p - q| for p and q in the two boxes: least squares with bounds on their six coordinates."""
    matrix = np.hstack([pose1[:3, :3], -pose2[:3, :3]])
    bound = np.concatenate([size1, size2]) / 2
    solution = lsq_linear(matrix, pose2[:3, 3] - pose1[:3, 3], (-bound, bound), method="bvls", tol=1e-14)
    return float(np.sqrt(2 * solution.cost))


def test_distances_agree_with_bounded_least_squares():
    rng = np.random.default_rng(0)
    touching = 0
    for number in range(2000):
        spread_m = 2.0 if number % 2 else 0.7  # far apart, and close enough to intersect often
        (pose1, size1), (pose2, size2) = random_box(rng, spread_m), random_box(rng, spread_m)
        gap = gap_between(pose1, size1, pose2, size2)
        expected = distance_by_least_squares(pose1, size1, pose2, size2)
        assert gap.distance_m == pytest.approx(expected, abs=1e-7)
        touching += gap.distance_m == 0
        if gap.distance_m > 0:
            # The direction separates: along it, both boxes reach up to the gap and no farther.
            assert np.linalg.norm(gap.direction) == pytest.approx(1)
            apart = gap.direction @ (pose2[:3, 3] - pose1[:3, 3])
            reach = reach_m(pose1, size1, gap.direction) + reach_m(pose2, size2, gap.direction)
            assert apart - reach == pytest.approx(gap.distance_m, abs=1e-6)
    assert 200 < touching < 1000


def test_a_distance_does_not_depend_on_order_or_frame():
    rng = np.random.default_rng(1)
    for _ in range(100):
        (pose1, size1), (pose2, size2) = random_box(rng), random_box(rng)
        moved = random_box(rng)[0]
        distance_m = gap_between(pose1, size1, pose2, size2).distance_m
        assert gap_between(pose2, size2, pose1, size1).distance_m == pytest.approx(distance_m, abs=1e-9)
        assert gap_between(moved @ pose1, size1, moved @ pose2, size2).distance_m == pytest.approx(distance_m, abs=1e-9)


@pytest.mark.parametrize(
    ("centre", "size", "distance_m"),
    [
        ((3, 0, 0), (2, 2, 2), 1.0),
        ((3, 4, 0), (2, 2, 2), np.hypot(1, 2)),
        ((3, 4, 5), (2, 2, 2), np.sqrt(1 + 4 + 9)),
        ((2, 0, 0), (2, 2, 2), 0.0),  # they touch
        ((0.5, 0, 0), (2, 2, 2), 0.0),
        ((0.1, 0.2, 0), (0.5, 0.5, 0.5), 0.0),  # one inside the other
    ],
)
def test_distances_known_by_hand(centre, size, distance_m):
    other = np.eye(4)
    other[:3, 3] = centre
    assert gap_between(np.eye(4), (2, 2, 2), other, size).distance_m == pytest.approx(distance_m, abs=1e-12)


def test_a_box_may_be_flat():
    above = np.eye(4)
    above[:3, 3] = (0.3, 0.2, 4.0)
    assert gap_between(np.eye(4), (2, 2, 0), above, (2, 2, 2)).distance_m == pytest.approx(3)
    assert gap_between(np.eye(4), (2, 0, 0), above, (2, 2, 0)).distance_m == pytest.approx(4)


def test_boxes_that_touch_or_intersect_have_no_gap_to_point_along():
    rng = np.random.default_rng(4)
    for number in range(300):
        size1, size2 = np.exp(rng.uniform(-3, 1, (2, 3)))
        axis, beside = rng.integers(3), np.eye(4)
        beside[axis, 3] = (size1[axis] + size2[axis]) / (2 if number % 2 else 3)
        turned = np.eye(4)
        turned[:3, :3] = Rotation.random(rng=rng).as_matrix()
        with np.errstate(all="raise"):
            gap = gap_between(turned, size1, turned @ beside, size2)
        assert gap.distance_m < 1e-12
        assert gap.direction.shape == (3,)
        assert gap.distance_m > 0 or np.isnan(gap.direction).all()


def test_two_edges_that_cross_in_the_air():
    turned = np.eye(4)
    turned[:3, :3] = Rotation.from_euler("x", 45, degrees=True).as_matrix()
    crossing = np.eye(4)
    crossing[:3, :3] = Rotation.from_euler("y", 45, degrees=True).as_matrix()
    crossing[:3, 3] = (0, 0, 5)
    gap = gap_between(turned, (2, 2, 2), crossing, (2, 2, 2))
    assert gap.distance_m == pytest.approx(5 - 2 * np.sqrt(2))
    np.testing.assert_allclose(gap.direction, (0, 0, 1), atol=1e-12)


def test_reach_is_that_of_the_corners_and_of_the_ellipsoid():
    rng = np.random.default_rng(2)
    sphere = rng.normal(size=(20000, 3))
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    for _ in range(20):
        pose, size = random_box(rng)
        direction = sphere[0]
        away = corners(pose, size) - pose[:3, 3]
        assert reach_m(pose, size, direction) == pytest.approx((away @ direction).max())
        surface = sphere * size / 2 @ pose[:3, :3].T
        assert inner_reach_m(pose, size, direction) == pytest.approx((surface @ direction).max(), rel=2e-2)


def test_reach_along_many_directions_is_that_along_each():
    rng = np.random.default_rng(5)
    pose, size = random_box(rng)
    for directions in (np.eye(3), rng.normal(size=(2, 4, 3))):
        for reach in (reach_m, inner_reach_m):
            each = [reach(pose, size, direction) for direction in directions.reshape(-1, 3)]
            np.testing.assert_allclose(reach(pose, size, directions).ravel(), each)


def test_edges_join_corners_that_differ_along_one_axis():
    pose, size = np.eye(4), np.array([1.0, 2.0, 3.0])
    ways = np.abs(np.diff(corners(pose, size)[EDGES], axis=1)[:, 0])
    assert sorted(ways.sum(axis=1)) == sorted([1.0, 2.0, 3.0] * 4)
    assert ((ways > 0).sum(axis=1) == 1).all()
    assert len({tuple(edge) for edge in EDGES.tolist()}) == 12


def test_nearest_on_box_of_a_point_inside_is_the_point():
    pose, size = random_box(np.random.default_rng(3))
    inside = corners(pose, size * 0.9)
    np.testing.assert_allclose(nearest_on_box(pose, size, inside), inside)
    np.testing.assert_allclose(nearest_on_box(pose, size, corners(pose, size * 1.5)), corners(pose, size))


def test_levelling_undoes_pitch_and_roll_and_keeps_the_heading():
    world_up = (0.0, -1.0, 0.0)  # a world in camera axes
    rng = np.random.default_rng(4)
    for _ in range(200):
        yaw, pitch, roll = rng.uniform(-180, 180), rng.uniform(-84, 84), rng.uniform(-180, 180)
        world_from_cam = np.eye(4)
        world_from_cam[:3, :3] = rotation_from_yaw_pitch_roll_deg(yaw, pitch, roll)
        level = level_from_cam(up_in_camera(world_from_cam, world_up))
        expected = rotation_from_yaw_pitch_roll_deg(0, pitch, roll)
        np.testing.assert_allclose(level[:3, :3], expected, atol=1e-9)
        assert np.linalg.det(level[:3, :3]) == pytest.approx(1)
        np.testing.assert_array_equal(level[:3, 3], 0)


def test_no_level_without_gravity_or_forward():
    with pytest.raises(Drop, match="no_gravity"):
        up_in_camera(np.eye(4), None)
    with pytest.raises(Drop, match="no_gravity"):
        up_in_camera(None, (0, 0, 1))
    for up in ((0, 0, 1), (0, 0, -1), (0, 0.08, 1)):
        with pytest.raises(Cut, match="no_gravity"):
            level_from_cam(up)
    level_from_cam((0, 0.2, 1))
