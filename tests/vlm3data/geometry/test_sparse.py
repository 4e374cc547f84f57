"""Observed points of a sparse reconstruction: their depth, which can be trusted, which images share them."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from vlm3data.geometry.sparse import Seen, reprojection_px, shared_share, sound, z_depth_of
from vlm3data.types import Camera

CAMERA = Camera(500.0, 520.0, 320.0, 240.0, 640, 480)


def test_depth_and_reprojection_follow_from_the_pose():
    rng = np.random.default_rng(0)
    world_from_cam = np.eye(4)
    world_from_cam[:3, :3], world_from_cam[:3, 3] = Rotation.random(random_state=1).as_matrix(), (5, -3, 2)
    z_m = rng.uniform(1, 9, 200)
    xy_px = rng.uniform(0, (640, 480), (200, 2))
    cam_m = np.column_stack([(xy_px - (320, 240)) / (500, 520) * z_m[:, None], z_m])
    seen = Seen(np.arange(200), xy_px + np.array((3, 4)), cam_m @ world_from_cam[:3, :3].T + world_from_cam[:3, 3])
    np.testing.assert_allclose(z_depth_of(seen, world_from_cam), z_m, rtol=1e-12)
    np.testing.assert_allclose(reprojection_px(seen, CAMERA, world_from_cam), 5, rtol=1e-9)
    behind = seen._replace(world_m=2 * world_from_cam[:3, 3] - seen.world_m)
    assert np.isinf(reprojection_px(behind, CAMERA, world_from_cam)).all()


def test_sound_is_what_lies_inside_once_and_near_where_it_should():
    xy_px = np.array([[0, 0], [0.5, 479.99], [639.99, 0], [640, 5], [5, 480], [-0.01, 5], [5, -0.01], [9, 9], [8, 8]])
    point = np.array([1, 2, 3, 4, 5, 6, 7, 8, 8])
    seen = Seen(point, xy_px, np.zeros((9, 3)))
    kept = sound(seen, CAMERA, np.zeros(9), 1.0)
    assert kept.point.tolist() == [1, 2, 3]
    error_px = np.array([1.0, 1.001, np.inf, *[0.0] * 6])
    assert sound(seen, CAMERA, error_px, 1.0).point.tolist() == [1]


def test_shared_shares_agree_with_sets():
    rng = np.random.default_rng(0)
    seen = [np.sort(rng.choice(60, rng.integers(0, 40), replace=False)) for _ in range(12)]
    found = shared_share(seen, 8)
    for i, mine in enumerate(seen):
        for j, other in enumerate(seen):
            if min(len(mine), len(other)) < 8:
                assert np.isnan(found[i, j])
            else:
                assert abs(found[i, j] - len(set(mine) & set(other)) / len(mine)) < 1e-6
    assert np.isfinite(found).any()
    assert np.isnan(found).any()
