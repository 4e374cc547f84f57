"""Registering a depth map into another camera, against planes whose depth is known everywhere."""

from __future__ import annotations

import numpy as np
import pytest

from vlm3data.geometry import invert_pose, rays, rotation_from_yaw_pitch_roll_deg
from vlm3data.geometry.register import register_depth
from vlm3data.types import Camera

CAMERA = Camera(150.0, 150.0, 80.0, 60.0, 160, 120)
V, U = np.indices((120, 160))
RAYS = rays(CAMERA, np.stack([U, V], -1) + 0.5)


def plane_depth(normal: np.ndarray, offset_m: float) -> np.ndarray:
    """Return the z-depth of the plane normal . p = offset."""
    return (offset_m / (RAYS @ normal)).astype(np.float32)


def moved(t: tuple[float, float, float], yaw_deg: float = 0.0) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3] = rotation_from_yaw_pitch_roll_deg(yaw_deg, 0.5, -0.3)
    pose[:3, 3] = t
    return pose


def in_other(normal: np.ndarray, offset_m: float, other_from_here: np.ndarray) -> tuple[np.ndarray, float]:
    turned = other_from_here[:3, :3] @ normal
    return turned, offset_m + turned @ other_from_here[:3, 3]


def test_a_plane_stays_that_plane():
    normal, target_from_depth = np.array([0.3, -0.2, 1.0]), moved((0.04, -0.01, 0.02), 1.5)
    found = register_depth(plane_depth(normal, 2.0), CAMERA, target_from_depth, CAMERA)
    want = plane_depth(*in_other(normal, 2.0, target_from_depth))
    known = ~np.isnan(found)
    assert known.mean() > 0.85
    np.testing.assert_allclose(found[known], want[known], rtol=2e-4)
    # the opposite direction would not pass
    wrong = register_depth(plane_depth(normal, 2.0), CAMERA, invert_pose(target_from_depth), CAMERA)
    both = known & ~np.isnan(wrong)
    assert np.abs(wrong[both] / want[both] - 1).max() > 0.02


@pytest.mark.parametrize("offset_m", [0.3, 8.0])
def test_pixels_need_not_be_square_nor_as_large_in_both_cameras(offset_m):
    """A steep plane, near and far: without the right slope its depth is half a pixel off."""
    camera, target = Camera(150.0, 110.0, 80.0, 60.0, 160, 120), Camera(120.0, 180.0, 64.0, 90.0, 128, 180)
    normal, pose = np.array([0.6, -0.4, 1.0]), np.eye(4)
    pose[:3, 3] = 0.01 * offset_m

    def depth_m(of: Camera, offset_m: float) -> np.ndarray:
        v, u = np.indices((of.height_px, of.width_px))
        return (offset_m / (rays(of, np.stack([u, v], -1) + 0.5) @ normal)).astype(np.float32)

    found = register_depth(depth_m(camera, offset_m), camera, pose, target)
    want = depth_m(target, in_other(normal, offset_m, pose)[1])
    known = ~np.isnan(found)
    assert known.mean() > 0.4
    np.testing.assert_allclose(found[known], want[known], rtol=3e-4)


def test_what_is_behind_an_edge_never_shows_through_what_is_before_it():
    """A post before a wall: the target sees the post elsewhere, and nothing of the wall where the post now is."""
    depth_m = np.full((120, 160), 4.0, np.float32)
    depth_m[:, 70:90] = 1.0
    # 0.06 m to the right at 1 m is 9 pixels, at 4 m two and a quarter
    pose = np.eye(4)
    pose[0, 3] = 0.06
    found = register_depth(depth_m, CAMERA, pose, CAMERA)
    inner = found[5:-5]
    known = inner[:, 80:98][~np.isnan(inner[:, 80:98])]
    assert (known == 1.0).all()
    assert known.size > 0.8 * inner[:, 80:98].size
    left = inner[:, 73:78]  # uncovered: nobody has seen what is there
    assert np.isnan(left).all()


def test_nothing_shows_through_a_surface_whose_samples_leave_gaps():
    """A target with more pixels for the same picture: the post's samples no longer fill it, the wall's are behind."""
    depth_m = np.full((120, 160), 4.0, np.float32)
    depth_m[:, 70:90] = 1.0
    pose = np.eye(4)
    pose[0, 3] = 0.06
    finer = Camera(210.0, 210.0, 112.0, 84.0, 224, 168)
    found = register_depth(depth_m, CAMERA, pose, finer)
    post = found[8:-8, 113:137]  # (70 + 9) * 1.4 to (90 + 9) * 1.4, less a pixel or two
    known = post[~np.isnan(post)]
    assert (known == 1.0).all()
    assert known.size > 0.25 * post.size


def test_unknown_stays_unknown():
    assert np.isnan(register_depth(np.full((120, 160), np.nan, np.float32), CAMERA, np.eye(4), CAMERA)).all()


@pytest.mark.parametrize("transposed", [False, True])
def test_a_step_costs_the_pixels_on_both_sides_of_it_and_no_others(transposed):
    across = V if transposed else U
    at = (60 if transposed else 80) + np.array([-1, 0])
    found = register_depth(np.where(across < at[1], 2.0, 4.0).astype(np.float32), CAMERA, np.eye(4), CAMERA)
    np.testing.assert_array_equal(np.isnan(found), np.isin(across, at))


@pytest.mark.parametrize("shift_m", [(-0.094, 0, 0), (0, -0.094, 0)])
def test_where_a_gap_opens_at_a_step_both_sides_keep_their_depths(shift_m):
    step = np.where((U < 80) if shift_m[0] else (V < 60), 2.0, 4.0).astype(np.float32)
    pose = np.eye(4)
    pose[:3, 3] = shift_m
    found = register_depth(step, CAMERA, pose, CAMERA)
    known = found[~np.isnan(found)]
    assert known.size > 0.8 * found.size
    np.testing.assert_allclose(known, np.where(known < 3, 2.0, 4.0), rtol=1e-6)
