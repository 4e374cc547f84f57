"""Projected boxes against a dense cloud of points on their faces, at the border and behind the camera too."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import ConvexHull
from scipy.spatial.transform import Rotation

from vlm3data.geometry import project
from vlm3data.geometry.outline import NEAR_M, clip_to, convex_hull, polygon_area, project_box
from vlm3data.types import Camera, Distortion

PINHOLE = Camera(400.0, 390.0, 330.0, 235.0, 640, 480)
LENS = Camera(400.0, 390.0, 330.0, 235.0, 640, 480, Distortion("opencv", (-0.3, 0.1, 0.001, -0.002)))


def box_at(centre, size, rng=None) -> tuple[np.ndarray, np.ndarray]:
    pose = np.eye(4)
    if rng is not None:
        pose[:3, :3] = Rotation.random(rng=rng).as_matrix()
    pose[:3, 3] = centre
    return pose, np.asarray(size, float)


def face_points(pose, size, count: int = 40) -> np.ndarray:
    grid = np.linspace(-0.5, 0.5, count)
    a, b = (axis.ravel() for axis in np.meshgrid(grid, grid))
    faces = [np.insert(np.stack([a, b], 1), axis, side, axis=1) for axis in range(3) for side in (-0.5, 0.5)]
    return np.concatenate(faces) * size @ pose[:3, :3].T + pose[:3, 3]


@pytest.mark.parametrize("camera", [PINHOLE, LENS])
def test_a_projection_is_the_box_around_its_faces(camera):
    rng = np.random.default_rng(0)
    compared = 0
    for _ in range(100):
        pose, size = box_at(rng.normal((0, 0, 5), (2.5, 2, 2)), rng.uniform(0.2, 2, 3), rng)
        points = face_points(pose, size)
        if points[:, 2].min() < 0.3:
            continue
        pixels = project(camera, points)
        if not np.isfinite(pixels).all():
            continue
        inside = pixels[((pixels >= 0) & (pixels <= (camera.width_px, camera.height_px))).all(axis=1)]
        found = project_box(pose, size, camera)
        if found is None:
            assert len(inside) == 0
            continue
        low, high = np.array(found.box_px[:2]), np.array(found.box_px[2:])
        hull = ConvexHull(pixels)
        tolerance = 0.03 * np.ptp(pixels, axis=0).max() + 1
        if len(inside) > 200:
            assert np.abs(inside.min(axis=0) - low).max() < tolerance
            assert np.abs(inside.max(axis=0) - high).max() < tolerance
            compared += 1
        if len(inside) == len(pixels):
            assert found.in_view == pytest.approx(1)
            assert np.prod(high - low) >= hull.volume  # of a 2D hull, its area
    assert compared > 40


def test_the_share_in_view_is_the_share_of_the_area():
    pose, size = box_at((0, 0, 4), (1, 1, 0.0001))
    camera = Camera(400.0, 400.0, 320.0, 240.0, 640, 480)
    full = project_box(pose, size, camera)
    assert full is not None
    assert full.box_px == pytest.approx((270, 190, 370, 290), abs=0.01)
    assert full.in_view == pytest.approx(1)
    cut = project_box(pose, size, Camera(400.0, 400.0, 25.0, 240.0, 640, 480))
    assert cut is not None
    assert cut.box_px == pytest.approx((0, 190, 75, 290), abs=0.01)
    assert cut.in_view == pytest.approx(0.75, abs=1e-3)


def test_a_box_that_reaches_behind_the_camera_is_cut_before_it_is_projected():
    pose, size = box_at((1.5, 0, 0), (1, 1, 8))  # a long wall beside the camera, half of it behind
    found = project_box(pose, size, PINHOLE)
    assert found is not None
    # Its far end is seen at (1.0 / 4 · 400 + 330), and from there it runs to the right border.
    assert found.box_px[0] == pytest.approx(1.0 / 4 * 400 + 330)
    assert found.box_px[2] == 640
    assert found.in_view < 0.1
    points = face_points(pose, size, 400)
    pixels = project(PINHOLE, points[points[:, 2] > NEAR_M])
    inside = pixels[((pixels >= 0) & (pixels <= (640, 480))).all(axis=1)]
    assert found.box_px[1] == pytest.approx(inside[:, 1].min(), abs=8)
    assert found.box_px[3] == pytest.approx(inside[:, 1].max(), abs=8)


def test_a_camera_inside_a_box_sees_it_everywhere():
    found = project_box(*box_at((0, 0, 0), (4, 4, 4)), PINHOLE)
    assert found is not None
    assert found.box_px == (0, 0, 640, 480)
    assert found.in_view < 0.01


@pytest.mark.parametrize("camera", [PINHOLE, LENS])
@pytest.mark.parametrize("centre", [(0, 0, -3), (40, 0, 3), (0, -30, 5), (0, 0, 0.0)])
def test_a_box_out_of_sight_is_none(camera, centre):
    assert project_box(*box_at(centre, (0.05, 0.05, 0.05)), camera) is None


def test_a_hull_agrees_with_scipy():
    rng = np.random.default_rng(1)
    for count in (3, 4, 8, 100):
        points = rng.normal(size=(count, 2)) + 1000
        hull = convex_hull(np.concatenate([points, points]))
        assert set(hull) == {tuple(points[i]) for i in ConvexHull(points).vertices}
        assert polygon_area(hull) == pytest.approx(ConvexHull(points).volume)
    assert polygon_area(convex_hull([(0, 0), (1, 1), (2, 2)])) == 0


def test_clipping_keeps_what_lies_inside():
    def square(x: float) -> list[tuple[float, float]]:
        return [(x - 5, x - 5), (x + 5, x - 5), (x + 5, x + 5), (x - 5, x + 5)]

    assert polygon_area(clip_to(square(0), (100, 3))) == pytest.approx(15)
    assert polygon_area(clip_to(square(50), (100, 100))) == pytest.approx(100)
    assert clip_to(square(200), (100, 100)) == []
