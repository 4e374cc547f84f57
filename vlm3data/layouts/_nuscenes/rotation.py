"""Poses from angles."""

from __future__ import annotations

import math

import numpy as np

from vlm3data.types import Float64Array


def turned(yaw_rad: float, pitch_rad: float = 0.0, roll_rad: float = 0.0) -> Float64Array:
    """Return the (3, 3) rotation Rz(yaw) Ry(pitch) Rx(roll): each from the first to the second of xy, zx, yz."""
    c, s = math.cos(yaw_rad), math.sin(yaw_rad)
    about_z = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    c, s = math.cos(pitch_rad), math.sin(pitch_rad)
    about_y = np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])
    c, s = math.cos(roll_rad), math.sin(roll_rad)
    about_x = np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])
    return about_z @ about_y @ about_x


def pose_of(rotation: Float64Array, place_m: tuple[float, float, float]) -> Float64Array:
    """Return the (4, 4) pose."""
    pose = np.eye(4)
    pose[:3, :3] = rotation
    pose[:3, 3] = place_m
    return pose
