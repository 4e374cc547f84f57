"""Relative poses and the angles that name a rotation; poses and axes as in `vlm3data.types`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vlm3data.types import Float64Array


def invert_pose(a_from_b: npt.ArrayLike) -> Float64Array:
    """Return `b_from_a` (4, 4) of a rigid `a_from_b` (4, 4)."""
    pose = np.asarray(a_from_b, float)
    inverse = np.eye(4)
    inverse[:3, :3] = pose[:3, :3].T
    inverse[:3, 3] = -pose[:3, :3].T @ pose[:3, 3]
    return inverse


def relative_pose(world_from_cam1: npt.ArrayLike, world_from_cam2: npt.ArrayLike) -> tuple[Float64Array, Float64Array]:
    """Return (R, t) of cam1_from_cam2: R = R1ᵀR2 (3, 3) and t = R1ᵀ(C2 - C1) (3,), metres."""
    cam1_from_cam2 = invert_pose(world_from_cam1) @ np.asarray(world_from_cam2, float)
    return cam1_from_cam2[:3, :3], cam1_from_cam2[:3, 3]


def rotation_angle_deg(rotation: npt.ArrayLike) -> float:
    """Return the angle of a rotation (3, 3), 0 to 180 degrees.

    acos((tr R - 1) / 2), written as an arctangent, which keeps its digits near 0 and 180 degrees.
    """
    r = np.asarray(rotation, float)
    twice_sine = np.linalg.norm((r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]))
    return float(np.degrees(np.arctan2(twice_sine, np.trace(r) - 1.0)))


def rotation_from_yaw_pitch_roll_deg(yaw_deg: float, pitch_deg: float, roll_deg: float) -> Float64Array:
    """Return R (3, 3) = Ry(yaw) Rx(pitch) Rz(roll): turns intrinsic about y, then x, then z (scipy's 'YXZ').

    Yaw > 0 turns right, pitch > 0 looks up, roll > 0 banks right.
    """
    (cy, cp, cr), (sy, sp, sr) = (f(np.radians([yaw_deg, pitch_deg, roll_deg])) for f in (np.cos, np.sin))
    return np.array(
        [
            [cy * cr + sy * sp * sr, -cy * sr + sy * sp * cr, sy * cp],
            [cp * sr, cp * cr, -sp],
            [-sy * cr + cy * sp * sr, sy * sr + cy * sp * cr, cy * cp],
        ]
    )


def yaw_pitch_roll_deg(rotation: npt.ArrayLike) -> Float64Array:
    """Return [yaw, pitch, roll] (3,) in degrees, |pitch| <= 90: undoes `rotation_from_yaw_pitch_roll_deg`.

    Looking straight up or down yaw and roll are one turn and only their combination is defined; roll is
    therefore read after the yaw is undone, so that the angles give the rotation back there as well.
    """
    r = np.asarray(rotation, float)
    yaw = np.arctan2(r[0, 2], r[2, 2])
    pitch = np.arctan2(-r[1, 2], np.hypot(r[0, 2], r[2, 2]))
    cosine, sine = np.cos(yaw), np.sin(yaw)
    roll = np.arctan2(sine * r[2, 1] - cosine * r[0, 1], cosine * r[0, 0] - sine * r[2, 0])
    return np.degrees([yaw, pitch, roll])
