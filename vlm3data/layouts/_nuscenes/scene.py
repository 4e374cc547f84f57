"""One scene: a street, a drive along it, and every file and record that come of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from fsspec import AbstractFileSystem

from vlm3data.images import encode_jpeg
from vlm3data.layouts._nuscenes.drive import Drive
from vlm3data.layouts._nuscenes.job import LEAD_US, PERIOD_US, SceneJob, describing_records, placed
from vlm3data.layouts._nuscenes.objects import Objects, seen_px
from vlm3data.layouts._nuscenes.rig import Sensor, drawn_rig
from vlm3data.layouts._nuscenes.rotation import pose_of, turned
from vlm3data.layouts._nuscenes.tables import Record, linked, write_part
from vlm3data.layouts._nuscenes.truth import FAR_M, shown_points, truth_npz
from vlm3data.randomness import rng_for
from vlm3data.storage import open_store, write_whole
from vlm3data.synth.lidar import Scan, scan
from vlm3data.synth.outdoors import ALONG_M, street
from vlm3data.synth.packed import PackedWorld, pack
from vlm3data.synth.shade import shade
from vlm3data.synth.trace import Traced, trace
from vlm3data.types import Float64Array, Int64Array

JPEG_QUALITY = 95


class _Seen(NamedTuple):
    """What one camera saw of a sample."""

    sensor: Sensor
    filename: str
    world_from_cam: Float64Array
    traced: Traced


@dataclass(slots=True)
class _Recording:
    """A scene while it is written."""

    job: SceneJob
    fs: AbstractFileSystem
    root: str
    packed: PackedWorld
    drive: Drive
    rig: list[Sensor]
    global_from_world: Float64Array
    readings: dict[str, list[Record]] = field(default_factory=dict)
    ego_poses: list[Record] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def pose(self, sensor: Sensor, time_us: int) -> Float64Array:
        """Return world_from_sensor."""
        return self.drive.world_from_ego((time_us - self.job.start_us) / 1e6) @ sensor.ego_from_sensor

    def scan(self, sample: str, time_us: int, *, is_key_frame: bool) -> Scan:
        """Write one turn of the LiDAR."""
        sensor = self.rig[0]
        turn = scan(self.packed, self.pose(sensor, time_us))
        filename = self._register(sensor, sample, time_us, is_key_frame=is_key_frame)
        write_whole(self.fs, f"{self.root}/{filename}", turn.points.astype("<f4").tobytes())
        self.counts["lidar_points"] += len(turn.points)
        self.counts["lidar_turns"] += 1
        return turn

    def photograph(self, sensor: Sensor, sample: str, time_us: int) -> _Seen:
        """Write one image."""
        assert sensor.camera is not None
        pose = self.pose(sensor, time_us)
        traced = trace(self.packed, sensor.camera, pose, FAR_M)
        image = encode_jpeg(shade(self.packed, traced, sensor.camera, pose), JPEG_QUALITY)
        filename = self._register(sensor, sample, time_us, is_key_frame=True)
        write_whole(self.fs, f"{self.root}/{filename}", image)
        self.counts["images"] += 1
        return _Seen(sensor, filename, pose, traced)

    def _register(self, sensor: Sensor, sample: str, time_us: int, *, is_key_frame: bool) -> str:
        """Add the records of one reading, and return the name of its file."""
        job, camera = self.job, sensor.camera
        folder, suffix = "samples" if is_key_frame else "sweeps", "jpg" if camera else "pcd.bin"
        filename = f"{folder}/{sensor.channel}/{job.logfile}__{sensor.channel}__{time_us}.{suffix}"
        # As in nuScenes, a reading and its ego pose share their token.
        name = job.token("sample_data", sensor.channel, time_us)
        self.readings.setdefault(sensor.channel, []).append(
            {
                "token": name,
                "sample_token": sample,
                "ego_pose_token": name,
                "calibrated_sensor_token": job.token("calibrated_sensor", sensor.channel),
                "timestamp": time_us,
                "fileformat": "jpg" if camera else "pcd",
                "is_key_frame": is_key_frame,
                "height": camera.height_px if camera else 0,
                "width": camera.width_px if camera else 0,
                "filename": filename,
            }
        )
        pose = self.global_from_world @ self.drive.world_from_ego((time_us - job.start_us) / 1e6)
        self.ego_poses.append({"token": name, "timestamp": time_us} | placed(pose))
        return filename


def write_scene(job: SceneJob) -> Counter[str]:
    """Write the files of one scene and its part of the tables; return counts."""
    rng = rng_for(job.seed, "nuscenes", job.name)
    recording = begun(job, rng)
    objects = Objects(recording.packed, recording.global_from_world, job)
    samples: list[Record] = []
    for number in range(job.num_samples):
        time_us = job.start_us + LEAD_US + number * PERIOD_US
        sample = job.token("sample", number)
        samples.append({"token": sample, "timestamp": time_us, "scene_token": job.token("scene")})
        _write_sample(recording, objects, sample, time_us, num_sweeps=job.num_sweeps if number else 0, rng=rng)
    annotations = objects.annotations()
    tables = describing_records(job, recording.rig, samples) | {
        "ego_pose": recording.ego_poses,
        "instance": objects.instances(),
        "sample": linked(samples),
        "sample_annotation": annotations,
        "sample_data": [record for readings in recording.readings.values() for record in linked(readings)],
    }
    write_part(recording.fs, recording.root, job.index, tables)
    return recording.counts + Counter(samples=len(samples), annotations=len(annotations))


def begun(job: SceneJob, rng: np.random.Generator) -> _Recording:
    """Build the street around the drive, and put it somewhere in the global frame."""
    drive = Drive.drawn(rng, job.duration_us / 1e6)
    packed = pack(street(rng, max(ALONG_M, 2 * (drive.reach_m + 12)), drive.corridor()))
    x, y, yaw = rng.uniform((300.0, 900.0, -np.pi), (1200.0, 1900.0, np.pi)).tolist()
    fs, root = open_store(job.out)
    return _Recording(job, fs, root, packed, drive, drawn_rig(rng, *job.size_px), pose_of(turned(yaw), (x, y, 0.0)))


def _write_sample(
    recording: _Recording, objects: Objects, sample: str, time_us: int, *, num_sweeps: int, rng: np.random.Generator
) -> None:
    """Write the sweeps that lead to a sample, its own turn of the LiDAR, its images, and what is true of them."""
    for still in range(num_sweeps, 0, -1):
        recording.scan(sample, time_us - PERIOD_US * still // (num_sweeps + 1), is_key_frame=False)
    turn = recording.scan(sample, time_us, is_key_frame=True)
    views = [
        recording.photograph(sensor, sample, time_us + sensor.delay_us + int(rng.integers(-1000, 1000)))
        for sensor in recording.rig[1:]
    ]
    seen = np.array([seen_px(recording.packed, view.traced) for view in views])
    alone = np.array([view.traced.alone_px for view in views])
    things, tokens = objects.annotate(sample, turn.surface, seen.sum(0), alone.sum(0))
    if recording.job.truth:
        lidar = recording.pose(recording.rig[0], time_us)
        points = turn.points[:, :3].astype(np.float64) @ lidar[:3, :3].T + lidar[:3, 3]
        for number, view in enumerate(views):
            _write_truth(recording, view, points, (tokens, seen[number, things], alone[number, things]))


def _write_truth(
    recording: _Recording, view: _Seen, points_m: Float64Array, annotations: tuple[list[str], Int64Array, Int64Array]
) -> None:
    camera = view.sensor.camera
    assert camera is not None
    shown = shown_points(recording.packed, camera, view.world_from_cam, points_m)
    data = truth_npz(camera, recording.global_from_world @ view.world_from_cam, view.traced, shown, annotations)
    write_whole(recording.fs, f"{recording.root}/{truth_file(view.filename)}", data)


def truth_file(filename: str) -> str:
    """Return where the truth about an image is."""
    return filename.replace("samples/", "truth/", 1).removesuffix("jpg") + "npz"
