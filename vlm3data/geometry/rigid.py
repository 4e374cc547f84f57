"""Telling a rigid transform from a damaged one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vlm3data.types import Float64Array

RIGID_TOLERANCE = 1e-3
"""How far any element of R Rᵀ may be from the identity: a file with six decimals stays under 1e-5, a chain of
float32 products under 1e-4; a scale of 1.001 does not pass."""


def as_rigid(matrix: npt.ArrayLike) -> Float64Array | None:
    """Return (4, 4) with the rotation that is nearest to that of `matrix` (by SVD), None where there is none near.

    None for what is not finite, a scale, a shear, a mirror image, a last row other than 0 0 0 1.
    """
    pose = np.array(matrix, np.float64)
    if not np.isfinite(pose).all() or np.abs(pose[3] - (0, 0, 0, 1)).max() > RIGID_TOLERANCE:
        return None
    rotation = pose[:3, :3]
    with np.errstate(over="ignore", invalid="ignore"):
        if not np.abs(rotation @ rotation.T - np.eye(3)).max() <= RIGID_TOLERANCE or np.linalg.det(rotation) < 0:
            return None
    left, _, right = np.linalg.svd(rotation)
    rigid = np.eye(4)
    rigid[:3, :3] = left @ right
    rigid[:3, 3] = pose[:3, 3]
    return rigid
