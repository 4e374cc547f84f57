"""Covisibility against loops over every pixel, and what it must not depend on."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from vlm3data.geometry import distort, invert_pose, rotation_from_yaw_pitch_roll_deg
from vlm3data.geometry.overlap import Covisibility, _spheres, choose_partner, covisible, lowres
from vlm3data.randomness import rng_for
from vlm3data.sources.synthetic import SyntheticSource
from vlm3data.types import Camera, Distortion

NOISE = (0.0, 0.001)
VIEWS = 5


def frames(domain: str = "room", seed: int = 3) -> list[tuple]:
    """Return (depth_m, camera, world_from_cam) of one generated scene."""
    options = SyntheticSource.Options(domains=(domain,), scenes=1, views=VIEWS, width_px=128, height_px=96)
    source = SyntheticSource("", options, seed)
    (scene,) = source.scenes(None)
    return [(frame.depth_m(), frame.camera, frame.world_from_cam) for frame in source.frames(scene)]


def matrices(scene: list[tuple], noise=NOISE, **options) -> tuple[np.ndarray, np.ndarray]:
    """Return forward and backward (n, n), a row an anchor."""
    stacked = Covisibility([lowres(*frame, **options) for frame in scene], noise)
    rows = [stacked.of(anchor) for anchor in range(len(stacked))]
    return np.stack([row[0] for row in rows]), np.stack([row[1] for row in rows])


def share_seen(anchor: tuple, other: tuple) -> float:
    """Return the share of known pixels that the other sees, one pixel after the other, at full resolution."""
    depth, camera, world_from_cam = anchor
    other_depth, other_camera, world_from_other = other
    known = seen = 0
    for v in range(camera.height_px):
        for u in range(camera.width_px):
            z = float(depth[v, u])
            if math.isnan(z):
                continue
            known += 1
            ray = ((u + 0.5 - camera.cx_px) / camera.fx_px, (v + 0.5 - camera.cy_px) / camera.fy_px, 1.0)
            world = [sum(world_from_cam[i][k] * ray[k] * z for k in range(3)) + world_from_cam[i][3] for i in range(3)]
            away = [world[i] - world_from_other[i][3] for i in range(3)]
            x, y, ahead = (sum(world_from_other[k][i] * away[k] for k in range(3)) for i in range(3))
            if ahead <= 0:
                continue
            column = math.floor(other_camera.fx_px * x / ahead + other_camera.cx_px)
            row = math.floor(other_camera.fy_px * y / ahead + other_camera.cy_px)
            if 0 <= column < other_camera.width_px and 0 <= row < other_camera.height_px:
                seen += abs(float(other_depth[row, column]) / ahead - 1) < 0.03
    return seen / known


@pytest.mark.parametrize(("domain", "seed"), [("room", 3), ("hall", 8)])
def test_shares_agree_with_loops_over_every_pixel(domain, seed):
    scene = frames(domain, seed)[:3]
    forward, backward = matrices(scene)
    exact = np.array([[share_seen(a, b) for b in scene] for a in scene])
    assert np.abs(forward - exact).max() < 0.06
    assert np.abs(forward - exact).mean() < 0.02
    assert 0.1 < exact.min() < 0.9
    np.testing.assert_array_equal(backward, forward.T)


def test_a_frame_sees_all_of_itself():
    for long_side_px in (7, 50, 64, 128, 1000):
        forward, backward = matrices(frames(), long_side_px=long_side_px)
        assert (np.diag(forward) == 1).all()
        assert (np.diag(backward) == 1).all()


def test_neither_scale_nor_a_far_origin_changes_anything():
    scene = frames()
    expected = matrices(scene)[0]
    scaled, moved = [], []
    for depth, camera, pose in scene:
        larger, there = pose.copy(), pose.copy()
        larger[:3, 3] *= 731.0
        there[:3, 3] += (448000.0, 5411000.0, 113.0)
        scaled.append((depth * np.float32(731), camera, larger))
        moved.append((depth, camera, there))
    np.testing.assert_allclose(matrices(scaled)[0], expected, atol=0.005)
    np.testing.assert_allclose(matrices(moved)[0], expected, atol=0.005)


def test_leaving_out_what_is_out_of_view_loses_nothing(monkeypatch):
    scene = frames()
    for depth, camera, pose in frames():
        turned = pose.copy()
        turned[:3, :3] = pose[:3, :3] @ rotation_from_yaw_pitch_roll_deg(100, 0, 0)
        scene.append((depth, camera, turned))
    quick = matrices(scene)
    skipped = []
    real = Covisibility._may_see

    def everything(self, viewers, viewer_from_seen, seen):
        skipped.append(~real(self, viewers, viewer_from_seen, seen))
        return np.ones(len(viewers), bool)

    monkeypatch.setattr(Covisibility, "_may_see", everything)
    np.testing.assert_array_equal(matrices(scene), quick)
    assert np.mean(skipped) > 0.1


def wall(depth_m: float, size=(96, 64), focal_px: float = 80.0) -> tuple[np.ndarray, Camera]:
    return np.full(size[::-1], depth_m, np.float32), Camera(focal_px, focal_px, size[0] / 2, size[1] / 2, *size)


def test_what_something_nearer_hides_is_not_seen():
    far, near, beyond = (lowres(*wall(depth_m), np.eye(4)) for depth_m in (4.0, 3.0, 4.2))
    forward, backward = covisible(far, [far, near, beyond], (0.0, 0.01))
    assert forward.tolist() == backward.tolist() == [1.0, 0.0, 0.0]
    assert covisible(far, [beyond], (0.0, 0.03))[0].tolist() == [1.0]
    assert covisible(far, [beyond], (0.11, 0.0))[0].tolist() == [1.0]
    assert covisible(far, [beyond], (0.09, 0.0))[0].tolist() == [0.0]
    assert covisible(beyond, [far], (0.11, 0.0))[0].tolist() == [1.0]
    assert covisible(beyond, [far], (0.09, 0.0))[0].tolist() == [0.0]


@pytest.mark.parametrize(
    ("size", "small"), [((96, 64), (24, 16)), ((64, 96), (16, 24)), ((500, 4), (24, 1)), ((4, 500), (1, 24))]
)
def test_the_longer_side_is_what_is_told(size, small):
    camera = lowres(*wall(2.0, size), np.eye(4), long_side_px=24).camera
    assert (camera.width_px, camera.height_px) == small


def test_shares_are_of_each_frames_own_known_pixels():
    depth, camera = wall(4.0)
    half = depth.copy()
    half[:, :48] = np.nan
    wide = lowres(depth, camera, np.eye(4))
    left_unknown = lowres(half, camera, np.eye(4))
    forward, backward = covisible(wide, [left_unknown], NOISE)
    assert forward[0] == pytest.approx(0.5, abs=0.03)
    assert backward[0] == 1.0
    nothing = lowres(np.full_like(depth, np.nan), camera, np.eye(4))
    forward, backward = covisible(wide, [nothing, wide], NOISE)
    assert forward.tolist() == [0.0, 1.0]
    assert np.isnan(backward[0])


def test_a_camera_moved_to_the_right_sees_the_right():
    depth, camera = wall(4.0)
    right = np.eye(4)
    right[0, 3] = 0.25 * 96 / 80 * 4.0  # a quarter of the image
    views = [lowres(depth, camera, pose) for pose in (np.eye(4), right)]
    forward, _ = covisible(views[0], views[1:], NOISE)
    assert forward[0] == pytest.approx(0.75, abs=0.03)


def test_a_slanted_surface_is_seen_although_its_depth_varies_within_a_small_pixel():
    camera = Camera(400.0, 400.0, 320.0, 0.0, 640, 480)
    column, row = np.meshgrid(np.arange(640) + 0.5, np.arange(480) + 0.5)
    depth = 1.5 * 400 / (row + 20.0)
    camera = replace(camera, cy_px=-20.0)
    pose = np.eye(4)
    pose[2, 3] = 0.2
    ground = [lowres(depth.astype(np.float32), camera, view) for view in (np.eye(4), pose)]
    forward, backward = covisible(ground[0], ground[1:], NOISE)
    nearer = depth / (depth - 0.2)
    x, y = 320 + (column - 320) * nearer, (row + 20) * nearer - 20
    assert forward[0] == pytest.approx(np.mean((x >= 0) & (x < 640) & (y < 480)), abs=0.04)
    farther = depth / (depth + 0.2)
    assert backward[0] == pytest.approx(np.mean((row + 20) * farther - 20 >= 0), abs=0.04)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("reduction", [2, 4])
def test_a_small_pixels_depths_are_those_of_the_plane_from_its_sample_to_its_edge(axis, reduction):
    size = (24 * reduction, 12 * reduction)
    camera = Camera(80.0 * reduction, 80.0 * reduction, size[0] / 2, size[1] / 2, *size)
    at_px = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5)
    slope = 0.0004
    small = lowres((1 / (0.2 + slope * at_px[axis])).astype(np.float32), camera, np.eye(4), long_side_px=24)
    # Half a small pixel, and as the sample may lie half a source pixel beside its middle, that half a pixel more.
    expected = slope * (0.5 * reduction + 0.5)
    np.testing.assert_allclose((1 / small.near_m - 1 / small.far_m) / 2, expected, rtol=1e-2)


def test_every_frame_of_a_long_scene_is_compared():
    seen = lowres(*wall(4.0, (12, 8), 10.0), np.eye(4))
    forward, backward = covisible(seen, [seen] * 150, NOISE)
    assert (forward == 1).all()
    assert (backward == 1).all()


def test_a_sphere_holds_all_points_of_its_frame():
    points_m = np.random.default_rng(0).normal(size=(5, 3, 40)).astype(np.float32)
    points_m *= np.array([0.1, 1, 5, 20, 100], np.float32)[:, None, None]
    points_m[:, :, 30:] = np.nan
    centre, radius = _spheres(points_m)
    distance = np.nanmax(np.linalg.norm(points_m - centre[:, :, None], axis=1), axis=1)
    np.testing.assert_allclose(radius, distance, rtol=1e-5)
    assert (radius >= distance).all()


def test_a_lens_is_undone_and_sizes_may_differ():
    lens = Distortion("radial", (-0.12, 0.02))
    camera = wall(4.0, (192, 128), 160.0)[1]
    bent = replace(camera, distortion=lens)
    pose = np.eye(4)
    pose[:3, :3] = rotation_from_yaw_pitch_roll_deg(4, 2, 10)
    # A map of the same plane, seen slanted: its exact depth along the ray of each pixel.
    views = []
    for cam, size in ((camera, (192, 128)), (bent, (192, 128)), (wall(4.0)[1], (96, 64))):
        centres = np.stack(np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5), -1)
        xy = (centres - (cam.cx_px, cam.cy_px)) / (cam.fx_px, cam.fy_px)
        if cam.distortion:
            xy = _undistorted(lens, xy)
        ray = np.concatenate([xy, np.ones_like(xy[..., :1])], axis=-1) @ pose[:3, :3].T
        views.append(lowres((4.0 / ray[..., 2]).astype(np.float32), cam, pose))
    straight = lowres(*wall(4.0, (192, 128), 160.0), np.eye(4))
    forward, backward = covisible(straight, views, NOISE)
    assert forward.tolist() == pytest.approx([forward[0]] * 3, abs=0.05)
    assert backward.tolist() == pytest.approx([backward[0]] * 3, abs=0.03)
    assert 0.8 < forward[0] < 1


def _undistorted(lens: Distortion, xy: np.ndarray) -> np.ndarray:
    straight = xy.copy()
    for _ in range(50):
        straight = straight + (xy - distort(lens, straight))
    return straight


def test_a_depth_map_of_another_size_than_its_camera_is_refused():
    with pytest.raises(ValueError, match="depth"):
        lowres(np.ones((4, 5), np.float32), wall(1.0)[1], np.eye(4))


def test_a_partner_lies_between_the_limits_and_is_never_the_frame_itself():
    forward = np.array([1.0, 0.9, 0.25, 0.3, 0.99, 0.6, np.nan])
    backward = np.array([1.0, 0.2, 0.9, 0.26, 0.97, 0.95, 0.5])
    drawn = {choose_partner(forward, backward, rng_for(0, i), itself=0) for i in range(60)}
    assert drawn == {3, 5}
    assert {choose_partner(forward, backward, rng_for(0, i), itself=5) for i in range(60)} == {3}
    assert choose_partner(forward[:3], backward[:3], rng_for(0), itself=0) is None
    assert choose_partner([], [], rng_for(0)) is None


def test_partners_are_spread_over_the_overlaps_and_not_over_the_frames():
    overlap = np.concatenate([np.full(96, 0.9), [0.28, 0.45, 0.55, 0.7]])
    drawn = [choose_partner(overlap, overlap, rng_for(1, i)) for i in range(500)]
    rare = [drawn.count(number) for number in (96, 97, 98, 99)]
    assert all(60 < count < 140 for count in rare), rare
    assert sum(rare) == pytest.approx(400, abs=30), "four of five equal ranges of overlap"
    assert len({number for number in drawn if number < 96}) > 40


def test_both_ways_are_one_relation_seen_from_either_side():
    scene = frames("street", 4)
    one = covisible(lowres(*scene[0]), [lowres(*frame) for frame in scene[1:]], NOISE)
    forward, backward = matrices(scene)
    np.testing.assert_array_equal(one, (forward[0, 1:], backward[0, 1:]))
    other_way = [(depth, camera, invert_pose(invert_pose(pose))) for depth, camera, pose in scene]
    np.testing.assert_allclose(matrices(other_way)[0], forward, atol=0.005)
