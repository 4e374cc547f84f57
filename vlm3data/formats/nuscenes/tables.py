"""nuScenes v1.0's tables as columns, joined and in order: which reading of which sensor belongs to which sample.

Only what labels need is kept: the key frames of the six cameras and of LIDAR_TOP, and LIDAR_TOP's other sweeps where
they are asked for. What is wrong with one reading is noted in `problem` and costs its frames; what is wrong with a
table is a UserError that names file and record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash
from msgspec import ValidationError

from vlm3data.formats.nuscenes.boxes import Boxes, read_boxes
from vlm3data.formats.nuscenes.reader import TableReader
from vlm3data.formats.nuscenes.records import EgoPose, Sample, SampleData, Scene
from vlm3data.formats.nuscenes.sensors import CHANNELS, LIDAR, Calibrations, faults_of_poses
from vlm3data.types import Drop, Float64Array, Int64Array, UserError

Int32Array = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """s scenes by name, n samples by scene and time, r readings, c calibrations.

    Reading `sample * len(CHANNELS) + channel` is that channel's key frame; LIDAR_TOP's other sweeps come after all of
    those. Poses are (w, x, y, z, x_m, y_m, z_m), their quaternions of any length but zero.
    """

    scene: pa.Array
    """(s) names."""
    scene_stamp: pa.Array
    """(s) digests of everything that the scene's frames come from, but for the files of images and points."""
    scene_first: Int64Array
    """(s + 1) the first sample of each scene."""
    sample_us: Int64Array
    """(n) microseconds."""
    filename: pa.Array
    """(r) relative to the dataset's root."""
    problem: pa.Array
    """(r) why a reading cannot be used, as `reason: what is wrong where`, or null."""
    reading_us: Int64Array
    """(r) microseconds."""
    size_px: Int32Array
    """(r, 2) width and height; 0 where there is none."""
    global_from_ego: Float64Array
    """(r, 7) at the reading's own time."""
    calibration: Int32Array
    """(r) which of the c."""
    lidar: Int64Array
    """Readings of LIDAR_TOP, scene by scene in order of time."""
    lidar_first: Int64Array
    """(s + 1) the first of each scene in `lidar`."""
    ego_from_sensor: Float64Array
    """(c, 7)."""
    pinhole_px: Float64Array
    """(c, 4) fx, fy, cx, cy as they are stored; NaN for what is no camera."""
    category: pa.Array
    """Names of categories."""
    box_first: Int64Array
    """(n + 1) the first box of each sample."""
    box_problem: pa.Array
    """(n) why a sample's boxes cannot be used, or null."""
    box: Float64Array
    """(b, 10) centre x, y, z; length, width, height; w, x, y, z: global, metres."""
    box_category: Int32Array
    """(b) which name."""
    box_instance: Int32Array
    """(b) the same number for one object over time."""
    box_visibility: Float64Array
    """(b) the share that is visible, the middle of the annotated bin; NaN where unknown."""


def drop_where_wrong(problems: pa.Array, row: int) -> None:
    """Raise the Drop that `Tables.problem` or `box_problem` has at `row`, if any."""
    problem = problems[row].as_py()
    if problem is not None:
        reason, _, detail = problem.partition(": ")
        raise Drop(reason, detail)


def read_tables(table: TableReader, *, sweeps: bool) -> Tables:
    """Read the tables; `sweeps` keeps LIDAR_TOP's readings between the key frames too."""
    scenes, scene_first, samples = _scenes_and_samples(table)
    sample_row = {sample.token: row for row, sample in enumerate(samples)}
    calibrations = Calibrations.read(table)
    kept, problems = _readings(table, samples, sample_row, calibrations, sweeps=sweeps)
    global_from_ego = _ego_poses(table, kept, problems)
    boxes = read_boxes(table, sample_row)
    calibration = [-1 if reading is None else calibrations.row[reading.calibrated_sensor_token] for reading in kept]
    for row, number in enumerate(calibration):
        if number in calibrations.problems:
            problems.setdefault(row, calibrations.problems[number])
    for row, reading in enumerate(kept[: len(samples) * len(CHANNELS)]):
        if reading is not None and row % len(CHANNELS) != LIDAR and 0 in _size_px(reading):
            name = table.name("sample_data")
            problems.setdefault(row, f"image_size_missing: {name}: token {reading.token!r}: no width or height")
    lidar, lidar_first = _lidar_in_time(kept, sample_row, scene_first)
    columns: dict[str, Any] = {
        "scene": pa.array([scene.name for scene in scenes], pa.large_string()),
        "scene_first": scene_first,
        "sample_us": np.array([sample.timestamp for sample in samples], np.int64),
        "filename": pa.array(["" if reading is None else reading.filename for reading in kept], pa.large_string()),
        "problem": pa.array([problems.get(row) for row in range(len(kept))], pa.large_string()),
        "reading_us": np.array([0 if reading is None else reading.timestamp for reading in kept], np.int64),
        "size_px": np.array([_size_px(reading) for reading in kept], np.int32).reshape(-1, 2),
        "global_from_ego": global_from_ego,
        "calibration": np.array(calibration, np.int32),
        "lidar": lidar,
        "lidar_first": lidar_first,
        "ego_from_sensor": calibrations.ego_from_sensor,
        "pinhole_px": calibrations.pinhole_px,
        **{field.name: getattr(boxes, field.name) for field in fields(Boxes)},
    }
    stamps = [_stamp(columns, scene) for scene in range(len(scenes))]
    return Tables(**columns, scene_stamp=pa.array(stamps, pa.large_string()))


def _scenes_and_samples(table: TableReader) -> tuple[list[Scene], Int64Array, list[Sample]]:
    """Return the scenes by name, the first sample of each, and the samples by scene and time."""
    scenes = sorted(table.all("scene", Scene), key=lambda scene: scene.name)
    row_of = {scene.token: row for row, scene in enumerate(scenes)}
    for one, other in pairwise(scenes):
        if one.name == other.name:
            raise UserError(f"{table.name('scene')}: {one.name} is there twice (token {other.token!r})")
    samples = table.all("sample", Sample)
    for sample in samples:
        if sample.scene_token not in row_of:
            raise UserError(
                f"{table.name('sample')}: token {sample.token!r}: scene_token {sample.scene_token!r} "
                "is no scene of scene.json"
            )
    samples.sort(key=lambda sample: (row_of[sample.scene_token], sample.timestamp, sample.token))
    counts = np.bincount([row_of[sample.scene_token] for sample in samples], minlength=len(scenes))
    for scene, count in zip(scenes, counts.tolist(), strict=True):
        if scene.nbr_samples != count:
            raise UserError(
                f"{table.name('scene')}: {scene.name}: nbr_samples is {scene.nbr_samples}, but sample.json has {count}"
            )
    return scenes, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), samples


def _readings(
    table: TableReader,
    samples: list[Sample],
    sample_row: Mapping[str, int],
    calibrations: Calibrations,
    *,
    sweeps: bool,
) -> tuple[list[SampleData | None], dict[int, str]]:
    """Return the readings in `Tables`' order, None where there is none, and what is wrong with single ones."""
    name = table.name("sample_data")
    keys: list[SampleData | None] = [None] * (len(samples) * len(CHANNELS))
    others: list[SampleData] = []
    problems: dict[int, str] = {}
    nowhere: dict[str, str] = {}
    of_lidar = {token for token, channel in calibrations.channel.items() if channel == LIDAR}
    found: list[SampleData] = []
    for records in table.pieces("sample_data", SampleData):
        found += [each for each in records if each.is_key_frame]
        if sweeps:
            others += [each for each in records if not each.is_key_frame and each.calibrated_sensor_token in of_lidar]
    for reading in found:
        channel = calibrations.channel.get(reading.calibrated_sensor_token)
        if channel is None:
            nowhere[reading.sample_token] = (
                f"{name}: token {reading.token!r}: calibrated_sensor_token {reading.calibrated_sensor_token!r} "
                "is in no record of calibrated_sensor.json"
            )
        elif channel >= 0 and reading.sample_token in sample_row:
            row = sample_row[reading.sample_token] * len(CHANNELS) + channel
            if keys[row] is not None:
                problems[row] = f"{_kind(channel)}_record_twice: {name}: token {reading.token!r} is the second one"
            keys[row] = reading
    for row, reading in enumerate(keys):
        if reading is None:
            sample, channel = samples[row // len(CHANNELS)].token, row % len(CHANNELS)
            missing = (
                f"{_kind(channel)}_record_missing: {name}: no key frame of {CHANNELS[channel]} in sample {sample!r}"
            )
            problems[row] = f"calibration_missing: {nowhere[sample]}" if sample in nowhere else missing
    for reading in others:
        if reading.sample_token not in sample_row:
            raise UserError(
                f"{name}: token {reading.token!r}: sample_token {reading.sample_token!r} is no sample of sample.json"
            )
    return [*keys, *others], problems


def _ego_poses(table: TableReader, kept: list[SampleData | None], problems: dict[int, str]) -> Float64Array:
    """Return `global_from_ego` of the readings, and note in `problems` which of them have none."""
    wanted: dict[str, int] = {}
    pose_of = [
        len(wanted) if reading is None else wanted.setdefault(reading.ego_pose_token, len(wanted)) for reading in kept
    ]
    poses = np.full((len(wanted) + 1, 7), np.nan)
    poses[-1] = (1, 0, 0, 0, 0, 0, 0)
    seen = np.zeros(len(wanted), bool)
    for records in table.pieces("ego_pose", EgoPose):
        for pose in [each for each in records if each.token in wanted]:
            row = wanted[pose.token]
            if seen[row]:
                raise UserError(f"{table.name('ego_pose')}: token {pose.token!r} is there twice")
            seen[row] = True
            try:
                poses[row] = pose.numbers()
            except ValidationError as error:
                raise UserError(f"{table.name('ego_pose')}: token {pose.token!r}: {error}") from error
    pose_of = [len(wanted) if reading is None else number for reading, number in zip(kept, pose_of, strict=True)]
    faults = faults_of_poses(poses)
    for row, (reading, number) in enumerate(zip(kept, pose_of, strict=True)):
        if reading is None or number not in faults:
            continue
        token = reading.ego_pose_token
        missing = f"ego_pose_missing: {table.name('sample_data')}: token {reading.token!r}: no ego pose {token!r}"
        bad = f"bad_ego_pose: {table.name('ego_pose')}: token {token!r}: {faults[number]}"
        problems.setdefault(row, bad if seen[number] else missing)
    return poses[pose_of]


def _lidar_in_time(
    kept: list[SampleData | None], sample_row: Mapping[str, int], scene_first: Int64Array
) -> tuple[Int64Array, Int64Array]:
    """Return the rows of LIDAR_TOP's readings by scene and time, and the first of each scene."""
    keys = int(scene_first[-1]) * len(CHANNELS)
    found = [
        (sample_row[reading.sample_token], reading.timestamp, row)
        for row, reading in enumerate(kept)
        if reading is not None and (row >= keys or row % len(CHANNELS) == LIDAR)
    ]
    samples = np.array([sample for sample, _, _ in found], np.int64)
    scenes = np.searchsorted(scene_first, samples, side="right") - 1
    order = sorted(range(len(found)), key=lambda i: (scenes[i], found[i][1], found[i][2]))
    lidar = np.array([found[i][2] for i in order], np.int64)
    return lidar, np.searchsorted(scenes[order], np.arange(len(scene_first))).astype(np.int64)


def _stamp(columns: Mapping[str, Any], scene: int) -> str:
    """Return a digest of the scene's rows; of its calibrations by value, not by number."""
    samples = slice(*columns["scene_first"][scene : scene + 2].tolist())
    readings = slice(samples.start * len(CHANNELS), samples.stop * len(CHANNELS))
    lidar = columns["lidar"][slice(*columns["lidar_first"][scene : scene + 2].tolist())]
    boxes = slice(int(columns["box_first"][samples.start]), int(columns["box_first"][samples.stop]))
    rows = np.unique(np.concatenate([np.arange(readings.start, readings.stop), lidar]))
    digest = xxhash.xxh3_64()
    for name in ("filename", "problem"):
        digest.update("\0".join(map(str, columns[name].take(pa.array(rows)).to_pylist())).encode())
    for name in ("reading_us", "size_px", "global_from_ego"):
        digest.update(columns[name][rows].tobytes())
    for name in ("ego_from_sensor", "pinhole_px"):
        digest.update(columns[name][columns["calibration"][rows]].tobytes())
    digest.update((columns["box_first"][samples.start : samples.stop + 1] - boxes.start).tobytes())
    problems = columns["box_problem"].slice(samples.start, samples.stop - samples.start)
    digest.update("\0".join(map(str, problems.to_pylist())).encode())
    for name in ("box", "box_visibility", "box_category", "box_instance"):
        digest.update(columns[name][boxes].tobytes())
    digest.update("\0".join(columns["category"].to_pylist()).encode())
    return digest.hexdigest()


def _kind(channel: int) -> str:
    return "lidar" if channel == LIDAR else "image"


def _size_px(reading: SampleData | None) -> tuple[int, int]:
    return (0, 0) if reading is None else (reading.width or 0, reading.height or 0)
