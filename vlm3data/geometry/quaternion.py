"""Rotations from unit quaternions in the order w, x, y, z."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vlm3data.types import Float64Array


def rotation_from_quaternion(wxyz: npt.ArrayLike) -> Float64Array:
    """Return the rotations (..., 3, 3) of quaternions (..., 4), which are normalised first."""
    q = np.asarray(wxyz, float)
    w, x, y, z = np.moveaxis(q / np.linalg.norm(q, axis=-1, keepdims=True), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def pose_from_quaternion(wxyz: npt.ArrayLike, translation_m: npt.ArrayLike) -> Float64Array:
    """Return the poses (..., 4, 4) with these rotations (..., 4) and translations (..., 3)."""
    rotation = rotation_from_quaternion(wxyz)
    pose = np.zeros((*rotation.shape[:-2], 4, 4))
    pose[..., :3, :3] = rotation
    pose[..., :3, 3] = translation_m
    pose[..., 3, 3] = 1.0
    return pose


def quaternion_from_rotation(rotation: npt.ArrayLike) -> Float64Array:
    """Return the unit quaternion (4,) of a rotation (3, 3), w >= 0; undoes `rotation_from_quaternion`.

    It is the eigenvector of the largest eigenvalue of Bar-Itzhack's matrix (2000), exact at every angle.
    """
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = np.asarray(rotation, float).tolist()
    symmetric = np.array(
        [
            [xx + yy + zz, zy - yz, xz - zx, yx - xy],
            [zy - yz, xx - yy - zz, xy + yx, xz + zx],
            [xz - zx, xy + yx, yy - xx - zz, yz + zy],
            [yx - xy, xz + zx, yz + zy, zz - xx - yy],
        ]
    )
    quaternion = np.linalg.eigh(symmetric)[1][:, -1]
    return -quaternion if quaternion[0] < 0 else quaternion
