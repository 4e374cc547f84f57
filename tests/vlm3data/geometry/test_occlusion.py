"""Which LiDAR points a camera sees, judged on synthetic streets where rays can be cast from the camera itself."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from vlm3data.geometry.occlusion import BEHIND, PATCH, Sweep, _slope, visible
from vlm3data.randomness import rng_for
from vlm3data.synth.lidar import cast, scan
from vlm3data.synth.outdoors import street
from vlm3data.synth.packed import pack
from vlm3data.types import Float64Array

CAR_M = (0.0, -1.75)
LIDAR_M = (0.94, 0.0, 1.84)
CAMERAS = {
    "front": ((1.70, 0.0, 1.51), 0.0, 35.0),
    "left": ((1.04, 0.48, 1.56), 110.0, 35.0),
    "back": ((0.03, 0.0, 1.57), 180.0, 45.0),
}
"""Place in the car's frame, direction and half the field of view in degrees; much as on nuScenes' cars."""


class Case(NamedTuple):
    """What one camera sees of one scan, in the world's frame."""

    sweep: Sweep
    camera_m: Float64Array
    seen: np.ndarray
    """Exactly: whether a ray from the camera reaches the point."""


def cases(num_worlds: int) -> list[Case]:
    made = []
    for number in range(num_worlds):
        rng = rng_for(3, "occlusion", number)
        packed = pack(street(rng, free=[(CAR_M[0] + along, CAR_M[1], 2.5) for along in (-1.0, 1.0, 3.0)]))
        yaw = rng.uniform(-0.1, 0.1)
        turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
        lidar = np.eye(4)
        lidar[:3, :3] = turn @ np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]])
        lidar[:3, 3] = turn @ LIDAR_M + (*CAR_M, 0)
        returns = scan(packed, lidar).points
        points_m = returns[:, :3].astype(float) @ lidar[:3, :3].T + lidar[:3, 3]
        for place, direction_deg, half_view_deg in CAMERAS.values():
            camera_m = turn @ place + (*CAR_M, 0)
            rays = points_m - camera_m
            off_deg = np.rad2deg(np.arctan2(rays[:, 1], rays[:, 0]) - yaw) - direction_deg
            inside = np.abs((off_deg + 180) % 360 - 180) < half_view_deg
            rays = rays[inside]
            met, _ = cast(packed, np.broadcast_to(camera_m, rays.shape), rays)
            seen = met > 1 - np.maximum(0.01, 0.03 / np.linalg.norm(rays, axis=1))
            made.append(Case(Sweep(points_m[inside], returns[inside, 4].astype(int), lidar[:3, 3]), camera_m, seen))
    return made


@pytest.fixture(scope="module")
def streets() -> list[Case]:
    return cases(24)


def rates(streets: list[Case], judge) -> tuple[float, float]:
    """Return the share of the leaked points that `judge` removes, and of the good ones that it keeps."""
    seen = np.concatenate([case.seen for case in streets])
    kept = np.concatenate([judge(case) for case in streets])
    return float((~kept[~seen]).mean()), float(kept[seen].mean())


def test_leaked_points_go_and_good_ones_stay(streets):
    leaked = sum(int((~case.seen).sum()) for case in streets)
    assert leaked > 1000, "there is something to remove"
    removed, kept = rates(streets, lambda case: visible([case.sweep], case.camera_m))
    assert removed >= 0.9
    assert kept >= 0.95


def test_seen_from_the_lidar_itself_nearly_nothing_is_hidden(streets):
    for case in streets[:6]:
        assert visible([case.sweep], np.asarray(case.sweep.origin_m)).mean() > 0.985


def test_what_a_camera_sees_depends_neither_on_the_frame_nor_on_the_order_of_the_points(streets):
    case = streets[0]
    expected = visible([case.sweep], case.camera_m)
    shift = np.array([411.0, 1180.0, 3.0])
    for angle in np.deg2rad(np.arange(0, 360, 15)):
        turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        moved = Sweep(case.sweep.points_m @ turn.T + shift, case.sweep.ring, turn @ case.sweep.origin_m + shift)
        # No direction is special, the one in which angles wrap around included.
        assert (visible([moved], turn @ case.camera_m + shift) == expected).mean() > 0.999
    order = np.random.default_rng(0).permutation(len(expected))
    shuffled = Sweep(case.sweep.points_m[order], case.sweep.ring[order], case.sweep.origin_m)
    assert (visible([shuffled], case.camera_m) == expected[order]).mean() > 0.999


def test_a_wall_hides_what_lies_behind_it_and_only_that():
    """A wall 10 m away, 3 m high, seen from 2 m by the LiDAR, from 1 m by the camera; a house behind, at 30 m."""
    azimuth = np.deg2rad(np.arange(-10, 10, 360 / 1084))
    rows = []
    for ring, elevation in enumerate(np.deg2rad(np.linspace(-30.67, 10.67, 32))):
        ground_m = 2.0 / np.tan(-elevation) if elevation < 0 else np.inf
        at_wall_m, at_house_m = 2 + 10 * np.tan(elevation), 2 + 30 * np.tan(elevation)
        distance_m = 10.0 if 0 <= at_wall_m <= 3 else min(ground_m, 30.0)
        if distance_m < 30 or at_house_m >= 0:
            rows.append((ring, distance_m, 2 + distance_m * np.tan(elevation)))
    ring = np.repeat([row[0] for row in rows], len(azimuth))
    distance_m = np.repeat([row[1] for row in rows], len(azimuth))
    height_m = np.repeat([row[2] for row in rows], len(azimuth))
    around = np.tile(azimuth, len(rows))
    points_m = np.stack([distance_m, distance_m * np.tan(around), height_m], 1)
    kept = visible([Sweep(points_m, ring, (0, 0, 2.0))], (0, 0, 1.0))
    house = distance_m == 30
    line_of_sight_m = 1 + (height_m - 1) * 10 / 30
    assert kept[~house].all()
    step_m = 10 * np.deg2rad(41.34 / 31)
    assert not kept[house & (line_of_sight_m < 3 - step_m)].any()
    assert kept[house & (line_of_sight_m > 3 + step_m)].all()


def test_an_older_sweep_is_hidden_by_the_newer_one(streets):
    case = streets[0]
    empty = Sweep(case.sweep.points_m[:0], case.sweep.ring[:0], case.sweep.origin_m)
    alone = visible([case.sweep], case.camera_m)
    np.testing.assert_array_equal(visible([case.sweep, empty], case.camera_m), alone)
    both = visible([case.sweep, case.sweep], case.camera_m)
    np.testing.assert_array_equal(both, np.concatenate([alone, alone]))


def test_no_points_are_no_problem():
    assert visible([Sweep(np.zeros((0, 3)), np.zeros(0, int), (0, 0, 0))], (0, 0, 1)).shape == (0,)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e3])
def test_single_points_hide_what_lies_behind_them_within_a_patch(scale):
    """Seen from the LiDAR itself, with no neighbour to tell a slope, a patch is a disc at its point's distance."""
    rng, step_rad = np.random.default_rng(0), (0.01, 0.02)
    hidden_at_all = 0
    for _ in range(400):
        count = int(rng.integers(1, 8))
        around, up = rng.uniform(-4, 4, count), rng.uniform(-1, 1, count) + rng.choice([-40, 0, 40])
        distance_m = np.exp(rng.uniform(0, 3, count)) * scale
        azimuth, elevation = around * step_rad[0], up * step_rad[1]
        level = np.cos(elevation) * distance_m
        toward = rng.uniform(-np.pi, np.pi)
        points_m = np.stack(
            [level * np.cos(azimuth + toward), level * np.sin(azimuth + toward), np.sin(elevation) * distance_m], 1
        )
        rings = 2 * np.arange(count)  # none is a neighbour of another
        kept = visible([Sweep(points_m, rings, (0, 0, 0))], (0, 0, 0), step_rad)
        beside = np.abs(around[:, None] - around) < PATCH[0]
        beside &= np.abs(up[:, None] - up) < PATCH[1]
        expected = (beside & (1 / distance_m[:, None] < (1 - BEHIND) / distance_m)).any(axis=1)
        np.testing.assert_array_equal(~kept, expected)
        hidden_at_all += expected.sum()
    assert hidden_at_all > 100


def test_a_slope_is_known_where_there_is_a_neighbour_the_first_point_included():
    up, inverse = np.array([0.0, 1.0, 3.0, 3.0]), np.array([0.1, 0.2, 0.6, 0.5])
    np.testing.assert_allclose(_slope(up, inverse, np.array([-1, 0, 1, 2])), [np.nan, 0.1, 0.2, np.nan])


@pytest.mark.parametrize("origin_m", [(900.0, 0, 0), (-900.0, 0, 0), (0, 900.0, 0), (0, -900.0, 0)])
def test_angles_wrap_around_behind_the_camera_wherever_it_stands(origin_m):
    for side in np.deg2rad([0, 90, 180, 270]):
        around = side + np.array([0.2, -0.2]) * 0.01
        points_m = origin_m + np.stack([np.cos(around), np.sin(around), 0 * around], 1) * [[5.0], [20.0]]
        assert visible([Sweep(points_m, np.array([0, 2]), origin_m)], origin_m, (0.01, 0.02)).tolist() == [True, False]


def test_points_on_all_sides_have_no_side_to_count_angles_from():
    around = np.tile(np.arange(4) * np.pi / 2, 2)
    distance_m = np.repeat([5.0, 20.0], 4)
    points_m = np.stack([distance_m * np.cos(around), distance_m * np.sin(around), 0.1 * distance_m], 1).round(12)
    seen = visible([Sweep(points_m, 2 * np.arange(8), (0, 0, 0))], (0, 0, 0))
    np.testing.assert_array_equal(seen, distance_m == 5)
