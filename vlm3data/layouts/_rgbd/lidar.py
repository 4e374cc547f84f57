"""A depth map as a phone's LiDAR gives it, with ARKit's three levels of confidence (ARConfidenceLevel: 0, 1, 2)."""

from __future__ import annotations

import cv2
import numpy as np

from vlm3data.types import Float32Array, UInt8Array

REACH_M = 5.0
EDGE = 1.05
"""A pixel whose neighbours' depths differ by more lies on an edge."""
_AROUND = np.ones((3, 3), np.uint8)


def lidar(depth_m: Float32Array) -> tuple[Float32Array, UInt8Array]:
    """Return what is measured of the true depth (h, w), NaN out of reach, and how sure it is (h, w).

    0, low: on edges, where the depth is between that of both sides, and where there is none. 1, medium: beside them.
    2, high: elsewhere. What is not low is true.
    """
    known = np.where(depth_m <= REACH_M, depth_m, np.float32(np.nan))
    near_m = cv2.erode(np.nan_to_num(known, nan=REACH_M), _AROUND)
    far_m = cv2.dilate(np.nan_to_num(known, nan=0.0), _AROUND)
    edge = far_m > EDGE * near_m
    measured_m = np.where(edge & np.isfinite(known), (near_m + far_m) / 2, known).astype(np.float32)
    low = edge | np.isnan(known)
    beside = cv2.dilate(low.astype(np.uint8), _AROUND) > 0
    return measured_m, np.where(low, 0, np.where(beside, 1, 2)).astype(np.uint8)
