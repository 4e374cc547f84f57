"""Rotations as nuScenes' tables hold them."""

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


def quaternion_wxyz(rotation: Float64Array) -> list[float]:
    """Return the unit quaternion [w, x, y, z] of a rotation matrix, w >= 0.

    It is the eigenvector of the largest eigenvalue of Bar-Itzhack's matrix (2000), exact at every angle.
    """
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = rotation.tolist()
    symmetric = np.array(
        [
            [xx + yy + zz, zy - yz, xz - zx, yx - xy],
            [zy - yz, xx - yy - zz, xy + yx, xz + zx],
            [xz - zx, xy + yx, yy - xx - zz, yz + zy],
            [yx - xy, xz + zx, yz + zy, zz - xx - yy],
        ]
    )
    quaternion = np.linalg.eigh(symmetric)[1][:, -1]
    return (quaternion * (-1.0 if quaternion[0] < 0 else 1.0)).tolist()
