"""The layout `nuscenes`: read back by a few lines written anew here, and held against the exact truth beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from tests.conftest import directory_bytes
from vlm3data.cli import app
from vlm3data.command import run_app
from vlm3data.formats.nuscenes.splits import split_of
from vlm3data.layouts._nuscenes.job import SceneJob
from vlm3data.layouts._nuscenes.objects import visibility_level
from vlm3data.layouts._nuscenes.scene import begun
from vlm3data.layouts.nuscenes import NuscenesLayout, scene_names
from vlm3data.randomness import rng_for
from vlm3data.synth.lidar import cast
from vlm3data.synth.trace import trace
from vlm3data.synth.views import clear_of
from vlm3data.types import Camera, UserError

SIZE_PX = (400, 225)
TABLES = (
    "attribute", "calibrated_sensor", "category", "ego_pose", "instance", "log", "map", "sample", "sample_annotation",
    "sample_data", "scene", "sensor", "visibility",
)  # fmt: skip


def write(out: Path, seed: int = 1, **options: object) -> dict[str, object]:
    small = {"scenes": 2, "samples": 3, "sweeps": 1, "width_px": SIZE_PX[0], "height_px": SIZE_PX[1], "workers": 1}
    return NuscenesLayout(NuscenesLayout.Options.model_validate(small | options), seed).write(str(out), lambda *_: None)


class Dataset:
    """The tables by token."""

    def __init__(self, root: Path, version: str = "v1.0-mini") -> None:
        self.root = root
        self.lists = {name: json.loads((root / version / f"{name}.json").read_text()) for name in TABLES}
        self.by_token = {name: {row["token"]: row for row in rows} for name, rows in self.lists.items()}

    def of(self, table: str, token: str) -> dict:
        return self.by_token[table][token]

    def channel(self, reading: dict) -> str:
        sensor = self.of("calibrated_sensor", reading["calibrated_sensor_token"])["sensor_token"]
        return self.of("sensor", sensor)["channel"]

    def readings(self, channel: str) -> list[dict]:
        """Return the key frames of one sensor."""
        return [row for row in self.lists["sample_data"] if row["is_key_frame"] and self.channel(row) == channel]

    def points(self, reading: dict) -> np.ndarray:
        return np.fromfile(self.root / reading["filename"], "<f4").reshape(-1, 5)[:, :3].astype(np.float64)

    def poses(self, reading: dict) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
        """Return (R, t) of the sensor in the ego frame and of that in the global one."""
        records = (
            self.of("calibrated_sensor", reading["calibrated_sensor_token"]),
            self.of("ego_pose", reading["ego_pose_token"]),
        )
        first, second = ((rotation(record["rotation"]), np.array(record["translation"])) for record in records)
        return first, second


def rotation(wxyz: list[float]) -> np.ndarray:
    """Return the matrix by turning the three axes: v + 2 w (q x v) + 2 q x (q x v)."""
    assert np.linalg.norm(wxyz) == pytest.approx(1, abs=1e-9)
    w, q = wxyz[0], np.array(wxyz[1:])
    return np.stack([v + 2 * w * np.cross(q, v) + 2 * np.cross(q, np.cross(q, v)) for v in np.eye(3)], 1)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("nuscenes") / "data"
    write(out)
    return out


@pytest.fixture(scope="module")
def data(root: Path) -> Dataset:
    return Dataset(root)


class Case(NamedTuple):
    """One image with its truth, and the LiDAR's points by the devkit's chain."""

    channel: str
    truth: dict[str, np.ndarray]
    xy_px: np.ndarray
    in_cam_m: np.ndarray
    uncompensated_xy_px: np.ndarray

    @property
    def z_m(self) -> np.ndarray:
        return self.in_cam_m[:, 2]


def cases(data: Dataset) -> Iterator[Case]:
    lidar_of = {reading["sample_token"]: reading for reading in data.readings("LIDAR_TOP")}
    for reading in data.lists["sample_data"]:
        if not (channel := data.channel(reading)).startswith("CAM"):
            continue
        lidar = lidar_of[reading["sample_token"]]
        (r, t), (r_then, t_then) = data.poses(lidar)
        (r_cam, t_cam), (r_now, t_now) = data.poses(reading)
        k = np.array(data.of("calibrated_sensor", reading["calibrated_sensor_token"])["camera_intrinsic"])
        in_ego = data.points(lidar) @ r.T + t
        in_global = in_ego @ r_then.T + t_then
        in_cam = ((in_global - t_now) @ r_now - t_cam) @ r_cam
        still = (in_ego - t_cam) @ r_cam
        with np.load(data.root / reading["filename"].replace("samples", "truth").replace("jpg", "npz")) as file:
            truth = dict(file)
        np.testing.assert_allclose(truth["global_from_cam"][:3, :3], r_now @ r_cam, atol=1e-9)
        np.testing.assert_allclose(truth["global_from_cam"][:3, 3], r_now @ t_cam + t_now, atol=1e-6)
        # The intrinsics have 0 at the centre of the first pixel.
        xy, xy_still = ((p @ k.T)[:, :2] / p[:, 2:] + 0.5 for p in (in_cam, still))
        yield Case(channel, truth, xy, in_cam, xy_still)


def range_around(depth_m: np.ndarray, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the smallest and the largest depth of the 3 x 3 pixels around each, sky as far away."""
    filled = np.pad(np.where(np.isnan(depth_m), 1e9, depth_m), 1, mode="edge")
    nine = [filled[v + i, u + j] for i in range(3) for j in range(3)]
    return np.min(nine, 0), np.max(nine, 0)


def test_points_lie_on_the_depth_map_only_with_the_cars_motion(data: Dataset) -> None:
    good, good_still, moved_px = [], [], []
    for case in cases(data):
        index, depth = case.truth["lidar_index"], case.truth["depth_m"]
        assert depth.shape == SIZE_PX[::-1]
        np.testing.assert_allclose(case.truth["lidar_xy_px"], case.xy_px[index], atol=1e-4)
        np.testing.assert_allclose(case.truth["lidar_depth_m"], case.z_m[index], rtol=1e-6)
        inside = (case.z_m > 0.01) & (case.xy_px >= 0).all(1) & (case.xy_px < SIZE_PX).all(1)
        np.testing.assert_array_equal(np.flatnonzero(inside), index)
        visible = index[case.truth["lidar_visible"]]
        for xy, found in ((case.xy_px, good), (case.uncompensated_xy_px, good_still)):
            u, v = np.clip(np.floor(xy[visible]), 0, np.array(SIZE_PX) - 1).astype(int).T
            low, high = range_around(depth, u, v)
            found.append(((case.z_m[visible] > 0.99 * low) & (case.z_m[visible] < 1.01 * high)).mean())
        moved_px.append(np.abs(case.xy_px - case.uncompensated_xy_px)[visible].max(1).mean())
    assert len(good) == 2 * 3 * 6
    assert min(good) > 0.995
    assert np.mean(good_still) < 0.97
    assert max(moved_px) > 3


def test_depth_at_a_points_own_pixel_is_its_own(data: Dataset) -> None:
    """Where depth hardly changes from pixel to pixel, the map agrees within 1 %."""
    total = 0
    for case in cases(data):
        index, depth = case.truth["lidar_index"], case.truth["depth_m"]
        u, v = np.floor(case.xy_px[index]).astype(int).T
        low, high = range_around(depth, u, v)
        level = case.truth["lidar_visible"] & (high < 1.01 * low)
        np.testing.assert_allclose(depth[v, u][level], case.z_m[index][level], rtol=0.01)
        total += level.sum()
    assert total > 36 * 800


def test_hidden_points_lie_behind_what_the_camera_sees(data: Dataset) -> None:
    hidden, behind, shares = 0, 0, []
    for case in cases(data):
        index, visible = case.truth["lidar_index"], case.truth["lidar_visible"]
        u, v = np.floor(case.xy_px[index]).astype(int).T
        low, high = range_around(case.truth["depth_m"], u, v)
        behind += (low < case.z_m[index] - 0.005)[~visible].sum()
        hidden += (~visible).sum()
        shares.append((~visible).mean())
        # What is far behind everything around it cannot be seen.
        assert visible[case.z_m[index] > 1.02 * high].sum() <= 2
    assert hidden > 500
    assert behind > 0.99 * hidden
    assert 0.005 < np.mean(shares) < 0.2


def test_visible_is_what_the_tracer_sees_along_the_points_own_ray(data: Dataset) -> None:
    """A camera of one pixel looks exactly at the point."""
    job = SceneJob("", 1, 0, "scene-0061", 3, 1, SIZE_PX, True)
    recording = begun(job, rng_for(1, "nuscenes", "scene-0061"))
    world_from_global = np.linalg.inv(recording.global_from_world)
    rng, hidden, seen, doubtful = np.random.default_rng(0), 0, 0, 0
    for case in list(cases(data))[: len(data.lists["sample"]) * 3 : 3]:
        pose = world_from_global @ case.truth["global_from_cam"]
        visible = case.truth["lidar_visible"]
        index = case.truth["lidar_index"]
        low, _ = range_around(case.truth["depth_m"], *np.floor(case.xy_px[index]).astype(int).T)
        beside = low < case.z_m[index] - 0.05  # something nearer is in the next pixel
        kinds = (visible & ~beside, visible & beside, ~visible)
        # Every point: from a centimetre before it back to the camera nothing is met.
        points = case.in_cam_m[index] @ pose[:3, :3].T + pose[:3, 3]
        back = pose[:3, 3] - points
        start = points + 0.01 * back / np.linalg.norm(back, axis=1)[:, None]
        met, _ = cast(recording.packed, start, pose[:3, 3] - start)
        assert np.count_nonzero(visible != (met > 1)) <= 2
        chosen = [rng.permutation(np.flatnonzero(kind))[:40] for kind in kinds]
        for number in np.concatenate(chosen).tolist():
            x, y, z = case.in_cam_m[index[number]].tolist()
            pixel = Camera(500.0, 500.0, 0.5 - 500.0 * x / z, 0.5 - 500.0 * y / z, 1, 1)
            depth = 1.0 / trace(recording.packed, pixel, pose, 150.0).inverse_depth[0, 0]
            before_m = (1.0 - depth / z) * np.hypot(np.hypot(x, y), z)
            if 0.005 < before_m < 0.015:
                doubtful += 1
                continue
            assert visible[number] == (before_m <= 0.01), (case.channel, number, before_m)
            hidden, seen = hidden + (not visible[number]), seen + visible[number]
    assert hidden > 80
    assert seen > 150
    assert doubtful < 20


def test_outlines_in_the_pictures_are_where_depth_jumps(data: Dataset) -> None:
    at_jumps: list[float] = []
    mirrored: list[float] = []
    for reading in data.lists["sample_data"]:
        if data.channel(reading).startswith("CAM"):
            with Image.open(data.root / reading["filename"]) as file:
                image = np.asarray(file.convert("L")).astype(float)
            with np.load(data.root / reading["filename"].replace("samples", "truth").replace("jpg", "npz")) as truth:
                depth = np.nan_to_num(truth["depth_m"], nan=1e3)
            change = np.abs(image[:, 2:] - image[:, :-2])[:, 1:]
            jump = np.abs(np.diff(np.log(depth)))[:, 1:-1] > 0.3
            at_jumps += change[jump].tolist()
            mirrored += change[:, ::-1][jump].tolist()
    assert len(at_jumps) > 1000
    assert np.mean(at_jumps) > 2.5 * np.mean(mirrored)


def test_every_token_resolves_and_records_are_linked(data: Dataset) -> None:
    for name, rows in data.lists.items():
        assert len(data.by_token[name]) == len(rows) > 0, name
        for row in rows:
            assert name == "visibility" or (len(row["token"]) == 32 and int(row["token"], 16) >= 0)
            for key, value in row.items():
                if key.endswith("_token") and key != "visibility_token":
                    table = key.removesuffix("_token")
                    table = table if table in TABLES else {"first_sample": "sample", "last_sample": "sample"}.get(table)
                    table = table or "sample_annotation"
                    assert value in data.by_token[table], (name, key)
            if row.get("next"):
                later = data.of(name, row["next"])
                assert later["prev"] == row["token"]
                if name != "sample_annotation":
                    assert later["timestamp"] > row["timestamp"]
    for scene in data.lists["scene"]:
        token, count = scene["first_sample_token"], 0
        while token:
            count, last, token = count + 1, token, data.of("sample", token)["next"]
        assert (count, last) == (scene["nbr_samples"], scene["last_sample_token"])
    for instance in data.lists["instance"]:
        token, count = instance["first_annotation_token"], 0
        assert not data.of("sample_annotation", token)["prev"]
        while token:
            row = data.of("sample_annotation", token)
            assert row["instance_token"] == instance["token"]
            count, last, token = count + 1, token, row["next"]
        assert (count, last) == (instance["nbr_annotations"], instance["last_annotation_token"])
    assert {log for row in data.lists["map"] for log in row["log_tokens"]} == set(data.by_token["log"])
    assert {split_of(scene["name"], "v1.0-mini") for scene in data.lists["scene"]} == {"mini_train", "mini_val"}


def test_every_file_that_is_named_exists_and_no_other(data: Dataset) -> None:
    named = {row["filename"] for table in ("sample_data", "map") for row in data.lists[table]}
    found = {str(path.relative_to(data.root)) for path in data.root.rglob("*") if path.is_file()}
    truth = {name.replace("samples", "truth").replace("jpg", "npz") for name in named if name.endswith("jpg")}
    assert found == named | truth | {f"v1.0-mini/{name}.json" for name in TABLES} | {"truth/README.txt"}
    for row in data.lists["sample_data"]:
        channel, path = data.channel(row), data.root / row["filename"]
        folder = "samples" if row["is_key_frame"] else "sweeps"
        assert row["filename"].startswith(f"{folder}/{channel}/n900-")
        assert path.stem.removesuffix(".pcd").endswith(f"__{channel}__{row['timestamp']}")
        if channel == "LIDAR_TOP":
            assert path.stat().st_size % 20 == 0
            assert len(data.points(row)) > 15_000
        else:
            with Image.open(path) as image:
                assert image.size == (row["width"], row["height"]) == SIZE_PX


def test_sensors_fire_at_their_own_times_around_a_car_that_drives_ahead(data: Dataset) -> None:
    for channel, ahead, left in (
        ("CAM_FRONT", 1, 0), ("CAM_FRONT_LEFT", 1, 1), ("CAM_FRONT_RIGHT", 1, -1), ("CAM_BACK", -1, 0),
        ("CAM_BACK_LEFT", -1, 1), ("CAM_BACK_RIGHT", -1, -1),
    ):  # fmt: skip
        for reading in data.readings(channel):
            late_us = reading["timestamp"] - data.of("sample", reading["sample_token"])["timestamp"]
            assert -45_000 < late_us < 1_000
            (looks, place), (heading, where) = data.poses(reading)
            assert np.sign(np.round(looks[:2, 2], 1)).tolist() == [ahead, left], channel
            assert looks[2, 1] < -0.99
            assert 1.4 < place[2] < 1.65
            assert where[2] == 0
            assert 300 < where[0] < 1300
            assert 0.0001 < np.linalg.norm(heading[2, :2]) < 0.03
            if reading["next"]:
                later = data.of("sample_data", reading["next"])
                step = data.poses(later)[1][1] - where
                assert 2.4 < np.linalg.norm(step) < 7.6
                assert step @ heading[:, 0] > 0.98 * np.linalg.norm(step)
    delays = {
        reading["timestamp"] - data.of("sample", reading["sample_token"])["timestamp"]
        for reading in data.lists["sample_data"]
        if reading["is_key_frame"]
    }
    assert len(delays) > 30


def test_boxes_hold_the_points_of_their_objects(data: Dataset) -> None:
    lidar_of = {reading["sample_token"]: reading for reading in data.readings("LIDAR_TOP")}
    exact = checked = 0
    categories = set()
    for row in data.lists["sample_annotation"]:
        (r, t), (r_ego, t_ego) = data.poses(lidar_of[row["sample_token"]])
        in_global = (data.points(lidar_of[row["sample_token"]]) @ r.T + t) @ r_ego.T + t_ego
        local = (in_global - row["translation"]) @ rotation(row["rotation"])
        width, length, height = row["size"]
        in_box = (np.abs(local) <= np.array([length, width, height]) / 2 + 0.001).all(1)
        in_box &= local[:, 2] > -height / 2 + 0.001  # the ground that it stands on
        assert in_box.sum() >= row["num_lidar_pts"] - 2
        assert row["num_lidar_pts"] > 0
        exact += abs(int(in_box.sum()) - row["num_lidar_pts"]) <= 1  # crowns of trees hang into some boxes
        checked += 1
        category = data.of("category", data.of("instance", row["instance_token"])["category_token"])["name"]
        categories.add(category)
        if category == "vehicle.car":
            assert (width, length, height) == (1.8, 4.5, 1.5)
    assert checked > 50
    assert exact > 0.9 * checked
    assert {"vehicle.car", "human.pedestrian.adult"} <= categories


def test_visibility_is_the_share_over_all_cameras(data: Dataset) -> None:
    seen: dict[str, int] = {}
    alone: dict[str, int] = {}
    for case in cases(data):
        truth = case.truth
        for token, a, b in zip(truth["annotation_token"].tolist(), truth["seen_px"], truth["alone_px"], strict=True):
            seen[token], alone[token] = seen.get(token, 0) + int(a), alone.get(token, 0) + int(b)
    for row in data.lists["sample_annotation"]:
        share = seen.get(row["token"], 0) / max(alone.get(row["token"], 0), 1)
        assert 0 <= share <= 1
        assert row["visibility_token"] == visibility_level(share)
        assert row["visibility_token"] in data.by_token["visibility"]
    assert {visibility_level(share) for share in (0.0, 0.39)} == {"1"}
    assert [visibility_level(share) for share in (0.4, 0.6, 0.8, 1.0)] == ["2", "3", "4", "4"]
    assert len({row["visibility_token"] for row in data.lists["sample_annotation"]}) == 4


def test_bytes_follow_from_the_seed_alone(tmp_path: Path) -> None:
    tiny = {"samples": 1, "width_px": 64, "height_px": 36}
    write(tmp_path / "a", seed=5, **tiny)
    write(tmp_path / "b", seed=5, **tiny, workers=2)
    write(tmp_path / "c", seed=6, **tiny)
    first = directory_bytes(tmp_path / "a")
    assert first == directory_bytes(tmp_path / "b")
    other = directory_bytes(tmp_path / "c")
    same = {name for name in first if first[name] == other.get(name)}
    assert same <= {"truth/README.txt", "v1.0-mini/visibility.json"}


def test_the_car_meets_nothing() -> None:
    for seed in range(6):
        job = SceneJob("", seed, 0, "scene-0061", 20, 0, SIZE_PX, False)
        recording = begun(job, rng_for(seed))
        for time_us in range(job.start_us, job.start_us + job.duration_us, 100_000):
            for sensor in recording.rig:
                assert clear_of(recording.packed, recording.pose(sensor, time_us)[:3, 3]) > 0.2


def test_names_of_scenes_are_official_and_both_splits_come_early() -> None:
    mini, trainval = scene_names("v1.0-mini"), scene_names("v1.0-trainval")
    assert (len(set(mini)), len(set(trainval))) == (10, 850)
    assert [split_of(name, "v1.0-mini") for name in mini].count("mini_val") == 2
    assert [split_of(name, "v1.0-trainval") for name in trainval[:60]].count("val") == 10
    assert split_of(trainval[1], "v1.0-trainval") == "val"


def test_without_truth_only_the_dataset_is_written_and_mistakes_are_told(tmp_path: Path, capsys) -> None:
    out = tmp_path / "load"
    flags = "--scenes 1 --samples 1 --width-px 64 --height-px 36 --workers 1 --truth false --json"
    command = ["synth", "--layout", "nuscenes", "--out", str(out), *flags.split()]
    assert run_app(app, command) == 0
    counts = json.loads(capsys.readouterr().out)
    assert (counts["scenes"], counts["samples"], counts["images"], counts["lidar_turns"]) == (1, 1, 6, 1)
    assert not (out / "truth").exists()
    assert not (out / ".parts").exists()
    assert run_app(app, command) == 1
    assert "there are files already" in capsys.readouterr().err
    assert run_app(app, ["synth", "--layout", "nuscenes", "--out", str(out), "--scenes", "11"]) == 2
    assert "v1.0-mini has 10 scenes" in capsys.readouterr().err
    with pytest.raises(UserError):
        write(out)
