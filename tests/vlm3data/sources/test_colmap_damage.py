"""What is wrong with a reconstruction is one line that names file and record, or a drop with a name."""

import shutil
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

from tests.tiny_colmap import frames_at, rewrite, write_tiny
from tests.vlm3data.formats.damage import CASES, survives
from vlm3data.build import BuildConfig, build
from vlm3data.formats.colmap.cameras import StoredCamera
from vlm3data.formats.colmap.depth_map import encode_depth_map
from vlm3data.sources import colmap
from vlm3data.sources.colmap import ColmapSource
from vlm3data.types import Drop, UserError


@pytest.fixture(scope="module")
def sound_root(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("colmap"), dense=True, images=3, points=40)


@pytest.fixture
def root(sound_root, tmp_path):
    return shutil.copytree(sound_root, tmp_path / "scene")


def dropped(frame, what="image"):
    with pytest.raises(Drop) as drop:
        getattr(frame, what)()
    return drop.value


def change_first(root, **changes):
    rewrite(root / "sparse/0", lambda number, image, seen: (image._replace(**(changes if number == 0 else {})), seen))


@pytest.mark.parametrize(
    ("changes", "reason", "detail"),
    [
        ({"wxyz": (np.nan, 0.0, 0.0, 0.0)}, "pose_not_finite", "images.bin: frame_0000.jpg"),
        ({"translation": (0.0, np.inf, 0.0)}, "pose_not_finite", "images.bin: frame_0000.jpg"),
        ({"wxyz": (0.0, 0.0, 0.0, 0.0)}, "pose_not_rigid", "a quaternion of length 0"),
        ({"wxyz": (1.0, 0.5, 0.0, 0.0)}, "pose_not_rigid", "a quaternion of length 1.12"),
        ({"wxyz": (0.0, 1.011, 0.0, 0.0)}, "pose_not_rigid", "a quaternion of length 1.01"),
        ({"wxyz": (1e300, 1e300, 0.0, 0.0)}, "pose_not_rigid", "a quaternion of length"),
        ({"name": "nowhere.jpg"}, "image_missing", "scene/images/nowhere.jpg"),
        ({"name": "../../elsewhere.jpg"}, "path_leaves_root", "../../elsewhere.jpg"),
        ({"name": "/etc/hostname"}, "path_leaves_root", "/etc/hostname"),
    ],
)
def test_an_image_that_cannot_be_used_is_one_named_drop_and_the_others_stay(root, changes, reason, detail):
    change_first(root, **changes)
    first, *others = frames_at(root)
    drop = dropped(first)
    assert (drop.reason, len(others)) == (reason, 2)
    assert detail in drop.detail
    for frame in others:
        frame.image()
        assert len(frame.tracks().point)


@pytest.mark.parametrize(
    ("camera", "reason"),
    [
        (StoredCamera("EUCM", 240, 180, (200.0, 200.0, 120.0, 90.0, 0.5, 1.0)), "camera_model_unsupported"),
        (StoredCamera("SIMPLE_PINHOLE", 240, 180, (np.nan, 120.0, 90.0)), "bad_intrinsics"),
        (StoredCamera("SIMPLE_PINHOLE", 2**40, 180, (200.0, 120.0, 90.0)), "bad_intrinsics"),
    ],
)
def test_a_camera_that_cannot_be_used_costs_its_images(root, camera, reason):
    rewrite(root / "sparse/0", lambda number, image, seen: (image, seen), lambda cameras: {1: camera})
    drops = [dropped(frame) for frame in frames_at(root)]
    assert {drop.reason for drop in drops} == {reason}
    assert "cameras.bin: camera 1" in drops[0].detail


def test_images_of_another_size_than_their_camera_are_dropped_by_name(root, tmp_path):
    def wider(cameras):
        return {1: replace(cameras[1], width_px=242)}

    rewrite(root / "sparse/0", lambda number, image, seen: (image, seen), wider)
    config = BuildConfig(source="colmap", root=str(root), tasks={"pose": {}}, focal_px=200.0)
    with pytest.raises(UserError, match="image_size_mismatch"):
        build(config, str(tmp_path / "out"), workers=1)


def test_an_observation_of_a_point_that_there_is_none_of_costs_the_image(root):
    def unknown(number, image, seen):
        return image, seen._replace(point=np.where(np.arange(len(seen.point)) == 3, 10**9 - number, seen.point))

    rewrite(root / "sparse/0", unknown)
    frame = frames_at(root)[0]
    drop = dropped(frame, "tracks")
    assert drop.reason == "point_missing"
    assert "points3D.bin: no point 1000000000, which frame_0000.jpg observes" in drop.detail
    frame.image()


def test_a_pose_that_its_own_points_contradict_is_no_pose(root):
    frame = frames_at(root)[0]
    change_first(root, translation=(0.0, 0.0, 1e3))
    drop = dropped(frames_at(root)[0], "tracks")
    assert drop.reason == "pose_contradicts_points"
    frame.image()


@pytest.mark.parametrize(("off_px", "contradicted"), [(3.9, False), (4.1, True)])
def test_a_pose_is_contradicted_where_half_its_points_are_four_pixels_off(root, off_px, contradicted):
    def moved(number, image, seen):
        return image, seen._replace(xy_px=seen.xy_px + np.array([0.0, off_px]) if number == 0 else seen.xy_px)

    whole = frames_at(root, max_error_px=10.0)[0].tracks().point
    rewrite(root / "sparse/0", moved)
    frame = frames_at(root, max_error_px=10.0)[0]
    if contradicted:
        assert dropped(frame, "tracks").reason == "pose_contradicts_points"
    else:
        assert 0.8 * len(whole) < len(frame.tracks().point)
        assert not len(frames_at(root)[0].tracks().point), "farther off than a pixel"


@pytest.mark.parametrize(("observed", "known"), [(10, True), (9, False)])
def test_an_image_that_observes_fewer_than_ten_points_overlaps_with_nobody_knows_what(root, observed, known):
    def fewer(number, image, seen):
        left = np.cumsum(seen.point >= 0) <= observed
        return image, seen._replace(point=np.where(left, seen.point, -1)) if number == 0 else seen

    rewrite(root / "sparse/0", fewer)
    source = ColmapSource(str(root), ColmapSource.Options(), 0)
    share = source.overlap(next(iter(source.scenes(None))))
    assert np.isfinite(share[0]).all() == np.isfinite(share[:, 0]).all() == known
    assert np.isfinite(share[1:, 1:]).all()


def test_dense_depth_beyond_what_a_label_may_be_is_unknown(sound_root, tmp_path):
    copy = shutil.copytree(sound_root.parent / f"{sound_root.name}-dense", tmp_path / "dense")
    stored = np.full((180, 240), 3.0, np.float32)
    stored[0, :5] = (0.0249, 0.025, 500, 500.1, 0)
    (copy / "stereo/depth_maps/frame_0000.jpg.geometric.bin").write_bytes(encode_depth_map(stored))
    depth_m = frames_at(copy, metres_per_unit=2.0)[0].depth_m()
    np.testing.assert_array_equal(depth_m[0, :6], np.float32([np.nan, 0.05, 1000, np.nan, np.nan, 6]))


def test_of_many_points_some_are_labels_each_with_its_own_depth(root, monkeypatch):
    def labels():
        points = frames_at(root, metres_per_unit=1.0, min_track=2)[0].points()
        return list(zip(map(tuple, points.pixel_px.tolist()), points.depth_m.tolist(), strict=True))

    every = labels()
    monkeypatch.setattr(colmap, "CANDIDATES", 10)
    some = labels()
    assert len(some) == 10 < len(every)
    assert set(some) <= set(every)
    assert labels() == some


def test_depth_maps_of_distorted_images_and_damaged_ones_are_refused_by_name(sound_root, root):
    dense = sound_root.parent / f"{sound_root.name}-dense"
    shutil.copytree(dense / "stereo", root / "stereo")
    assert dropped(frames_at(root)[0], "depth_m").reason == "depth_of_distorted_image"
    copy = shutil.copytree(dense, root.parent / "dense")
    (copy / "stereo/depth_maps/frame_0001.jpg.geometric.bin").write_bytes(b"240&180&1&abc")
    _, frame, good = frames_at(copy)
    assert dropped(frame, "depth_m").reason == "depth_unreadable"
    good.depth_m()


def test_what_a_user_can_mend_is_one_line(root, tmp_path):
    def refused(where, match, **options):
        with pytest.raises(UserError, match=match):
            ColmapSource(str(where), ColmapSource.Options(**options), 0)

    refused(tmp_path / "none", "there is no such directory")
    refused("", r"--root is missing: give the workspace, or both --images and --model")
    refused(root / "images", "there is no COLMAP model in it or in its directories: images/ and sparse/")
    refused(root, "--model: there is no directory .*nowhere", model="nowhere")
    refused(root, "--model .*: 0 COLMAP models in it", model="images")
    (root / "sparse/0/images.bin").unlink()
    refused(root, "there is no COLMAP model")


def test_a_model_without_images_says_so(root):
    (root / "sparse/0/images.bin").write_bytes(bytes(8))
    with pytest.raises(UserError, match="sparse/0: holds no image"):
        list(ColmapSource(str(root), ColmapSource.Options(), 0).scenes(None))


@pytest.mark.parametrize("name", ["cameras", "images", "points3D"])
def test_whatever_is_damaged_gives_frames_a_line_or_a_drop(name, root):
    def everything():
        for frame in frames_at(root, metres_per_unit=1.0):
            for call in (frame.image, frame.points, frame.tracks, frame.depth_m):
                with suppress(Drop):
                    if call:
                        call()

    path = root / "sparse" / "0" / f"{name}.bin"
    survives(path.read_bytes(), path, everything, cases=CASES // 3)
