"""A nuScenes root small enough to reason about: two scenes, two samples each, a turning vehicle, known points."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from tests.conftest import photo

WIDTH, HEIGHT, FOCAL = 64, 36, 50.0
YAW_DEG = {
    "CAM_FRONT": 0, "CAM_FRONT_RIGHT": -60, "CAM_BACK_RIGHT": -120, "CAM_BACK": 180, "CAM_BACK_LEFT": 120,
    "CAM_FRONT_LEFT": 60,
}  # fmt: skip
SCENES = ("scene-0061", "scene-0103")
CAR_SIZE = (1.9, 4.6, 1.6)
"""Width, length, height."""
BETWEEN_SAMPLES_S, SWEEP_S = 0.5, -0.05
WALL_M = np.array([[2.0, 6.0, 0.5], [12.0, 9.0, -1.2]])
"""What the sweep before each key frame sees beside the car, in its own frame."""


@dataclass
class Tiny:
    """The tables, to be changed before they are written, and the truth: (u, v, z_m) by (scene, sample, channel)."""

    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    truth: dict[tuple[str, int, str], list[tuple[int, int, float]]] = field(default_factory=dict)

    def write(self, root: Path, version: str = "v1.0-mini", indent: int | None = 0) -> Path:
        for name, table in self.tables.items():
            self.write_text(root, name, json.dumps(table, indent=indent), version)
        for name, data in self.files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
        return root

    @staticmethod
    def write_text(root: Path, table: str, text: str | bytes, version: str = "v1.0-mini") -> None:
        path = root / version / f"{table}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)

    def record(self, table: str, **known: Any) -> dict[str, Any]:
        """Return the only record with these values."""
        (found,) = (record for record in self.tables[table] if all(record[key] == known[key] for key in known))
        return found

    def reading(self, scene: str, sample: int, channel: str) -> dict[str, Any]:
        """Return the key frame of one sensor."""
        token = token_of(channel, scene, sample)
        return self.record("sample_data", token=token)


def token_of(*parts: object) -> str:
    return hashlib.md5(repr(parts).encode()).hexdigest()


def wxyz(rotation: Rotation) -> list[float]:
    x, y, z, w = rotation.as_quat().tolist()
    return [w, x, y, z]


def ego_at(seconds: float) -> tuple[Rotation, np.ndarray]:
    """Return where the vehicle is: 12 m/s and 20 degrees a second, so that compensation matters."""
    return (
        Rotation.from_euler("zyx", [30 + 20 * seconds, 0.4, -0.3], degrees=True),
        np.array([1000 + 12 * seconds, 500 - 3 * seconds, 0.2]),
    )


def mount_of(channel: str) -> tuple[Rotation, np.ndarray]:
    """Return how a sensor sits on the vehicle."""
    if channel == "LIDAR_TOP":
        return Rotation.from_euler("zyx", [-90, 1, 0.5], degrees=True), np.array([0.94, 0.0, 1.84])
    looks_forward = Rotation.from_matrix([[0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    turned = Rotation.from_euler("zyx", [YAW_DEG[channel], 0.5, -0.5], degrees=True)
    return turned * looks_forward, turned.apply([1.0, 0.0, 0.0]) + np.array([0.5, 0, 1.5])


def to_global(points_m: np.ndarray, channel: str, seconds: float) -> np.ndarray:
    rotation, position = mount_of(channel)
    turn, place = ego_at(seconds)
    return turn.apply(rotation.apply(points_m) + position) + place


def from_global(points_m: np.ndarray, channel: str, seconds: float) -> np.ndarray:
    rotation, position = mount_of(channel)
    turn, place = ego_at(seconds)
    return rotation.inv().apply(turn.inv().apply(points_m - place) - position)


def tiny(scenes: tuple[str, ...] = SCENES, samples: int = 2) -> Tiny:
    """Return the dataset; its labels are 15 pixels an image, seen by a LiDAR at another moment and place."""
    made = Tiny({name: [] for name in ("log", "map", "attribute", "sample", "scene", "ego_pose", "sample_data",
                                       "sample_annotation", "instance")})  # fmt: skip
    tables = made.tables
    channels = [*YAW_DEG, "LIDAR_TOP", "RADAR_FRONT"]
    tables["sensor"] = [{"token": token_of(c), "channel": c, "modality": c.split("_")[0].lower()} for c in channels]
    tables["category"] = [{"token": token_of(n), "name": n, "description": ""} for n in ("vehicle.car", "animal")]
    tables["visibility"] = [
        {"token": str(number), "level": level, "description": ""}
        for number, level in enumerate(("v0-40", "v40-60", "v60-80", "v80-100"), 1)
    ]
    tables["calibrated_sensor"] = [_calibration(channel) for channel in channels]
    for number, scene in enumerate(scenes):
        tables["instance"].append(
            {"token": token_of("car", scene), "category_token": token_of("vehicle.car"), "nbr_annotations": samples}
        )
        tables["scene"].append(
            {"token": token_of(scene), "name": scene, "nbr_samples": samples, "description": '{a}, {b}: 0}, {1 "x"'}
        )
        for sample in range(samples):
            _sample(made, scene, sample, 1e8 * number)
    return made


def _calibration(channel: str) -> dict[str, Any]:
    rotation, position = mount_of(channel) if not channel.startswith("RADAR") else (Rotation.identity(), np.zeros(3))
    matrix = [[FOCAL, 0.0, 31.25], [0.0, FOCAL, 17.5], [0.0, 0.0, 1.0]]
    return {
        "token": token_of("calibrated", channel),
        "sensor_token": token_of(channel),
        "translation": position.tolist(),
        "rotation": wxyz(rotation),
        "camera_intrinsic": matrix if channel.startswith("CAM") else [],
    }


def _sample(made: Tiny, scene: str, sample: int, start_us: float) -> None:
    token, seconds = token_of("sample", scene, sample), BETWEEN_SAMPLES_S * sample
    made.tables["sample"].append(
        {"token": token, "timestamp": _microseconds(start_us, seconds), "scene_token": token_of(scene)}
    )
    rng = np.random.default_rng([sample, len(scene)])
    points_m = []
    for delay, channel in enumerate(YAW_DEG):
        # Nobody else looks into the middle of an image, and no two points share a part of the scan.
        u, v = (axis.ravel() for axis in np.meshgrid([12, 21, 30, 39, 48], [7, 17, 27]))
        depth_m = rng.uniform(4, 40, len(u))
        raw = np.stack([u - 31.25, v - 17.5], axis=1) + rng.uniform(-0.4, 0.4, (len(u), 2))
        camera_m = np.concatenate([raw / FOCAL, np.ones((len(u), 1))], axis=1) * depth_m[:, None]
        then = seconds + 0.008 * delay - 0.02
        points_m.append(to_global(camera_m, channel, then))
        made.truth[scene, sample, channel] = sorted(zip(u.tolist(), v.tolist(), depth_m.tolist(), strict=True))
        _reading(made, scene, sample, channel, (start_us, then), photo(sample * 10 + delay, WIDTH, HEIGHT))
    lidar_m = from_global(np.concatenate(points_m), "LIDAR_TOP", seconds)
    _reading(made, scene, sample, "LIDAR_TOP", (start_us, seconds), lidar_file(lidar_m))
    before = seconds + SWEEP_S
    car_m = car_at(before) + np.array([[0, 0, 0.1], [0.3, 0.2, 0.0]])
    swept_m = np.concatenate([WALL_M, from_global(car_m, "LIDAR_TOP", before)])
    _reading(made, scene, sample, "LIDAR_TOP", (start_us, before), lidar_file(swept_m), key=False)
    _reading(made, scene, sample, "RADAR_FRONT", (start_us, seconds), b"")
    made.tables["sample_annotation"].append(
        {
            "token": token_of("annotation", scene, sample),
            "sample_token": token,
            "instance_token": token_of("car", scene),
            "visibility_token": str(sample % 4 + 1),
            "attribute_tokens": [],
            "translation": car_at(seconds).tolist(),
            "size": list(CAR_SIZE),
            "rotation": wxyz(Rotation.from_euler("z", 30, degrees=True)),
            "num_lidar_pts": 1,
            "num_radar_pts": 0,
            "prev": "",
            "next": "",
        }
    )


def car_at(seconds: float) -> np.ndarray:
    """Return the centre of a car that drives ahead, and a little faster."""
    turn, place = ego_at(0.0)
    return turn.apply([15.0, 1.0, 0.8]) + place + np.array([14.0, -3.0, 0]) * seconds


def _microseconds(start_us: float, seconds: float) -> int:
    return round(start_us + (1 + seconds) * 1e6)


def lidar_file(points_m: np.ndarray) -> bytes:
    points = np.zeros((len(points_m), 5), "<f4")
    points[:, :3] = points_m
    points[:, 4] = np.arange(len(points_m)) % 32
    return points.tobytes()


def _reading(
    made: Tiny, scene: str, sample: int, channel: str, when: tuple[float, float], data: bytes, *, key: bool = True
) -> None:
    timestamp, seconds = _microseconds(*when), when[1]
    token = token_of(channel, scene, sample) if key else token_of(channel, scene, sample, "sweep")
    end = "jpg" if channel.startswith("CAM") else "pcd.bin" if channel.startswith("LIDAR") else "pcd"
    filename = f"{'samples' if key else 'sweeps'}/{channel}/{scene}__{channel}__{timestamp}.{end}"
    is_camera = channel.startswith("CAM")
    made.files[filename] = data
    made.tables["sample_data"].append(
        {
            "token": token,
            "sample_token": token_of("sample", scene, sample),
            "ego_pose_token": token,
            "calibrated_sensor_token": token_of("calibrated", channel),
            "timestamp": timestamp,
            "fileformat": end.split(".")[0],
            "is_key_frame": key,
            "height": HEIGHT if is_camera else 0,
            "width": WIDTH if is_camera else 0,
            "filename": filename,
            "prev": "",
            "next": "",
        }
    )
    turn, place = ego_at(seconds)
    made.tables["ego_pose"].append(
        {"token": token, "timestamp": timestamp, "rotation": wxyz(turn), "translation": place.tolist()}
    )
