"""nuScenes' sensors: their channels, where they sit on the vehicle, and the cameras' pinholes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vlm3data.formats.nuscenes.reader import TableReader
from vlm3data.formats.nuscenes.records import CalibratedSensor, Sensor
from vlm3data.types import Float64Array, UserError

CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_FRONT_LEFT")
"""Clockwise."""
CHANNELS = (*CAMERAS, "LIDAR_TOP")
LIDAR = CHANNELS.index("LIDAR_TOP")

MAX_NORM_ERROR = 1e-3
"""By how much the length of a unit quaternion may differ from 1: what rounding leaves is far less."""
MAX_DISTANCE_M = 1e7
"""A position farther from the origin is none."""


@dataclass(frozen=True, slots=True)
class Calibrations:
    """The calibrated sensors in the table's order; `problems` says of which rows what is wrong."""

    row: dict[str, int]
    channel: dict[str, int]
    """By token: which of `CHANNELS`, or -1 for sensors that nobody asks about."""
    ego_from_sensor: Float64Array
    pinhole_px: Float64Array
    problems: dict[int, str]

    @classmethod
    def read(cls, table: TableReader) -> Calibrations:
        """Read `sensor` and `calibrated_sensor`."""
        channel_of = {sensor.token: sensor.channel for sensor in table.all("sensor", Sensor)}
        calibrated = table.all("calibrated_sensor", CalibratedSensor)
        channel: dict[str, int] = {}
        for each in calibrated:
            if each.sensor_token not in channel_of:
                raise UserError(
                    f"{table.name('calibrated_sensor')}: token {each.token!r}: sensor_token {each.sensor_token!r} "
                    "is no sensor of sensor.json"
                )
            name = channel_of[each.sensor_token]
            channel[each.token] = CHANNELS.index(name) if name in CHANNELS else -1
        poses = np.array([(*each.rotation, *each.translation) for each in calibrated], float).reshape(-1, 7)
        pinhole_px = np.full((len(calibrated), 4), np.nan)
        faults = faults_of_poses(poses)
        for row, each in enumerate(calibrated):
            if 0 <= channel[each.token] < LIDAR:
                try:
                    pinhole_px[row] = _pinhole(each.camera_intrinsic)
                except ValueError as error:
                    faults.setdefault(row, str(error))
        table_name = table.name("calibrated_sensor")
        return cls(
            row={each.token: row for row, each in enumerate(calibrated)},
            channel=channel,
            ego_from_sensor=poses,
            pinhole_px=pinhole_px,
            problems={
                row: f"bad_calibration: {table_name}: token {calibrated[row].token!r}: {fault}"
                for row, fault in faults.items()
            },
        )


def faults_of_poses(poses: Float64Array) -> dict[int, str]:
    """Return which of the poses (n, 7) are none, and why."""
    with np.errstate(over="ignore"):
        norm = np.linalg.norm(poses[:, :4], axis=1)
    unit = np.abs(norm - 1) <= MAX_NORM_ERROR
    near = (np.abs(poses[:, 4:]) <= MAX_DISTANCE_M).all(axis=1)
    faults = {int(row): f"translation {poses[row, 4:].tolist()} is no place" for row in np.flatnonzero(~near)}
    return faults | {int(row): f"the rotation's length is {norm[row]:g}, not 1" for row in np.flatnonzero(~unit)}


def _pinhole(matrix: list[list[float]]) -> tuple[float, float, float, float]:
    """Return fx, fy, cx, cy; ValueError where the matrix is not that of a pinhole without skew."""
    if [len(row) for row in matrix] != [3, 3, 3]:
        raise ValueError(f"camera_intrinsic {matrix} is not a 3x3 matrix")
    (fx, skew, cx), (zero, fy, cy), last = matrix
    if skew != 0 or zero != 0 or last != [0, 0, 1] or min(fx, fy) <= 0 or max(fx, fy, abs(cx), abs(cy)) > 1e6:
        raise ValueError(f"camera_intrinsic {matrix} is not that of a pinhole")
    return fx, fy, cx, cy
