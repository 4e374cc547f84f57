"""The simulated LiDAR: its rays against the camera's tracer, and a scan against the world it stands in."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from vlm3data.randomness import rng_for
from vlm3data.synth.indoors import room
from vlm3data.synth.lidar import ELEVATION_DEG, NUM_COLUMNS, NUM_RINGS, REACH_M, cast, scan
from vlm3data.synth.outdoors import street, yard
from vlm3data.synth.packed import PackedWorld, pack
from vlm3data.synth.trace import trace
from vlm3data.synth.views import Pose, depth_of, look_around
from vlm3data.types import Camera

CAMERA = Camera(120.0, 110.0, 82.0, 57.0, 160, 120)
FAR_M = 150.0


@pytest.fixture(scope="module")
def packed() -> PackedWorld:
    return pack(street(np.random.default_rng(3)))


def lidar_pose() -> np.ndarray:
    """Return a pose above the street that is turned and tilted about all three axes."""
    yaw, tilt = np.deg2rad(37.0), np.deg2rad(4.0)
    about_z = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    pose = np.eye(4)
    pose[:3, :3] = about_z @ about_x
    pose[:3, 3] = 2.0, 0.4, 1.9
    return pose


def pixel_rays(world_from_cam: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the origins and directions of all pixels; directions are 1 along the camera's axis."""
    v, u = (part.ravel() for part in np.mgrid[: CAMERA.height_px, : CAMERA.width_px])
    x, y = (u + 0.5 - CAMERA.cx_px) / CAMERA.fx_px, (v + 0.5 - CAMERA.cy_px) / CAMERA.fy_px
    directions = np.stack([x, y, np.ones(len(x))], 1) @ world_from_cam[:3, :3].T
    return np.broadcast_to(world_from_cam[:3, 3], directions.shape), directions


@pytest.mark.parametrize("domain", [street, yard, room])
def test_rays_meet_what_the_camera_sees(domain) -> None:
    kinds, right = np.zeros(5), np.zeros(5)
    for seed in range(3):
        world = pack(domain(np.random.default_rng(seed)))
        looks = look_around(world, CAMERA, 2, FAR_M, np.random.default_rng(seed))
        assert looks is not None
        # From high above, the tops of posts are seen.
        poses = [look.world_from_cam for look in looks]
        if domain is not room:
            poses += [Pose(np.array([3.0, -1.0, 8.0]), yaw, -50.0, 5.0).world_from_cam() for yaw in (40.0, 220.0)]
        traced = [trace(world, CAMERA, pose, FAR_M) for pose in poses]
        depth = np.concatenate([depth_of(view, FAR_M).ravel() for view in traced])
        surface = np.concatenate([view.surface.ravel() for view in traced])
        # All views in one call: rays with different origins.
        origins, directions = (np.concatenate(parts) for parts in zip(*map(pixel_rays, poses), strict=True))
        found, number = cast(world, origins, directions)
        known = np.isfinite(depth)
        same = np.isclose(np.where(found > FAR_M, np.nan, found), depth, rtol=1e-3, atol=0, equal_nan=True)
        edges = np.cumsum([0, len(world.world.planes), 6 * len(world.world.blocks), len(world.world.posts)])
        edges = np.append(edges, [world.num_flat + len(world.world.balls), len(world.material)])
        # Outlines may fall on either side in the tracer's float32.
        for kind, (low, high) in enumerate(pairwise(edges)):
            of_kind = known & (surface >= low) & (surface < high)
            kinds[kind] += of_kind.sum()
            right[kind] += (same & (number == surface))[of_kind].sum()
        assert same.mean() > 0.999
    assert kinds.sum() > 60_000
    if domain is not room:
        # Planes, blocks, tops of posts, balls, sides of posts.
        assert kinds.min() > 40, kinds
    assert (right >= 0.97 * kinds - 3).all(), (right, kinds)


def test_a_ray_meets_nothing_from_inside_behind_or_in_the_sky(packed: PackedWorld) -> None:
    block = packed.world.blocks[0]
    inside = np.array([block.centre_m, (0.0, 0.0, 2.0), (0.0, 0.0, 2.0)])
    inside[0, 2] = 0.005
    ways = np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, -1.0]])
    distance, surface = cast(packed, inside, ways)
    assert np.isinf(distance[:2]).all()
    assert (surface[:2] == -1).all()
    # The lane is a slab 0.01 m high.
    assert distance[2] == pytest.approx(1.99)
    half, _ = cast(packed, inside[2:], 2 * ways[2:])
    assert half[0] == pytest.approx(1.99 / 2)


def test_a_scan_lies_on_the_surfaces_it_names(packed: PackedWorld) -> None:
    pose = lidar_pose()
    points, surface = scan(packed, pose)
    assert points.dtype == np.float32
    in_world = points[:, :3].astype(np.float64) @ pose[:3, :3].T + pose[:3, 3]
    flat = surface < packed.num_flat
    off = (packed.normal[surface[flat]] * in_world[flat]).sum(1) - packed.offset_m[surface[flat]]
    assert np.abs(off).max() < 1e-4
    part = surface[~flat] - packed.num_flat
    to = in_world[~flat] - packed.round_origin_m[part]
    to[part >= len(packed.world.balls), 2] = 0.0
    assert np.abs(np.linalg.norm(to, axis=1) - packed.round_radius_m[part]).max() < 1e-4
    assert (~flat).sum() > 50
    assert len(set(packed.thing[surface].tolist())) > 5
    for thing in set(packed.thing[surface].tolist()) - {-1}:
        box = packed.world.things[thing]
        c, s = np.cos(box.yaw_rad), np.sin(box.yaw_rad)
        local = (in_world[packed.thing[surface] == thing] - box.centre_m) @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        assert (np.abs(local) <= np.array(box.size_m) / 2 + 1e-4).all()


def test_a_scan_has_rings_and_turns_clockwise_from_the_left(packed: PackedWorld) -> None:
    points, _ = scan(packed, lidar_pose())
    x, y, z, intensity, ring = points.T.astype(np.float64)
    range_m = np.sqrt(x * x + y * y + z * z)
    assert REACH_M[0] <= range_m.min() < 10
    assert 50 < range_m.max() <= REACH_M[1] + 1e-3
    elevation = np.rad2deg(np.arcsin(z / range_m))
    step = (ELEVATION_DEG[1] - ELEVATION_DEG[0]) / (NUM_RINGS - 1)
    np.testing.assert_allclose(elevation, ELEVATION_DEG[0] + step * ring, atol=1e-3)
    turned = np.pi - np.arctan2(y, x)
    column = np.rint(turned / (2 * np.pi) * NUM_COLUMNS).astype(int) % NUM_COLUMNS
    assert (np.diff(column * NUM_RINGS + ring) > 0).all()
    assert len(points) > 0.6 * NUM_RINGS * NUM_COLUMNS
    assert intensity.min() >= 0
    assert intensity.max() <= 255
    assert len(np.unique(intensity)) > 5


def test_scan_and_camera_agree_through_their_poses(packed: PackedWorld) -> None:
    pose = lidar_pose()
    points, _ = scan(packed, pose)
    # A camera at the LiDAR's own place that looks along its y axis: x right, y = -up, z ahead.
    lidar_from_cam = np.eye(4)
    lidar_from_cam[:3, :3] = [[1, 0, 0], [0, 0, 1], [0, -1, 0]]
    inverse = trace(packed, CAMERA, pose @ lidar_from_cam, FAR_M).inverse_depth
    x, y, z = points[:, 0], -points[:, 2], points[:, 1]
    ahead = z > 0.5
    u, v = (np.floor(f * a[ahead] / z[ahead] + c) for f, a, c in ((120.0, x, 82.0), (110.0, y, 57.0)))
    inside = (u >= 0) & (u < 160) & (v >= 0) & (v < 120)
    seen = 1 / inverse[v[inside].astype(int), u[inside].astype(int)]
    assert inside.sum() > 3000
    assert np.mean(np.abs(seen / z[ahead][inside] - 1) < 0.03) > 0.93


def test_noise_is_along_the_ray_and_repeatable(packed: PackedWorld) -> None:
    exact, noisy = scan(packed, lidar_pose()), scan(packed, lidar_pose(), 0.02, rng_for(1, "noise"))
    again = scan(packed, lidar_pose(), 0.02, rng_for(1, "noise"))
    np.testing.assert_array_equal(noisy.points, again.points)
    difference = np.linalg.norm(noisy.points[:, :3], axis=1) - np.linalg.norm(exact.points[:, :3], axis=1)
    assert difference.std() == pytest.approx(0.02, rel=0.05)
    across = np.cross(noisy.points[:, :3], exact.points[:, :3])
    assert np.abs(across).max() < 1e-2
