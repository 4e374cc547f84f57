"""From points to labels: the same as the plain formulas, whatever is left out early."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from vlm3data.geometry import project
from vlm3data.geometry.lidar import nearest_per_pixel, project_points
from vlm3data.types import Camera

CAMERA = Camera(1266.4, 1250.0, 816.7, 492.0, 1600, 900)


@pytest.mark.parametrize("margin", [(0.0, 0.0), (0.05, 0.1), (0.6, 0.1)])
def test_points_in_the_image_are_those_that_project_into_it(margin):
    rng = np.random.default_rng(0)
    points_m = rng.normal(0, 20, (3, 30_000))
    points_m[:, :3000] = rng.uniform(-1e-3, 1e-3, (3, 3000))  # next to the camera's plane
    cam_from_lidar = np.eye(4)
    cam_from_lidar[:3, :3] = Rotation.random(random_state=1).as_matrix()
    cam_from_lidar[:3, 3] = (0.0001, 0.0002, -0.0001)
    camera_m = points_m.T @ cam_from_lidar[:3, :3].T + cam_from_lidar[:3, 3]
    xy_px = project(CAMERA, camera_m)
    wider_px = np.array(margin) * (CAMERA.fx_px, CAMERA.fy_px)
    inside = ((xy_px >= -wider_px) & (xy_px < wider_px + np.array((1600, 900)))).all(axis=1)
    which, found_px, z_m = project_points(CAMERA, cam_from_lidar, points_m, margin)
    np.testing.assert_array_equal(which, np.flatnonzero(inside))
    np.testing.assert_allclose(found_px, xy_px[inside], rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(z_m, camera_m[inside, 2], rtol=1e-9)
    assert len(which) > 1000


def test_the_first_edges_of_the_image_belong_to_it_and_the_last_do_not():
    camera = Camera(100.0, 100.0, 100.0, 50.0, 200, 100)
    points_m = np.array([[-1, 0, 1], [1, 0, 1], [0, -0.5, 1], [0, 0.5, 1]]).T
    which, found_px, _ = project_points(camera, np.eye(4), points_m)
    assert which.tolist() == [0, 2]
    assert found_px.tolist() == [[0, 50], [100, 0]]
    # Just before the right edge a division may round onto it.
    z_m = np.random.default_rng(0).uniform(0.1, 50, 1000)
    just_inside_m = np.stack([np.nextafter(z_m, 0), 0 * z_m, z_m])
    assert (just_inside_m[0] / z_m * camera.fx_px + camera.cx_px == camera.width_px).any()
    assert project_points(camera, np.eye(4), just_inside_m)[1][:, 0].max(initial=0) < camera.width_px


def test_each_pixel_has_the_nearest_of_its_points():
    rng = np.random.default_rng(0)
    xy_px, depth_m = rng.uniform(0, 100, (20_000, 2)), rng.uniform(0.1, 100, 20_000)
    expected: dict[tuple[int, int], float] = {}
    for (u, v), depth in zip(np.floor(xy_px).astype(int).tolist(), depth_m.tolist(), strict=True):
        expected[u, v] = min(depth, expected.get((u, v), np.inf))
    points = nearest_per_pixel(xy_px, depth_m, 100)
    assert len(points.depth_m) == len(expected)
    found = zip(map(tuple, points.pixel_px.tolist()), points.depth_m.tolist(), strict=True)
    assert dict(found) == expected


def test_no_points_are_no_labels():
    assert len(nearest_per_pixel(np.empty((0, 2)), np.empty(0), 100).depth_m) == 0
    assert len(project_points(CAMERA, np.eye(4), np.empty((3, 0)))[0]) == 0
