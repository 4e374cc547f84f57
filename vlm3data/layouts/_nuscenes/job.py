"""What one scene depends on, and the records that describe it as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from vlm3data.geometry.quaternion import quaternion_from_rotation
from vlm3data.layouts._nuscenes.rig import Sensor
from vlm3data.layouts._nuscenes.tables import Record, token
from vlm3data.types import Camera, Float64Array

PERIOD_US = 500_000
"""Key frames come at 2 Hz."""
LEAD_US = 100_000
"""Before the first key frame, and after the last: cameras fire a little earlier than the LiDAR."""
_FIRST_US = 1_600_000_000_000_000
_BETWEEN_SCENES_US = 600_000_000


@dataclass(frozen=True, slots=True)
class SceneJob:
    """What one scene depends on; plain values, so that it can be sent to a process."""

    out: str
    seed: int
    index: int
    name: str
    num_samples: int
    num_sweeps: int
    size_px: tuple[int, int]
    truth: bool

    @property
    def start_us(self) -> int:
        """Return when the scene begins."""
        return _FIRST_US + self.index * _BETWEEN_SCENES_US

    @property
    def duration_us(self) -> int:
        """Return how long it lasts."""
        return (self.num_samples - 1) * PERIOD_US + 2 * LEAD_US

    @property
    def start(self) -> datetime:
        """Return the same as a date."""
        return datetime.fromtimestamp(self.start_us / 1e6, UTC)

    @property
    def logfile(self) -> str:
        """Return the name of its log: the car, the time. Every scene has a log of its own."""
        return f"n900-{self.start:%Y-%m-%d-%H-%M-%S}+0000"

    def token(self, table: str, *what: str | int) -> str:
        """Return the token of one of its records."""
        return token(self.seed, table, self.name, *what)


def placed(a_from_b: Float64Array) -> Record:
    """Return a pose as records have it."""
    return {"translation": a_from_b[:3, 3].tolist(), "rotation": quaternion_from_rotation(a_from_b[:3, :3]).tolist()}


def intrinsic_matrix(camera: Camera) -> list[list[float]]:
    """Return K with integers on pixel centres, as OpenCV's calibration has them: half a pixel less than ours."""
    return [[camera.fx_px, 0.0, camera.cx_px - 0.5], [0.0, camera.fy_px, camera.cy_px - 0.5], [0.0, 0.0, 1.0]]


def describing_records(job: SceneJob, rig: list[Sensor], samples: list[Record]) -> dict[str, list[Record]]:
    """Return the records of the scene, its log and its calibrated sensors."""
    calibrated = [
        {
            "token": job.token("calibrated_sensor", sensor.channel),
            "sensor_token": token(job.seed, "sensor", sensor.channel),
            **placed(sensor.ego_from_sensor),
            "camera_intrinsic": intrinsic_matrix(sensor.camera) if sensor.camera else [],
        }
        for sensor in rig
    ]
    log = {
        "token": job.token("log"),
        "logfile": job.logfile,
        "vehicle": "n900",
        "date_captured": f"{job.start:%Y-%m-%d}",
        "location": "synthetic-street",
    }
    scene = {
        "token": job.token("scene"),
        "log_token": log["token"],
        "nbr_samples": len(samples),
        "first_sample_token": samples[0]["token"],
        "last_sample_token": samples[-1]["token"],
        "name": job.name,
        "description": "Synthetic street, everything stands still but the car",
    }
    return {"calibrated_sensor": calibrated, "log": [log], "scene": [scene]}
