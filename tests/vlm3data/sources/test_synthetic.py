"""The source `synthetic`: exact geometry, checked against ray casting written anew here, and enough variety."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from vlm3data.sources.synthetic import DOMAINS, SyntheticSource
from vlm3data.synth.atlas import atlas, colours
from vlm3data.synth.materials import MATERIALS, NAMES
from vlm3data.synth.world import World
from vlm3data.types import Camera, Frame, SceneRef, UserError

FAR_M = SyntheticSource.facts.depth_range_m[1]


def source(seed: int = 0, **options: object) -> SyntheticSource:
    small = {"width_px": 96, "height_px": 72, "scenes": 16}
    return SyntheticSource("", SyntheticSource.Options.model_validate(small | options), seed)


def rays(camera: Camera, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    x, y = (u + 0.5 - camera.cx_px) / camera.fx_px, (v + 0.5 - camera.cy_px) / camera.fy_px
    return np.stack([x, y, np.ones(len(u))], 1)


def geometry(frame: Frame) -> tuple[Camera, np.ndarray, np.ndarray]:
    """Return the camera, the depth and the pose, all of which every frame of this source has."""
    assert frame.camera is not None
    assert frame.depth_m is not None
    assert frame.world_from_cam is not None
    return frame.camera, frame.depth_m(), frame.world_from_cam


def pixels(frame: Frame, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the pose, the rays in the camera and the depths of random pixels, in float64."""
    camera, depth, pose = geometry(frame)
    u, v = rng.integers(0, camera.width_px, count), rng.integers(0, camera.height_px, count)
    return pose, rays(camera, u, v), depth[v, u].astype(np.float64)


def cast(world: World, eye: np.ndarray, ray: np.ndarray) -> float:
    """Return the smallest t > 0 at which eye + t ray meets the world, by textbook formulas; inf for sky."""
    nearest = np.inf
    for plane in world.planes:
        slope = np.dot(plane.normal, ray)
        t = (plane.offset_m - np.dot(plane.normal, eye)) / slope if slope else np.inf
        if t > 0 and not plane.is_sky:
            nearest = min(nearest, t)
    for block in world.blocks:
        c, s = np.cos(block.yaw_rad), np.sin(block.yaw_rad)
        box_from_world = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
        start, way = box_from_world @ (eye - block.centre_m), box_from_world @ ray
        with np.errstate(divide="ignore"):
            slabs = (np.outer([-0.5, 0.5], block.size_m) - start) / way
        enter, leave = slabs.min(0).max(), slabs.max(0).min()
        if 0 < enter < leave:
            nearest = min(nearest, enter)
    for ball in world.balls:
        offset = eye - ball.centre_m
        roots = np.roots([ray @ ray, 2 * ray @ offset, offset @ offset - ball.radius_m**2])
        if np.isreal(roots).all() and roots.real.min() > 0:
            nearest = min(nearest, roots.real.min())
    for post in world.posts:
        offset, low = eye - post.base_m, post.base_m[2]
        roots = np.roots([ray[:2] @ ray[:2], 2 * ray[:2] @ offset[:2], offset[:2] @ offset[:2] - post.radius_m**2])
        t = roots.real.min()
        if np.isreal(roots).all() and t > 0 and low <= eye[2] + t * ray[2] <= low + post.height_m:
            nearest = min(nearest, t)
        t = (low + post.height_m - eye[2]) / ray[2]
        if t > 0 and np.linalg.norm((offset + t * ray)[:2]) <= post.radius_m:
            nearest = min(nearest, t)
    return float(nearest)


def scenes_with_frames(seed: int = 0, **options: object) -> Iterator[tuple[SyntheticSource, SceneRef, list[Frame]]]:
    made = source(seed, **options)
    for scene in made.scenes("train"):
        yield made, scene, list(made.frames(scene))


@pytest.mark.parametrize("domain", DOMAINS)
def test_depth_is_where_rays_meet_the_world(domain: str) -> None:
    rng = np.random.default_rng(1)
    close, total, sky = 0, 0, 0
    for made, scene, frames in scenes_with_frames(domains=(domain,), seed=4):
        world = made.world(scene)
        for frame in frames:
            pose, in_camera, depth = pixels(frame, 12, rng)
            for ray, z in zip(in_camera @ pose[:3, :3].T, depth, strict=True):
                truth = cast(world, pose[:3, 3], ray)
                sky += bool(np.isnan(z) and truth > 0.999 * FAR_M)
                close += bool(np.isfinite(z) and abs(z / truth - 1) < 1e-3)
                total += 1
    # A ray may pass on the other side of an outline in float32, hence not every one of some 380.
    assert close + sky >= total - 1
    assert close > total / 2


@pytest.mark.parametrize("domain", DOMAINS)
def test_one_view_predicts_the_depth_of_the_other(domain: str) -> None:
    agree = seen = 0
    for _, _, (first, second) in scenes_with_frames(domains=(domain,)):
        pose, in_camera, depth = pixels(first, 300, np.random.default_rng(2))
        known = np.isfinite(depth)
        points = (in_camera * depth[:, None])[known] @ pose[:3, :3].T + pose[:3, 3]
        camera, other_depth, other = geometry(second)
        x, y, z = np.linalg.inv(other)[:3] @ np.append(points, np.ones((len(points), 1)), 1).T
        with np.errstate(divide="ignore", invalid="ignore"):
            u, v = x / z * camera.fx_px + camera.cx_px, y / z * camera.fy_px + camera.cy_px
        inside = (z > 0.1) & (u >= 0) & (u < camera.width_px) & (v >= 0) & (v < camera.height_px)
        found = other_depth[v[inside].astype(int), u[inside].astype(int)]
        unhidden = ~(found < 0.95 * z[inside])
        # A pixel's centre is half a pixel away at most: more than 5 % of depth at grazing rays only.
        agree += int((np.abs(found / z[inside] - 1)[unhidden] < 0.05).sum())
        seen += int(unhidden.sum())
    assert seen > 1000
    assert agree / seen > 0.95


def test_boxes_hold_the_pixels_of_their_objects() -> None:
    count, labels = 0, set()
    for made, scene, frames in scenes_with_frames(scenes=24, seed=2):
        things = {thing.centre_m for thing in made.world(scene).things}
        for frame in frames:
            camera, depth_m, pose = geometry(frame)
            v, u = (part.ravel() for part in np.mgrid[: camera.height_px, : camera.width_px])
            depth = depth_m[v, u].astype(np.float64)
            points = (rays(camera, u, v) * depth[:, None]) @ pose[:3, :3].T + pose[:3, 3]
            for box in frame.boxes():
                assert tuple(box.world_from_box[:3, 3]) in things
                local = (points - box.world_from_box[:3, 3]) @ box.world_from_box[:3, :3]
                within = (np.abs(local) <= np.array(box.size_m) / 2 + 0.01).all(1)
                assert within.sum() >= 20, box
                assert box.visibility is not None
                assert 0 < box.visibility <= 1
                labels.add(box.label)
                count += 1
    assert count > 60
    assert {"car", "person", "door", "crate"} <= labels


def test_visibility_is_the_share_that_nothing_hides() -> None:
    hidden = checked = 0
    for made, scene, frames in scenes_with_frames(scenes=12, seed=3, width_px=48, height_px=36):
        world = made.world(scene)
        camera, depth, pose = geometry(frames[0])
        v, u = (part.ravel() for part in np.mgrid[: camera.height_px, : camera.width_px])
        in_world = rays(camera, u, v) @ pose[:3, :3].T
        for box in frames[0].boxes()[:4]:
            thing = [t.centre_m for t in world.things].index(tuple(box.world_from_box[:3, 3]))
            parts = {
                kind: tuple(part for part in getattr(world, kind) if part.thing == thing)
                for kind in ("blocks", "balls", "posts")
            }
            alone = replace(world, planes=(), **parts)
            distance = np.array([cast(alone, pose[:3, 3], ray) for ray in in_world])
            above_ground = pose[2, 3] + in_world[:, 2] * distance > 0
            met = np.isfinite(distance) & above_ground
            seen = np.abs(depth.ravel()[met] / distance[met] - 1) < 1e-4
            assert box.visibility == pytest.approx(seen.mean(), abs=2 / len(seen)), box
            hidden += seen.mean() < 0.9
            checked += 1
    assert checked > 10
    assert hidden > 2


def test_a_scene_depends_on_seed_split_and_number_alone() -> None:
    first, again = source(seed=7), source(seed=7)
    scenes = list(first.scenes("train"))
    assert scenes == list(again.scenes("train"))
    in_order = {scene.scene: list(again.frames(scene)) for scene in scenes[:6]}
    for scene in reversed(scenes[:6]):
        for a, b in zip(first.frames(scene), in_order[scene.scene], strict=True):
            assert (a.camera, a.key, len(a.boxes())) == (b.camera, b.key, len(b.boxes()))
            np.testing.assert_array_equal(a.image(), b.image())
            for one, two in zip(geometry(a)[1:], geometry(b)[1:], strict=True):
                np.testing.assert_array_equal(one, two)
    other = next(source(seed=8).frames(scenes[0]))
    assert other.camera != next(first.frames(scenes[0])).camera


PRINT_DIGEST = """
import hashlib
from vlm3data.sources.synthetic import SyntheticSource as S
source = S("", S.Options(width_px=96, height_px=72, scenes=16, noise=2.0), 7)
digest = hashlib.sha256()
for scene in list(source.scenes("val"))[:4]:
    for frame in source.frames(scene):
        digest.update(frame.image().tobytes() + frame.depth_m().tobytes())
print(digest.hexdigest())
"""


def test_another_process_draws_the_same_bytes() -> None:
    command = [sys.executable, "-c", PRINT_DIGEST]
    first, again = (subprocess.run(command, capture_output=True, check=True).stdout for _ in range(2))
    assert first == again
    assert len(first) > 60


def test_splits_share_nothing() -> None:
    made = source()
    names = [scene.scene for split in made.facts.splits for scene in made.scenes(split)]
    assert len(set(names)) == len(names) == 16 * 3
    firsts = [list(made.scenes(split))[:8] for split in made.facts.splits]
    cameras = {next(made.frames(scene)).camera for scenes in firsts for scene in scenes}
    assert len(cameras) == 8 * 3
    assert list(made.scenes(None)) == list(made.scenes("train"))
    with pytest.raises(UserError, match="train, val, test"):
        next(made.scenes("dev"))


def test_sizes_focal_lengths_and_poses_vary() -> None:
    made = source(scenes=60, views=1)
    cameras, _, poses = zip(*(geometry(next(made.frames(s))) for s in made.scenes("train")), strict=True)
    focal = np.array([camera.fx_px / camera.width_px for camera in cameras])
    assert len({(camera.width_px, camera.height_px) for camera in cameras}) > 40
    assert focal.max() / focal.min() > 3
    down = np.stack(poses)[:, 2]
    assert np.rad2deg(np.arcsin(down[:, 2])).std() > 8
    assert np.rad2deg(np.arctan2(down[:, 0], -down[:, 1])).std() > 5
    assert down[:, 3].max() / down[:, 3].min() > 5
    steady = source(size_jitter=0.0, hfov_deg=(60.0, 60.0))
    camera = geometry(next(steady.frames(next(steady.scenes("train")))))[0]
    assert (camera.width_px, camera.height_px) == (96, 72)
    assert camera.fx_px == pytest.approx(48 / np.tan(np.deg2rad(30)))


def test_pictures_are_worth_looking_at() -> None:
    for _, _, frames in scenes_with_frames():
        for frame in frames:
            camera, depth, _ = geometry(frame)
            image = frame.image()
            assert isinstance(image, np.ndarray)
            assert (image.shape, image.dtype) == ((camera.height_px, camera.width_px, 3), np.uint8)
            assert (depth.shape, depth.dtype) == (image.shape[:2], np.float32)
            assert np.isnan(depth).mean() < 0.6
            assert np.nanmin(depth) > SyntheticSource.facts.depth_range_m[0]
            assert np.nanmax(depth) <= FAR_M * 1.001
            assert image.std() > 8


def test_the_principal_point_moves_along_each_axis_by_itself() -> None:
    made = source()
    cameras = [geometry(next(made.frames(scene)))[0] for scene in made.scenes("train")]
    off = np.array([(camera.cx_px / camera.width_px, camera.cy_px / camera.height_px) for camera in cameras]) - 0.5
    assert np.abs(off).max() <= 0.02
    assert abs(np.corrcoef(off.T)[0, 1]) < 0.9


def test_grain_is_as_strong_as_was_said_and_makes_nothing_dark_bright() -> None:
    plain, grainy = (next(made.frames(next(made.scenes("train")))) for made in (source(), source(noise=30.0)))
    before, after = (np.asarray(frame.image()).astype(float) for frame in (plain, grainy))
    amid = (before > 100) & (before < 155)
    assert (after - before)[amid].std() == pytest.approx(30, rel=0.1)
    assert (before < 30).any()
    assert np.abs(after - before).max() < 6 * 30, "clipped, not wrapped around"


@pytest.mark.parametrize("name", ["brick_front", "crate", "sky"])
def test_texels_have_their_colour_in_the_middle_and_tiles_repeat(name: str) -> None:
    side = MATERIALS[name].px
    place = [values[NAMES.index(name)] for values in (atlas().px, atlas().left, atlas().bottom)]

    def look_up(u: np.ndarray, v: float, texels_per_px: float) -> np.ndarray:
        row = [np.full((1, len(u)), value, np.float32) for value in (v, texels_per_px, *place)]
        return colours(u[None].astype(np.float32), *row)[0, :, :3].astype(int)

    left, bottom = round(float(place[1]) + 0.5), round(float(place[2]) + 0.5)
    texels = atlas().image[bottom - 4 * side : bottom - 3 * side, left : left + side, :3].astype(int)
    middles = (np.arange(side) + 0.5) / side
    np.testing.assert_array_equal(look_up(middles, 5.5 / side, 1.0), texels[5])
    np.testing.assert_array_equal(look_up(middles - 3, 5.5 / side + 7, 1.9), texels[5])
    np.testing.assert_allclose(look_up(np.zeros(1), 5.5 / side, 1.0), (texels[5, :1] + texels[5, -1:]) / 2, atol=1)
    np.testing.assert_allclose(look_up(middles, 0.3, 1e9), np.full((side, 3), texels.mean((0, 1))), atol=1.5)


def test_wrong_options_name_the_choices() -> None:
    with pytest.raises(ValidationError, match="court, hall, plaza, room, street, yard"):
        source(domains=("moon",))
    with pytest.raises(ValidationError, match="extra"):
        source(colour="red")
    with pytest.raises(ValidationError):
        source(domains=())


def test_the_sky_is_unknown_even_in_the_corner_of_a_very_wide_view() -> None:
    # So tall that the sky, a plane high above, is nearer along the axis than what counts as known.
    made = source(domains=("yard",), width_px=24, height_px=96, hfov_deg=(120, 120), size_jitter=0, scenes=8, views=1)
    nearest_sky = np.inf
    for scene in made.scenes("train"):
        camera, depth, pose = geometry(next(made.frames(scene)))
        v, u = (part.ravel() for part in np.mgrid[: camera.height_px, : camera.width_px])
        up = rays(camera, u, v) @ pose[2, :3]
        sky = next(plane for plane in made.world(scene).planes if plane.is_sky)
        above = np.where(
            np.isnan(depth.ravel()) & (up > 0), (-sky.offset_m - pose[2, 3]) / np.maximum(up, 1e-9), np.inf
        )
        nearest_sky = min(nearest_sky, above.min())
        assert np.nanmax(depth) <= FAR_M * 1.001
    assert nearest_sky < FAR_M


def drawn_pixels(split: str, scenes: int, **options: object) -> np.ndarray:
    """Return cell of a 20x20 grid and depth for 200 random pixels of each of `scenes` images."""
    made = source(seed=5, views=1, scenes=scenes, width_px=64, height_px=48, **options)
    rows = []
    for number, scene in enumerate(made.scenes(split)):
        frame = next(made.frames(scene))
        depth, rng = geometry(frame)[1], np.random.default_rng(number)
        v, u = rng.integers(0, depth.shape[0], 200), rng.integers(0, depth.shape[1], 200)
        cell = v * 20 // depth.shape[0] * 20 + u * 20 // depth.shape[1]
        rows.append(np.stack([cell, depth[v, u]], 1))
    table = np.concatenate(rows)
    return table[np.isfinite(table[:, 1])]


def delta1(guess: np.ndarray | float, truth: np.ndarray) -> float:
    return float((np.maximum(guess / truth, truth / guess) < 1.25).mean())


def guessed_from_place(train: np.ndarray, held_out: np.ndarray) -> float:
    """Return the delta-1 of guessing, for each cell of the image, the median depth there."""
    overall = np.median(train[:, 1])
    cells = [train[train[:, 0] == cell, 1] for cell in range(400)]
    guess = np.array([np.median(depths) if len(depths) else overall for depths in cells])
    return delta1(guess[held_out[:, 0].astype(int)], held_out[:, 1])


def test_depth_cannot_be_guessed_from_where_a_pixel_is() -> None:
    assert guessed_from_place(drawn_pixels("train", 2000), drawn_pixels("val", 400)) < 0.35


def test_the_court_and_the_plaza_must_be_asked_for() -> None:
    assert set(DOMAINS) - set(SyntheticSource.Options.model_validate({}).domains) == {"court", "plaza"}


def test_the_court_cannot_be_guessed_from_where_a_pixel_is() -> None:
    options = {"domains": ("court",), "hfov_deg": (60, 60), "size_jitter": 0}
    assert guessed_from_place(drawn_pixels("train", 500, **options), drawn_pixels("val", 150, **options)) < 0.35


def test_the_plaza_can_be_guessed_from_where_a_pixel_is() -> None:
    options = {"domains": ("plaza",), "hfov_deg": (60, 60), "size_jitter": 0}
    train, held_out = drawn_pixels("train", 500, **options), drawn_pixels("val", 150, **options)
    assert 0.45 < guessed_from_place(train, held_out) < 0.65
    assert delta1(np.median(train[:, 1]), held_out[:, 1]) < 0.3


def test_the_plaza_is_seen_from_eye_height_and_nearly_level() -> None:
    for _, _, frames in scenes_with_frames(domains=("plaza",)):
        for frame in frames:
            pose = geometry(frame)[2]
            assert 1.2 <= pose[2, 3] <= 2.2
            assert -18 < np.rad2deg(np.arcsin(pose[2, 2])) < -6
            assert abs(np.rad2deg(np.arcsin(pose[2, 0]))) < 3
