"""nuScenes as a source: labels where they belong with a moving car, boxes, splits, options, damaged files."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import orjson
import pytest
from scipy.spatial.transform import Rotation

from tests import tiny_nuscenes
from tests.conftest import needs_realdata
from tests.tiny_nuscenes import CAR_SIZE, SCENES, YAW_DEG, Tiny, car_at, ego_at, from_global, mount_of, tiny
from vlm3data.build import BuildConfig, build
from vlm3data.formats.nuscenes import CHANNELS
from vlm3data.formats.nuscenes.scan import global_from_sensor
from vlm3data.geometry.lidar import nearest_per_pixel, project_points
from vlm3data.sources.nuscenes import NuscenesSource
from vlm3data.types import Camera, Frame, UserError

Options = NuscenesSource.Options


@pytest.fixture(autouse=True)
def cache_home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def tiny_root(tmp_path_factory) -> Path:
    return tiny().write(tmp_path_factory.mktemp("tiny"))


def frames_of(root: Path, **options: object) -> dict[str, Frame]:
    source = NuscenesSource(str(root), Options(**options), 0)
    return {frame.key: frame for scene in source.scenes(None) for frame in source.frames(scene)}


def labels_of(frame: Frame) -> list[tuple[int, int, float]]:
    assert frame.points is not None
    points = frame.points()
    return sorted(zip(*points.pixel_px.T.tolist(), points.depth_m.tolist(), strict=True))


def test_labels_lie_where_and_as_far_as_they_are_when_the_camera_fires(tiny_root):
    truth = tiny().truth
    frames = frames_of(tiny_root)
    assert len(frames) == len(SCENES) * 2 * 6
    for (scene, sample, channel), expected in truth.items():
        found = labels_of(frames[f"{scene}/{sample:03d}/{channel}"])
        assert [label[:2] for label in found] == [label[:2] for label in expected]
        np.testing.assert_allclose([z for *_, z in found], [z for *_, z in expected], rtol=1e-6)


def test_without_compensation_they_do_not_so_that_the_test_above_means_something(tiny_root):
    truth = tiny().truth
    frames = frames_of(tiny_root, published=True)
    agreeing = sum(
        len({label[:2] for label in expected} & {label[:2] for label in labels_of(frames[f"{s}/{n:03d}/{c}"])})
        for (s, n, c), expected in truth.items()
    )
    assert agreeing < 0.5 * 15 * len(truth)


def test_published_labels_are_the_uncompensated_chain_at_floored_pixels(tiny_root):
    frames = frames_of(tiny_root, published=True)
    made = tiny()
    for channel in YAW_DEG:
        frame = frames[f"scene-0061/001/{channel}"]
        assert frame.camera == Camera(50.0, 50.0, 31.25, 17.5, 64, 36)
        data = np.frombuffer(made.files[made.reading("scene-0061", 1, "LIDAR_TOP")["filename"]], "<f4").reshape(-1, 5)
        (lidar, at_lidar), (cam, at_cam) = mount_of("LIDAR_TOP"), mount_of(channel)
        x, y, z = cam.inv().apply(lidar.apply(data[:, :3].astype(float)) + at_lidar - at_cam).T
        with np.errstate(divide="ignore", invalid="ignore"):
            u, v = np.floor(50 * x / z + 31.25), np.floor(50 * y / z + 17.5)
        inside = (z > 0.05) & (u >= 0) & (v >= 0) & (u < 64) & (v < 36)
        expected = sorted(zip(u[inside].astype(int).tolist(), v[inside].astype(int).tolist(), z[inside], strict=True))
        nearest = {pixel: depth for *pixel_, depth in reversed(expected) for pixel in [tuple(pixel_)]}
        found = labels_of(frame)
        assert {label[:2] for label in found} == set(nearest)
        np.testing.assert_allclose([z for *_, z in found], [nearest[u, v] for u, v, _ in found], rtol=1e-6)


def test_the_half_pixel_of_opencv_is_added_and_the_camera_stands_where_it_fires(tiny_root):
    frame = frames_of(tiny_root)["scene-0061/001/CAM_BACK"]
    assert frame.camera == Camera(50.0, 50.0, 31.75, 18.0, 64, 36)
    seconds = 0.5 + 0.008 * list(YAW_DEG).index("CAM_BACK") - 0.02
    (turn, place), (mount, position) = ego_at(seconds), mount_of("CAM_BACK")
    assert frame.world_from_cam is not None
    np.testing.assert_allclose(frame.world_from_cam[:3, :3], (turn * mount).as_matrix(), atol=1e-12)
    np.testing.assert_allclose(frame.world_from_cam[:3, 3], turn.apply(position) + place, atol=1e-9)


def test_boxes_have_words_axes_and_sizes_that_belong_together(tiny_root):
    frames = frames_of(tiny_root)
    (box,) = frames["scene-0061/001/CAM_FRONT"].boxes()
    assert box.label == "car"
    assert box.visibility == 0.5
    assert box.size_m == (CAR_SIZE[1], CAR_SIZE[0], CAR_SIZE[2]), "x is along its length"
    np.testing.assert_allclose(box.world_from_box[:3, 3], car_at(0.5))
    np.testing.assert_allclose(box.world_from_box[:2, 0], [np.cos(np.pi / 6), 0.5])
    assert frames["scene-0061/001/CAM_BACK"].boxes() == ()


@pytest.mark.parametrize(("ahead_m", "shown"), [(2.0, 1), (-2.0, 0)])
def test_a_box_whose_middle_is_behind_the_camera_is_not_in_view_however_far_it_reaches(tmp_path, ahead_m, shown):
    made = tiny()
    middle_m = tiny_nuscenes.to_global(np.array([[0, 0, ahead_m]]), "CAM_FRONT", -0.02)[0]
    made.tables["sample_annotation"][0].update(translation=middle_m.tolist(), size=[2.0, 20.0, 2.0])
    assert len(frames_of(made.write(tmp_path))["scene-0061/000/CAM_FRONT"].boxes()) == shown


def test_labels_reach_from_one_metre_to_eighty_and_as_published_farther(tmp_path):
    z_m = np.array([0.5, 0.98, 1.02, 79.9, 80.1, 100.0])
    x_m, y_m = (np.arange(6) * 8 + 10 - 31.75) / 50 * z_m, (15.5 - 18) / 50 * z_m
    made = tiny()
    at = tiny_nuscenes.to_global(np.stack([x_m, y_m, z_m], axis=1), "CAM_FRONT", -0.02)
    damaged_lidar(made, tiny_nuscenes.lidar_file(from_global(at, "LIDAR_TOP", 0.0)))
    root, key = made.write(tmp_path), "scene-0061/000/CAM_FRONT"
    found, published = (labels_of(frames_of(root, **how)[key]) for how in ({"occlusion": False}, {"published": True}))
    np.testing.assert_allclose([z for *_, z in found], [1.02, 79.9], rtol=1e-5)
    assert min(z for *_, z in published) < 0.9
    assert max(z for *_, z in published) > 90


@pytest.mark.parametrize(("axis", "shown"), [(0, 0), (1, 1)])
def test_a_box_is_in_view_by_the_focal_length_of_each_axis(tmp_path, axis, shown):
    # The car is to the right of the optical axis, which goes through it in height.
    made = tiny()
    for calibration in made.tables["calibrated_sensor"]:
        if matrix := calibration["camera_intrinsic"]:
            matrix[axis][axis] *= 8
    assert len(frames_of(made.write(tmp_path))["scene-0061/001/CAM_FRONT"].boxes()) == shown


def test_unknown_categories_keep_their_name_and_unknown_visibility_is_none(tmp_path):
    made = tiny()
    made.tables["category"][0]["name"] = "robot"
    made.tables["sample_annotation"][0]["visibility_token"] = ""
    (box,) = frames_of(made.write(tmp_path))["scene-0061/000/CAM_FRONT"].boxes()
    assert (box.label, box.visibility) == ("robot", None)


@pytest.mark.parametrize("sample", [0, 1])
def test_sweeps_add_what_stands_still_where_it_is_and_nothing_of_the_car(tmp_path, sample):
    # The second sample's sweep lies between two key frames, seven metres of the car's way apart.
    seconds = tiny_nuscenes.BETWEEN_SAMPLES_S * sample
    before = seconds + tiny_nuscenes.SWEEP_S
    turn, place = ego_at(seconds)
    still = turn.apply([18.0, 3.5, 1.0]) + place  # beside the car, ahead
    at = np.array([still, car_at(before) + np.array([0, 0, 0.2]), car_at(before) + np.array([1.5, 0.8, 0])])
    made = tiny()
    (sweep,) = (each for each in made.tables["sample_data"] if each["token"] == tiny_nuscenes.token_of(
        "LIDAR_TOP", "scene-0061", sample, "sweep"))  # fmt: skip
    made.files[sweep["filename"]] = tiny_nuscenes.lidar_file(from_global(at, "LIDAR_TOP", before))
    root = made.write(tmp_path)
    key = f"scene-0061/{sample:03d}/CAM_FRONT"
    camera_m = from_global(still[None], "CAM_FRONT", seconds - 0.02)[0]
    expected = np.floor(camera_m[:2] / camera_m[2] * 50 + (31.75, 18.0)).astype(int).tolist()
    alone, swept = (set(labels_of(frames_of(root, sweeps=n, occlusion=False)[key])) for n in (0, 1))
    (added,) = swept - alone
    assert list(added[:2]) == expected
    assert added[2] == pytest.approx(camera_m[2], rel=1e-6)


def test_hidden_points_go_unless_occlusion_is_off(tmp_path):
    made = tiny(("scene-0061",), samples=1)
    lidar_m, ring = [], []
    # A post stands in front of the camera; the LiDAR, higher up, sees the wall behind it as well.
    for number, up_deg in enumerate(np.linspace(-30.67, 10.67, 32)):
        for around_deg in np.arange(-20, 20, 360 / 1084):
            ray = Rotation.from_euler("zy", [around_deg, -up_deg], degrees=True).apply([1, 0, 0])
            wall_m = 20.0 / ray[0]
            post_m = 5.0 / ray[0]
            is_post = abs(post_m * ray[1]) < 1.0 and post_m * ray[2] < -0.6
            lidar_m.append(ray * (post_m if is_post else wall_m))
            ring.append(number)
    data = np.zeros((len(ring), 5), "<f4")
    data[:, :3], data[:, 4] = lidar_m, ring
    turned = Rotation.from_euler("z", 90, degrees=True).apply(data[:, :3])  # the LiDAR looks to the side
    data[:, :3] = turned
    made.files[made.reading("scene-0061", 0, "LIDAR_TOP")["filename"]] = data.tobytes()
    root = made.write(tmp_path)
    (all_points, seen) = (labels_of(frames_of(root, occlusion=on)["scene-0061/000/CAM_FRONT"]) for on in (False, True))
    assert {label[:2] for label in seen} < {label[:2] for label in all_points}
    near = {label[:2] for label in all_points if label[2] < 8}
    leaked = [
        label for label in all_points if label[2] > 8 and {(label[0] + d, label[1] + 1) for d in (-1, 0, 1)} & near
    ]
    assert near <= {label[:2] for label in seen}
    assert len([label for label in seen if label in leaked]) < len(leaked)


def test_the_choice_of_cameras_is_the_order_of_frames(tiny_root):
    frames = frames_of(tiny_root, cameras=("CAM_BACK", "CAM_FRONT"))
    assert list(frames)[:3] == ["scene-0061/000/CAM_BACK", "scene-0061/000/CAM_FRONT", "scene-0061/001/CAM_BACK"]
    with pytest.raises(UserError, match="CAM_SIDE"):
        Options.check({"cameras": ["CAM_SIDE"]}, where="x")


def test_splits_are_the_official_ones(tiny_root, tmp_path):
    source = NuscenesSource(str(tiny_root), Options(), 0)
    assert source.facts.splits == ("mini_train", "mini_val")
    assert {scene.scene: scene.split for scene in source.scenes(None)} == {
        "scene-0061": "mini_train",
        "scene-0103": "mini_val",
    }
    assert [scene.num_frames for scene in source.scenes("mini_val")] == [12]
    config = BuildConfig(source="nuscenes", root=str(tiny_root), split="train")
    with pytest.raises(UserError, match="--split train: nuscenes has no such split; known: mini_train, mini_val"):
        build(config, str(tmp_path / "out"))
    root = tiny(("scene-0001", "scene-0061", "scene-0103", "mine")).write(tmp_path / "root", "v1.0-trainval")
    source = NuscenesSource(str(root), Options(), 0)
    assert source.facts.splits == ("train", "val", "other")
    assert {scene.scene: scene.split for scene in source.scenes(None)} == {
        "mine": "other",
        "scene-0001": "train",
        "scene-0061": "train",
        "scene-0103": "val",
    }
    source = NuscenesSource(str(root), Options(without_mini=True), 0)
    assert [scene.scene for scene in source.scenes(None)] == ["mine", "scene-0001"]
    with pytest.raises(UserError, match=r"without_mini leaves nothing of v1\.0-mini"):
        NuscenesSource(str(tiny_root), Options(without_mini=True), 0)


def test_the_version_is_found_or_asked_for(tmp_path):
    root = tiny().write(tmp_path)
    assert len(list(NuscenesSource(str(root), Options(), 0).scenes(None))) == 2
    tiny(("scene-0001",)).write(root, "v1.0-trainval")
    with pytest.raises(UserError, match=r"not clear: say --tables; it holds v1.0-mini, v1.0-train"):
        NuscenesSource(str(root), Options(), 0)
    assert len(list(NuscenesSource(str(root), Options(tables="v1.0-trainval"), 0).scenes(None))) == 1
    with pytest.raises(UserError, match=r"has no v1.0-test; it holds v1.0-mini, v1.0-trainval"):
        NuscenesSource(str(root), Options(tables="v1.0-test"), 0)
    for nowhere, said in (
        ("", "--root is missing"),
        (str(tmp_path / "nowhere"), "there is no such directory"),
        (str(root / "samples"), r"no directory v1\.0"),
    ):
        with pytest.raises(UserError, match=said):
            NuscenesSource(nowhere, Options(), 0)
    with pytest.raises(UserError, match="knows no sweeps"):
        NuscenesSource(str(root), Options(published=True, sweeps=1), 0)


def reasons(root: Path, out: Path, **options: object) -> dict[str, int]:
    config = BuildConfig(
        source="nuscenes", root=str(root), options=options, focal_px=120.0, max_drop_rate=1.0, shard_size=5
    )
    return build(config, str(out), workers=1)["drops"]


def damaged_lidar(made: Tiny, data: bytes) -> None:
    made.files[made.reading("scene-0061", 0, "LIDAR_TOP")["filename"]] = data


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda made: damaged_lidar(made, b"x" * 33), {"lidar_odd_size": 6}),
        (lambda made: damaged_lidar(made, b""), {"lidar_empty": 6}),
        (lambda made: damaged_lidar(made, np.full(10, np.nan, "<f4").tobytes()), {"lidar_not_finite": 6}),
        (lambda made: damaged_lidar(made, np.full(10, 1e30, "<f4").tobytes()), {"lidar_bad_ring": 6}),
        (lambda made: made.files.pop(made.reading("scene-0061", 0, "LIDAR_TOP")["filename"]), {"lidar_missing": 6}),
        (lambda made: made.files.pop(made.reading("scene-0061", 0, "CAM_BACK")["filename"]), {"image_missing": 1}),
        (
            lambda made: made.reading("scene-0061", 0, "CAM_BACK").update(filename="samples/../../x.jpg"),
            {"path_leaves_root": 1},
        ),
        (
            lambda made: made.reading("scene-0061", 0, "CAM_BACK").update(filename="/etc/passwd"),
            {"path_leaves_root": 1},
        ),
        (lambda made: made.reading("scene-0061", 0, "CAM_BACK").update(filename=""), {"image_missing": 1}),
        (lambda made: made.reading("scene-0061", 0, "CAM_BACK").update(width=65), {"image_size_mismatch": 1}),
        (
            lambda made: made.tables["sample_data"].remove(made.reading("scene-0061", 0, "CAM_BACK")),
            {"image_record_missing": 1},
        ),
        (lambda made: made.reading("scene-0061", 0, "LIDAR_TOP").update(ego_pose_token="x"), {"ego_pose_missing": 6}),
    ],
)
def test_what_is_damaged_is_dropped_by_name_and_the_rest_is_built(tmp_path, damage, expected):
    made = tiny()
    damage(made)
    assert reasons(made.write(tmp_path / "root"), tmp_path / "out") == expected


def test_a_bad_annotation_costs_the_samples_objects_and_not_its_depth(tmp_path):
    made = tiny()
    made.tables["sample_annotation"][0].update(size=[0, 0, 0])
    root = made.write(tmp_path / "root")
    config = BuildConfig(source="nuscenes", root=str(root), tasks={"depth": {}, "objects": {}}, focal_px=120.0)
    dataset = build(config, str(tmp_path / "out"), workers=1)
    assert dataset["drops"] == {}
    assert dataset["unasked"]["objects: bad_annotation"] == 6


def test_a_frame_is_listed_without_reading_its_files_and_the_lidar_once_for_its_cameras(tiny_root, monkeypatch):
    read: list[str] = []
    original = NuscenesSource._read
    monkeypatch.setattr(
        NuscenesSource, "_read", lambda self, what, name: (read.append(what), original(self, what, name))[1]
    )
    frames = frames_of(tiny_root)
    assert not read
    for frame in frames.values():
        labels_of(frame)
    assert read == ["lidar"] * 4


def test_scenes_travel_as_json_and_are_stamped(tiny_root):
    scenes = list(NuscenesSource(str(tiny_root), Options(), 0).scenes(None))
    assert all(orjson.loads(orjson.dumps(dict(scene.payload))) == scene.payload for scene in scenes)
    assert all(re.fullmatch(r"[0-9a-f]{16}", scene.stamp) for scene in scenes)


def test_the_nearest_of_one_pixel_wins():
    points = nearest_per_pixel([[3.9, 2.1], [3.0, 2.9], [4.0, 2.0], [3.5, 2.5]], np.array([5.0, 4.0, 9.0, 6.0]), 10)
    assert points.pixel_px.tolist() == [[3, 2], [4, 2]]
    assert points.depth_m.tolist() == [4.0, 9.0]


def test_the_real_frame_agrees_with_an_independent_projection_to_a_micrometre():
    root = needs_realdata("nuscenes")
    tables = {name: orjson.loads((root / "v1.0-mini" / f"{name}.json").read_bytes()) for name in (
        "sample_data", "ego_pose", "calibrated_sensor", "sensor")}  # fmt: skip
    by_token = {name: {record["token"]: record for record in table} for name, table in tables.items()}

    def chain(channel: str):
        for reading in tables["sample_data"]:
            calibration = by_token["calibrated_sensor"][reading["calibrated_sensor_token"]]
            if by_token["sensor"][calibration["sensor_token"]]["channel"] == channel:
                pose = by_token["ego_pose"][reading["ego_pose_token"]]
                turns = [Rotation.from_quat(np.roll(each["rotation"], -1)) for each in (calibration, pose)]
                return reading, calibration, turns, [np.array(each["translation"]) for each in (calibration, pose)]
        raise AssertionError(channel)

    reading, _, (mount, turn), (position, place) = chain("LIDAR_TOP")
    raw = np.fromfile(root / reading["filename"], "<f4").reshape(-1, 5)[:, :3].astype(float)
    world_m = turn.apply(mount.apply(raw) + position) + place
    frames = frames_of(root, occlusion=False)
    source = NuscenesSource(str(root), Options(), 0)
    counts = {}
    for channel in CHANNELS[:6]:
        _, calibration, (mount, turn), (position, place) = chain(channel)
        camera_m = mount.inv().apply(turn.inv().apply(world_m - place) - position)
        matrix = np.array(calibration["camera_intrinsic"])
        with np.errstate(divide="ignore", invalid="ignore"):
            u, v = (camera_m @ matrix.T)[:, :2].T / camera_m[:, 2]
        shown = (camera_m[:, 2] > 1) & (u > 1) & (u < 1599) & (v > 1) & (v < 899)
        counts[channel] = int(shown.sum())
        frame = frames[f"scene-0061/000/{channel}"]
        assert frame.camera is not None
        assert frame.world_from_cam is not None
        scan = source._scan(0)
        cam_from_lidar = np.linalg.inv(frame.world_from_cam) @ global_from_sensor(source._tables, np.array([6]))[0]
        which, xy_px, z_m = project_points(frame.camera, cam_from_lidar, scan.points_m)
        ours = dict(zip(which.tolist(), zip(*(xy_px - 0.5).T.tolist(), z_m.tolist(), strict=True), strict=True))
        assert set(np.flatnonzero(shown).tolist()) <= set(ours)
        rows = np.flatnonzero(shown)
        found = np.array([ours[row] for row in rows.tolist()])
        np.testing.assert_allclose(found[:, 2], camera_m[rows, 2], atol=1e-6, rtol=0)
        np.testing.assert_allclose(found[:, :2], np.stack([u[rows], v[rows]], axis=1), atol=1e-5, rtol=0)
        labels = frame.points()
        at = {(int(a), int(b)) for a, b in np.floor(np.stack([u, v], axis=1)[rows] + 0.5)}
        inside = {pixel for pixel, z in zip(map(tuple, labels.pixel_px.tolist()), labels.depth_m, strict=True) if z > 1}
        assert len(inside - at) <= 0.01 * len(inside), "all but the mask's border"
    assert counts["CAM_FRONT"] == 3053
    assert all(3000 <= count <= 4900 for count in counts.values()), counts
