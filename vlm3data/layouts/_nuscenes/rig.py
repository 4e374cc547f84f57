"""The car's sensors: where they sit, what they see, and when they fire, much as on nuScenes' cars."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vlm3data.layouts._nuscenes.rotation import pose_of, turned
from vlm3data.types import Camera, Float64Array

FULL_SIZE_PX = (1600, 900)
"""What the focal lengths below are for."""


class _Mount(NamedTuple):
    """One camera: its place in the ego frame, where it looks (left is positive), focal length, firing."""

    channel: str
    place_m: tuple[float, float, float]
    yaw_deg: float
    focal_px: float
    delay_us: int
    """Of the exposure against the LiDAR's time: each camera fires when the beam passes its direction."""


_CAMERAS = (
    _Mount("CAM_FRONT_LEFT", (1.52, 0.49, 1.51), 55.0, 1266.0, -43_000),
    _Mount("CAM_FRONT", (1.70, 0.0, 1.51), 0.0, 1266.0, -35_500),
    _Mount("CAM_FRONT_RIGHT", (1.55, -0.49, 1.50), -55.0, 1266.0, -27_500),
    _Mount("CAM_BACK_RIGHT", (1.02, -0.48, 1.56), -110.0, 1266.0, -20_000),
    _Mount("CAM_BACK", (0.03, 0.0, 1.57), 180.0, 809.0, -10_500),
    _Mount("CAM_BACK_LEFT", (1.04, 0.48, 1.58), 110.0, 1266.0, -500),
)
CHANNELS = ("LIDAR_TOP", *(mount.channel for mount in _CAMERAS))
_LIDAR_M = (0.94, 0.0, 1.84)
"""Its y axis points ahead, its x axis right."""
_AHEAD_FROM_OPENCV = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


class Sensor(NamedTuple):
    """A calibrated sensor; the LiDAR has no camera."""

    channel: str
    ego_from_sensor: Float64Array
    delay_us: int
    camera: Camera | None


def drawn_rig(rng: np.random.Generator, width_px: int, height_px: int) -> list[Sensor]:
    """Return the LiDAR and the six cameras of one car: each is a centimetre and half a degree off its usual place."""
    sensors = [Sensor("LIDAR_TOP", _mounted(rng, _LIDAR_M, -90.0), 0, None)]
    for mount in _CAMERAS:
        pose = _mounted(rng, mount.place_m, mount.yaw_deg)
        pose[:3, :3] = pose[:3, :3] @ _AHEAD_FROM_OPENCV
        focal = mount.focal_px * width_px / FULL_SIZE_PX[0] * rng.uniform(0.99, 1.01)
        cx, cy = (np.array([width_px, height_px]) * rng.uniform((0.495, 0.53), (0.52, 0.56))).tolist()
        camera = Camera(focal, focal, cx, cy, width_px, height_px)
        sensors.append(Sensor(mount.channel, pose, mount.delay_us, camera))
    return sensors


def _mounted(rng: np.random.Generator, place_m: tuple[float, float, float], yaw_deg: float) -> Float64Array:
    yaw, pitch, roll = np.deg2rad(rng.normal((yaw_deg, 0.0, 0.0), 0.5)).tolist()
    x, y, z = rng.normal(place_m, 0.01).tolist()
    return pose_of(turned(yaw, pitch, roll), (x, y, z))
