"""Camera poses as text: a matrix a file, TUM trajectories, Redwood logs, axis-angle trajectories; read and written.

What is read is not trusted: `rigid` takes every matrix and every quaternion before it becomes a pose.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from vlm3data.geometry.quaternion import pose_from_quaternion, quaternion_from_rotation
from vlm3data.geometry.rigid import as_rigid
from vlm3data.types import Drop, Float64Array, UserError

QUATERNION_TOLERANCE = 0.01
"""How far from 1 a quaternion's length may be: text with two decimals passes, missing numbers do not."""
FARTHEST_M = 1e6
"""No camera stands farther from its origin; beyond it a number is damage, or not in metres."""

TUM_COLUMNS = 8
"""`timestamp tx ty tz qx qy qz qw` (cvg.cit.tum.de, RGB-D SLAM dataset, file formats)."""
AXIS_ANGLE_COLUMNS = 7
"""`timestamp ax ay az tx ty tz`, radians (ARKitScenes' `lowres_wide.traj`)."""


def rigid(matrix: npt.ArrayLike) -> Float64Array:
    """Return the pose (4, 4) of a matrix (4, 4) or (3, 4), its rotation made exactly orthonormal.

    Raises Drop: pose_not_finite (how trackers write that they were lost), pose_not_rigid.
    """
    given = np.asarray(matrix, np.float64)
    if not np.isfinite(given).all():
        raise Drop("pose_not_finite")
    pose = as_rigid(np.vstack([given[:3], given[3:] if len(given) == 4 else [[0.0, 0.0, 0.0, 1.0]]]))
    if pose is None or np.abs(pose[:3, 3]).max() > FARTHEST_M:
        raise Drop("pose_not_rigid", f"{given.tolist()}")
    return pose


def from_quaternion(translation_m: npt.ArrayLike, xyzw: npt.ArrayLike) -> Float64Array:
    """Return the pose (4, 4) of t (3,) and a unit quaternion in TUM's order x, y, z, w; raises Drop as `rigid` does."""
    x, y, z, w = np.asarray(xyzw, np.float64).tolist()
    length = float(np.linalg.norm((x, y, z, w)))
    if np.isfinite(length) and abs(length - 1) > QUATERNION_TOLERANCE:
        raise Drop("pose_not_rigid", f"a quaternion of length {length:.3g}")
    return rigid(pose_from_quaternion((w, x, y, z), translation_m))


def quaternion_of(rotation: npt.ArrayLike) -> Float64Array:
    """Return the unit quaternion (x, y, z, w) of R (3, 3), w >= 0."""
    return np.roll(quaternion_from_rotation(rotation), -1)


def from_axis_angle(axis_angle_rad: npt.ArrayLike, translation_m: npt.ArrayLike) -> Float64Array:
    """Return the pose (4, 4) of a rotation vector (3,) and t (3,); raises Drop as `rigid` does."""
    vector = np.asarray(axis_angle_rad, np.float64)
    angle = float(np.linalg.norm(vector))
    if not np.isfinite(angle):
        raise Drop("pose_not_finite")
    axis = vector / angle if angle > 0 else vector
    return from_quaternion(translation_m, [*(np.sin(angle / 2) * axis), np.cos(angle / 2)])


def matrix_of(numbers: Any) -> Float64Array:
    """Return a matrix (4, 4) or (3, 4) from 16 or 12 numbers in rows, flat or nested; raises Drop: pose_unreadable."""
    try:
        flat = np.asarray(numbers, np.float64).ravel()
    except (TypeError, ValueError, OverflowError) as error:
        raise Drop("pose_unreadable", str(error)) from error
    if flat.size not in (12, 16):
        raise Drop("pose_unreadable", f"{flat.size} numbers, not the 16 of a 4x4 matrix")
    return flat.reshape(-1, 4)


def parse_rows(text: str, columns: int, where: str) -> Float64Array:
    """Return the (n, columns) numbers of a trajectory; blank lines and `#` comments are nothing."""
    rows: list[list[float]] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#", 1)[0].replace(",", " ").split()
        if not words:
            continue
        try:
            rows.append([float(word) for word in words])
        except ValueError as error:
            raise UserError(f"{where}: line {number}: {error}") from error
        if len(words) != columns:
            raise UserError(f"{where}: line {number} has {len(words)} columns, not {columns}")
    return np.array(rows, np.float64).reshape(-1, columns)


def parse_log(text: str, where: str) -> dict[int, Float64Array]:
    """Return the matrices (4, 4) of a Redwood log by their first number: a line of three integers, then four rows."""
    lines = [line.split() for line in text.splitlines() if line.strip()]
    entries: dict[int, Float64Array] = {}
    for first in range(0, len(lines), 5):
        head, rows = lines[first], lines[first + 1 : first + 5]
        try:
            index, matrix = int(head[0]), np.array([[float(word) for word in row] for row in rows], np.float64)
        except ValueError as error:
            raise UserError(f"{where}: entry {first // 5}: {error}") from error
        if len(head) != 3 or matrix.shape != (4, 4):
            raise UserError(f"{where}: entry {first // 5} is not three integers and four rows of four numbers")
        if index in entries:
            raise UserError(f"{where}: frame {index} appears twice")
        entries[index] = matrix
    return entries


def format_matrix(matrix: npt.ArrayLike) -> str:
    """Return a matrix as rows of text, every digit kept."""
    return "".join(" ".join(f"{value:.17g}" for value in row) + "\n" for row in np.asarray(matrix, float).tolist())


def format_tum(poses: Iterable[tuple[str, Float64Array]]) -> str:
    """Return a TUM trajectory of (timestamp, pose) pairs."""
    lines = ["# timestamp tx ty tz qx qy qz qw"]
    for stamp, pose in poses:
        numbers = [*pose[:3, 3].tolist(), *quaternion_of(pose[:3, :3]).tolist()]
        lines.append(" ".join([stamp, *(f"{value:.17g}" for value in numbers)]))
    return "\n".join(lines) + "\n"


def format_log(poses: Mapping[int, Float64Array]) -> str:
    """Return a Redwood log of poses by frame number."""
    return "".join(f"{index} {index} {index + 1}\n{format_matrix(pose)}" for index, pose in poses.items())
