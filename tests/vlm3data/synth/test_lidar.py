"""The simulated LiDAR: its rays against the camera's tracer, and a scan against the world it stands in."""

from __future__ import annotations

import numpy as np
import pytest

from vlm3data.synth.indoors import room
from vlm3data.synth.lidar import ELEVATION_DEG, NUM_COLUMNS, NUM_RINGS, REACH_M, cast, scan
from vlm3data.synth.outdoors import street, yard
from vlm3data.synth.packed import PackedWorld, pack
from vlm3data.synth.trace import trace
from vlm3data.synth.views import look_around
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


@pytest.mark.parametrize("domain", [street, yard, room])
def test_rays_meet_what_the_camera_sees(domain) -> None:
    checked = 0
    for seed in range(3):
        world = pack(domain(np.random.default_rng(seed)))
        looks = look_around(world, CAMERA, 2, FAR_M, np.random.default_rng(seed))
        assert looks is not None
        origins, directions, depths, surfaces = [], [], [], []
        for look in looks:
            v, u = (part.ravel() for part in np.mgrid[: CAMERA.height_px, : CAMERA.width_px])
            x, y = (u + 0.5 - CAMERA.cx_px) / CAMERA.fx_px, (v + 0.5 - CAMERA.cy_px) / CAMERA.fy_px
            directions.append(np.stack([x, y, np.ones(len(x))], 1) @ look.world_from_cam[:3, :3].T)
            origins.append(np.broadcast_to(look.world_from_cam[:3, 3], directions[-1].shape))
            depths.append(look.depth_m.ravel())
            surfaces.append(look.traced.surface.ravel())
        depth, surface = np.concatenate(depths), np.concatenate(surfaces)
        # Both views in one call: rays with different origins.
        found, number = cast(world, np.concatenate(origins), np.concatenate(directions))
        found = np.where(found > FAR_M, np.nan, found)
        same = np.isclose(found, depth, rtol=1e-3, atol=0, equal_nan=True)
        # Outlines may fall on either side in the tracer's float32.
        assert same.mean() > 0.999
        assert (number == surface)[np.isfinite(depth)].mean() > 0.998
        checked += np.isfinite(depth).sum()
    assert checked > 60_000


def test_no_part_is_too_small_or_too_near_to_be_met() -> None:
    world = pack(street(np.random.default_rng(5)))
    corners = world.corners.reshape(3, 8, -1)[..., : len(world.by_thing)]
    towards = corners.mean(1).T
    eye = np.array([1.0, -0.5, 60.0])
    alone = []
    num_blocks, num_balls = len(world.world.blocks), len(world.world.balls)
    _, surface = cast(world, np.broadcast_to(eye, towards.shape), towards - eye)
    for part, met in enumerate(surface.tolist()):
        if part < num_blocks:
            alone.append(2 + 6 * part <= met < 8 + 6 * part)
        elif part < num_blocks + num_balls:
            alone.append(met == world.num_flat + part - num_blocks)
        else:
            post = part - num_blocks - num_balls
            alone.append(met in (2 + 6 * num_blocks + post, world.num_flat + num_balls + post))
    # From high above little hides anything: the cabins are under nothing, the trunks under their crowns.
    assert np.mean(alone) > 0.6
    assert {type(part) for part in world.world.posts} and sum(alone[num_blocks:]) > 5


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
