"""nuScenes' tables: joined as the schema says, checked record by record, cached without ever being stale."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from scipy.spatial.transform import Rotation

from tests import tiny_nuscenes
from tests.tiny_nuscenes import CAR_SIZE, SCENES, Tiny, car_at, from_global, lidar_file, tiny, to_global, token_of, wxyz
from vlm3data.formats.nuscenes import CHANNELS, LIDAR, Tables, cache, open_tables, split_of
from vlm3data.formats.nuscenes.boxes_in_time import boxes_at, inside_any
from vlm3data.formats.nuscenes.lidar import points_from_bytes, points_to_bytes
from vlm3data.formats.nuscenes.scan import read_scan
from vlm3data.formats.nuscenes.splits import MINI
from vlm3data.formats.nuscenes.splits import SCENES as OFFICIAL
from vlm3data.types import Drop, UserError

FS = fsspec.filesystem("file")


@pytest.fixture(autouse=True)
def cache_home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "vlm3" / "nuscenes"


def opened(root: Path, *, sweeps: bool = False) -> Tables:
    return open_tables(FS, str(root / "v1.0-mini"), sweeps=sweeps)


def columns_of(tables: Tables) -> dict[str, object]:
    names = Tables.__dataclass_fields__
    values = {name: getattr(tables, name) for name in names}
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value.to_pylist() for name, value in values.items()
    }


def test_the_official_splits_have_their_sizes_and_share_no_scene():
    assert {split: len(OFFICIAL[split]) for split in ("train", "val", "test")} == {
        "train": 700,
        "val": 150,
        "test": 150,
    }
    assert len(OFFICIAL["train"] | OFFICIAL["val"] | OFFICIAL["test"]) == 1000
    assert len(MINI) == 10
    # Of the names in nuscenes-devkit 1.2.0, sorted.
    digests = {split: hashlib.sha256(" ".join(sorted(names)).encode()).hexdigest() for split, names in OFFICIAL.items()}
    assert {split: digest[:16] for split, digest in digests.items()} == {
        "train": "10b2148caad20bbd",
        "val": "d3693b41245bb2a3",
        "test": "bd0a56fac042147b",
        "mini_train": "495168bc114d0864",
        "mini_val": "f6a4a1c573ec4c6c",
    }
    assert len(MINI & OFFICIAL["train"]) == 6
    assert OFFICIAL["mini_val"] <= OFFICIAL["train"] | OFFICIAL["val"]
    assert split_of("scene-0061", "v1.0-mini") == "mini_train"
    assert split_of("scene-0061", "v1.0-trainval") == "train"
    assert split_of("scene-0103", "v1.0-trainval") == "val"
    assert split_of("scene-0077", "v1.0-test") == "test"
    assert split_of("scene-0077", "v1.0-trainval") == split_of("my-scene", "v1.0-mine") == "other"


def test_every_sample_has_its_seven_key_frames_whatever_the_order_of_the_records(tmp_path):
    made = tiny()
    expected = columns_of(opened(made.write(tmp_path / "a")))
    for table in made.tables.values():
        table.reverse()
    made.tables["category"].reverse()
    shuffled = columns_of(opened(made.write(tmp_path / "b", indent=None)))
    for name in ("scene", "scene_first", "sample_us", "filename", "problem", "reading_us", "global_from_ego", "box"):
        assert shuffled[name] == expected[name]
    names = expected["filename"]
    for row, name in enumerate(names):
        scene, sample = divmod(row // len(CHANNELS), 2)
        assert name == made.reading(SCENES[scene], sample, CHANNELS[row % len(CHANNELS)])["filename"]
    assert expected["problem"] == [None] * 28


def test_sweeps_come_after_the_key_frames_and_in_time(tmp_path):
    tables = opened(tiny().write(tmp_path), sweeps=True)
    assert len(tables.filename) == 28 + 4
    for scene in range(2):
        rows = tables.lidar[tables.lidar_first[scene] : tables.lidar_first[scene + 1]]
        assert len(rows) == 4
        assert (np.diff(tables.reading_us[rows]) > 0).all()
        assert [row >= 28 for row in rows] == [True, False, True, False]


def test_boxes_have_their_length_first_and_the_middle_of_their_visibility(tmp_path):
    made = tiny()
    made.tables["sample_annotation"][1]["visibility_token"] = ""
    tables = opened(made.write(tmp_path))
    assert tables.box[0, 3:6].tolist() == [4.6, 1.9, 1.6]
    assert tables.box_first.tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_equal(tables.box_visibility, [0.2, np.nan, 0.2, 0.5])


@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        ("sample", {"scene_token": "gone"}, "sample.json: token '{token}': scene_token 'gone' is no scene"),
        ("calibrated_sensor", {"sensor_token": "gone"}, "calibrated_sensor.json: token '{token}': sensor_token 'gone'"),
        ("sample_annotation", {"sample_token": "gone"}, "sample_annotation.json: token '{token}': sample_token 'gone'"),
        ("sample_annotation", {"instance_token": "gone"}, "'{token}': instance_token 'gone' is in no record"),
        ("instance", {"category_token": "gone"}, "instance.json: token '{token}': category_token 'gone'"),
        ("scene", {"nbr_samples": 3}, "scene.json: scene-0061: nbr_samples is 3, but sample.json has 2"),
        ("scene", {"name": "scene-0103"}, "scene.json: scene-0103 is there twice"),
        ("sample_data", {"timestamp": "now"}, "record 0 (token '{token}'): timestamp: Expected `int`, got `str`"),
        ("sample_data", {"is_key_frame": 1}, "(token '{token}'): is_key_frame: Expected `bool`, got `int`"),
        ("ego_pose", {"rotation": [1, 0, 0]}, "ego_pose.json: token '{token}': Expected `array` of length 4"),
        ("ego_pose", {"translation": None}, "ego_pose.json: token '{token}': Expected `array`, got `null`"),
    ],
)
def test_a_table_that_is_wrong_is_one_line_with_file_and_record(tmp_path, table, change, message):
    made = tiny()
    made.tables[table][0] |= change
    with pytest.raises(UserError) as caught:
        opened(made.write(tmp_path))
    assert message.format(token=made.tables[table][0]["token"]) in str(caught.value)
    assert str(caught.value).startswith("v1.0-mini/")


@pytest.mark.parametrize("table", ["scene", "sample", "sample_data", "ego_pose", "sample_annotation", "visibility"])
def test_a_table_cut_short_or_missing_is_refused(tmp_path, table):
    root = tiny().write(tmp_path)
    path = root / "v1.0-mini" / f"{table}.json"
    whole = path.read_bytes()
    for length in (0, 1, len(whole) // 3, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=rf"^v1\.0-mini/{table}\.json: "):
            opened(root)
    path.unlink()
    with pytest.raises(UserError, match=rf"^v1\.0-mini/{table}\.json: there is no such table"):
        opened(root)


def test_a_token_that_is_there_twice_is_refused(tmp_path):
    for number, table in enumerate(
        ("scene", "sample", "sensor", "calibrated_sensor", "category", "instance", "ego_pose")
    ):
        made = tiny()
        made.tables[table].append(made.tables[table][0])
        with pytest.raises(UserError, match=r"twice"):
            opened(made.write(tmp_path / str(number)))


def problem_after(tmp_path: Path, made: Tiny, row: int) -> str:
    tables = opened(made.write(tmp_path))
    problems = {number: problem for number, problem in enumerate(tables.problem.to_pylist()) if problem}
    assert set(problems) == {row}, "one bad reading costs one reading"
    return problems[row]


def test_what_is_wrong_with_one_reading_costs_that_reading_alone(tmp_path):
    made = tiny()
    made.tables["ego_pose"].remove(made.record("ego_pose", token=token_of("CAM_FRONT", "scene-0061", 1)))
    assert problem_after(tmp_path / "a", made, 7).startswith("ego_pose_missing: v1.0-mini/sample_data.json: token ")
    made = tiny()
    made.record("ego_pose", token=token_of("CAM_FRONT", "scene-0061", 0))["rotation"] = [1, 0.1, 0, 0]
    assert "the rotation's length is 1.00499" in problem_after(tmp_path / "b", made, 0)
    made = tiny()
    made.tables["sample_data"].remove(made.reading("scene-0061", 0, "LIDAR_TOP"))
    assert problem_after(tmp_path / "c", made, LIDAR).startswith("lidar_record_missing: ")
    made = tiny()
    made.reading("scene-0061", 0, "CAM_FRONT")["calibrated_sensor_token"] = "gone"
    assert problem_after(tmp_path / "d", made, 0).startswith("calibration_missing: ")
    made = tiny()
    made.tables["sample_data"].append(made.reading("scene-0061", 0, "CAM_FRONT") | {"token": "again"})
    assert problem_after(tmp_path / "e", made, 0).startswith("image_record_twice: ")
    made = tiny()
    made.reading("scene-0061", 0, "CAM_FRONT")["width"] = None
    assert problem_after(tmp_path / "f", made, 0).startswith("image_size_missing: ")
    made = tiny()
    made.record("ego_pose", token=token_of("CAM_FRONT", "scene-0061", 0))["translation"] = [1e300, 0, 0]
    assert problem_after(tmp_path / "g", made, 0).startswith("bad_ego_pose: v1.0-mini/ego_pose.json: token ")


@pytest.mark.parametrize(
    "matrix",
    [
        [], [[1, 0, 0]], [[0, 0, 1], [0, 5, 1], [0, 0, 1]], [[-5, 0, 1], [0, 5, 1], [0, 0, 1]],
        [[5, 1, 1], [0, 5, 1], [0, 0, 1]], [[5, 0, 1], [0, 5, 1], [0, 0, 2]], [[5, 0, 1e300], [0, 5, 1], [0, 0, 1]],
    ],
)  # fmt: skip
def test_a_camera_that_is_no_pinhole_costs_its_frames(tmp_path, matrix):
    made = tiny()
    made.record("calibrated_sensor", token=token_of("calibrated", "CAM_BACK"))["camera_intrinsic"] = matrix
    problems = opened(made.write(tmp_path)).problem.to_pylist()
    column = CHANNELS.index("CAM_BACK")
    assert all(
        (problem or "").startswith("bad_calibration") == (row % 7 == column) for row, problem in enumerate(problems)
    )


@pytest.mark.parametrize("change", [{"size": [1, -2, 3]}, {"size": [0, 1, 1]}, {"rotation": [0, 0, 0, 0]}])
def test_a_box_that_is_none_costs_the_boxes_of_its_sample(tmp_path, change):
    made = tiny()
    made.tables["sample_annotation"][1] |= change
    problems = opened(made.write(tmp_path)).box_problem.to_pylist()
    assert [bool(problem) for problem in problems] == [False, True, False, False]
    assert problems[1].startswith("bad_annotation: v1.0-mini/sample_annotation.json: record 1: ")


def settle(root: Path, monkeypatch) -> None:
    """Let the tables look as if they had lain there for long."""
    monkeypatch.setattr(cache, "SETTLED_S", -1e9)
    assert root.exists()


def test_the_second_open_comes_from_the_cache_and_is_the_same(tmp_path, monkeypatch, cache_home):
    root = tiny().write(tmp_path / "root")
    settle(root, monkeypatch)
    for sweeps in (False, True):
        first = columns_of(opened(root, sweeps=sweeps))
        with monkeypatch.context() as patch:
            patch.setattr(cache, "read_tables", None)
            np.testing.assert_equal(columns_of(opened(root, sweeps=sweeps)), first)
    assert len(list(cache_home.iterdir())) == 2
    assert sorted(path.name for path in root.iterdir()) == ["samples", "sweeps", "v1.0-mini"], "nothing in the dataset"


def test_a_table_that_changed_is_read_again_even_if_its_size_and_time_did_not(tmp_path, monkeypatch, cache_home):
    root = tiny().write(tmp_path / "root")
    settle(root, monkeypatch)
    path = root / "v1.0-mini" / "scene.json"
    assert opened(root).scene.to_pylist() == list(SCENES)
    before = path.stat()
    path.write_bytes(path.read_bytes().replace(b"scene-0061", b"scene-0553"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert opened(root).scene.to_pylist() == ["scene-0103", "scene-0553"]
    assert len(list(cache_home.iterdir())) == 1, "the old state's cache is gone"


def test_tables_that_have_just_changed_are_not_cached(tmp_path, monkeypatch, cache_home):
    monkeypatch.setattr(cache, "SETTLED_S", 600)  # a slow machine writes for more than the usual two seconds
    root = tiny().write(tmp_path / "root")
    opened(root)
    assert not cache_home.exists()


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "garbage"])
def test_a_damaged_cache_is_made_again(tmp_path, monkeypatch, cache_home, damage):
    root = tiny().write(tmp_path / "root")
    settle(root, monkeypatch)
    first = columns_of(opened(root))
    (kept,) = cache_home.iterdir()
    whole = kept.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    kept.write_bytes({"cut": whole[:middle], "flip": flipped, "empty": b"", "garbage": b"x" * 999}[damage])
    np.testing.assert_equal(columns_of(opened(root)), first)
    assert kept.read_bytes() == whole


def test_a_cache_that_cannot_be_written_only_warns(tmp_path, monkeypatch):
    root = tiny().write(tmp_path / "root")
    settle(root, monkeypatch)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="read anew next time"):
        assert len(opened(root).scene) == 2


def test_many_may_open_at_once(tmp_path, monkeypatch, cache_home):
    root = tiny().write(tmp_path / "root")
    settle(root, monkeypatch)
    with ThreadPoolExecutor(8) as pool:
        stamps = {tuple(tables.scene_stamp.to_pylist()) for tables in pool.map(opened, [root] * 24)}
    assert len(stamps) == 1
    assert len(list(cache_home.iterdir())) == 1


def test_a_store_that_does_not_say_when_files_change_is_not_cached(tmp_path, cache_home):
    memory = fsspec.filesystem("memory")
    root = tiny().write(tmp_path / "root")
    memory.put(str(root / "v1.0-mini"), "/nuscenes-test/v1.0-mini", recursive=True)
    try:
        assert len(open_tables(memory, "/nuscenes-test/v1.0-mini", sweeps=True).filename) == 32
    finally:
        memory.rm("/nuscenes-test", recursive=True)
    assert not cache_home.exists()


def test_a_stamp_follows_what_its_scene_is_made_of_and_nothing_else(tmp_path):
    def stamps(number: int, made: Tiny) -> list[str]:
        return opened(made.write(tmp_path / str(number))).scene_stamp.to_pylist()

    first = stamps(0, tiny())
    made = tiny()
    for table in made.tables.values():
        table.reverse()
    made.tables["category"].reverse()
    made.tables["instance"].reverse()
    assert stamps(1, made) == first, "the same scenes in tables in another order"
    changes = [
        ("sample_data", token_of("CAM_FRONT", "scene-0061", 0), {"filename": "samples/other.jpg"}),
        ("ego_pose", token_of("CAM_FRONT", "scene-0061", 0), {"translation": [1.0, 2.0, 3.0]}),
        ("sample_annotation", token_of("annotation", "scene-0061", 1), {"size": [2.0, 4.6, 1.6]}),
    ]
    for number, (table, token, change) in enumerate(changes, 2):
        made = tiny()
        made.record(table, token=token).update(change)
        one, other = stamps(number, made)
        assert one != first[0]
        assert other == first[1]
    made = tiny()
    made.tables["calibrated_sensor"][0]["translation"][0] += 0.01
    assert not set(stamps(9, made)) & set(first)


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize(
    ("table", "change"), [("sample_data", {"filename": "x"}), ("ego_pose", {"translation": [1, 2, 3]})]
)
def test_with_sweeps_a_stamp_follows_its_own_scenes_sweeps_too(tmp_path, number, table, change):
    changed = tiny()
    changed.record(table, token=token_of("LIDAR_TOP", SCENES[number], 1, "sweep")).update(change)
    roots = [tiny().write(tmp_path / "a"), changed.write(tmp_path / "b")]
    same = [
        one == other
        for sweeps in (False, True)
        for one, other in zip(*(opened(root, sweeps=sweeps).scene_stamp.to_pylist() for root in roots), strict=True)
    ]
    assert same == [True, True, number == 1, number == 0]


def test_lidar_files_round_trip_and_damaged_ones_are_dropped_by_name():
    points_m = np.random.default_rng(0).normal(0, 30, (50, 3)).astype(np.float32)
    data = points_to_bytes(points_m, ring=np.arange(50) % 32)
    read_m, ring = points_from_bytes(data, "x")
    np.testing.assert_array_equal(read_m.T, points_m)
    assert ring.tolist() == (np.arange(50) % 32).tolist()
    damaged = {
        "lidar_odd_size": data[:-1],
        "lidar_empty": b"",
        "lidar_not_finite": points_to_bytes([[1, np.nan, 2]]),
        "lidar_bad_ring": points_to_bytes([[1, 1, 2]], ring=[np.nan]),
    }
    for reason, bad in damaged.items():
        with pytest.raises(Drop) as caught:
            points_from_bytes(bad, "samples/a.pcd.bin")
        assert caught.value.reason == reason
        assert "samples/a.pcd.bin" in str(caught.value)


def annotated(sign: float) -> Any:
    """Return two scenes of two key frames, 100 us apart; one object is in both, one in each alone.

    The quaternion of the one in both is written with another sign the second time: it is the same turn.
    """
    turned = [wxyz(Rotation.from_euler("z", deg, degrees=True)) for deg in (30, 40)]
    rows = [
        (0, 7, [0, 0, 0, 4, 2, 1, *turned[0]]), (0, 8, [50, 0, 0, 1, 1, 1, *turned[0]]),
        (1, 9, [90, 0, 0, 1, 1, 1, *turned[0]]), (1, 7, [8, 4, 2, 4.4, 2, 1, *(sign * q for q in turned[1])]),
        (2, 7, [500, 0, 0, 1, 1, 1, *turned[0]]), (3, 7, [600, 0, 0, 1, 1, 1, *turned[0]]),
    ]  # fmt: skip
    return SimpleNamespace(
        scene_first=np.array([0, 2, 4]),
        sample_us=np.array([1000, 1100, 1200, 1300]),
        box_problem=pa.array([None] * 4, pa.large_string()),
        box_first=np.searchsorted([row[0] for row in rows], np.arange(5)),
        box_instance=np.array([row[1] for row in rows], np.int32),
        box=np.array([row[2] for row in rows], float),
    )


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("sample", [0, 1])
def test_annotated_objects_are_on_their_way_between_two_key_frames(sign, sample):
    tables = annotated(sign)
    for time_us, share, alone in ((1025, 0.25, [50, 90]), (1090, 0.9, [50, 90]), (1000, 0, [50]), (1100, 1, [90])):
        poses, size_m = boxes_at(tables, sample, time_us)
        (moved,) = np.flatnonzero(poses[:, 0, 3] < 40)
        assert sorted(poses[poses[:, 0, 3] > 40, 0, 3]) == alone
        np.testing.assert_allclose(poses[moved, :3, 3], share * np.array([8.0, 4, 2]), atol=1e-12)
        np.testing.assert_allclose(size_m[moved], [4 + 0.4 * share, 2, 1])
        expected = Rotation.from_euler("z", 30 + 10 * share, degrees=True).as_matrix()
        np.testing.assert_allclose(poses[moved, :3, :3], expected, atol=1e-3)


def test_annotated_objects_stand_where_a_scene_begins_and_ends_and_are_of_no_other_scene():
    tables = annotated(1.0)
    for sample, time_us, expected in ((0, 900, [0, 50]), (1, 1190, [8, 90]), (2, 1110, [500]), (3, 1250, [550])):
        assert sorted(boxes_at(tables, sample, time_us)[0][:, 0, 3]) == expected
    tables.box_problem = pa.array([None, "bad_annotation: x", None, None], pa.large_string())
    with pytest.raises(Drop, match="bad_annotation"):
        boxes_at(tables, 0, 1050)


def test_a_point_is_in_a_box_by_the_axes_of_the_box():
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[:, :3, :3] = Rotation.from_euler("zyx", [[30, 0, 0], [100, 20, 0], [-50, 10, 40]], degrees=True).as_matrix()
    poses[:, :3, 3] = [[0, 0, 0], [30, -5, 1], [-4, 40, 5]]
    size_m = np.array([[4.6, 1.9, 1.6], [1.0, 5.0, 2.0], [2.0, 2.0, 9.0]])
    share = np.random.default_rng(0).uniform(-0.8, 0.8, (3, 300, 3))
    points_m = (share * size_m[:, None]) @ poses[:, :3, :3].transpose(0, 2, 1) + poses[:, None, :3, 3]
    expected = (np.abs(share) <= 0.5).all(axis=2).ravel()
    np.testing.assert_array_equal(inside_any(points_m.reshape(-1, 3).T, poses, size_m), expected)


def test_a_sweep_is_moved_with_the_vehicle_and_loses_what_is_on_or_a_hand_from_the_car(tmp_path):
    seconds = tiny_nuscenes.BETWEEN_SAMPLES_S
    before = seconds + tiny_nuscenes.SWEEP_S
    beside_m = np.array([0.0, 0.1, 0.2]) + CAR_SIZE[0] / 2  # of a box that is grown by 0.15 m to each side
    turn = Rotation.from_euler("z", 30, degrees=True)
    at = car_at(before) + turn.apply(np.stack([0 * beside_m, beside_m, 0 * beside_m], axis=1))
    made = tiny()
    name = made.record("sample_data", token=token_of("LIDAR_TOP", SCENES[0], 1, "sweep"))["filename"]
    made.files[name] = lidar_file(from_global(at, "LIDAR_TOP", before))
    scan = read_scan(opened(made.write(tmp_path), sweeps=True), made.files.__getitem__, 1, sweeps=1)
    assert np.diff(scan.first).tolist() == [len(scan.ring) - 1, 1]
    np.testing.assert_allclose(to_global(scan.points_m[:, -1:].T, "LIDAR_TOP", seconds), at[2:], atol=1e-4)
    assert scan.ring[-1] == 2
    was_m = from_global(to_global(np.zeros((1, 3)), "LIDAR_TOP", before), "LIDAR_TOP", seconds)
    np.testing.assert_allclose(scan.origin_m, [[0, 0, 0], *was_m], atol=1e-6)
    assert np.linalg.norm(was_m) > 0.5
