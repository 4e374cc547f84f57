"""The focal length from the vanishing points of straight edges: rooms, streets, halls; no network, no weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from vlm3data.config import Config
from vlm3data.geometry.manhattan import Manhattan, focal_from_segments
from vlm3data.randomness import rng_for
from vlm3data.types import Calibration, Camera, Drop, Float64Array, UInt8Array

WORK_PX = 800
MIN_LENGTH = 0.035
"""Of the diagonal: shorter edges point anywhere."""
MAX_SEGMENTS = 200
MIN_SEGMENTS = 12
MIN_SHARE = 0.6
"""Of all edges' length: less is what chance explains, or a scene without right angles."""
MIN_COUNTS = (4, 4, 3)
"""Edges at each vanishing point; two points alone fit much that is no Manhattan world."""
MAX_SIGMA_REL = 0.15


class VanishingCalibrator:
    """Square pixels, the principal point in the middle, the focal length from edges at right angles."""

    class Options(Config):
        """Nothing to set."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def about(self) -> Mapping[str, Any]:
        """Return the version of the method: raised when it begins to give other estimates."""
        return {"version": 1}

    def calibrate(self, rgb: UInt8Array, encoded: bytes | None) -> Calibration:
        """Return the camera; evidence: `segments`, their `share` explained, and `counts` by vanishing point.

        Raises Drop: no_vanishing_points, where the edges do not tell the focal length to 15 %.
        """
        height_px, width_px = rgb.shape[:2]
        segments_px = straight_edges(rgb)
        found: Manhattan | None = None
        if len(segments_px) >= MIN_SEGMENTS:
            half_px = math.hypot(width_px, height_px) / 2
            rng = rng_for(0, "vanishing")
            found = focal_from_segments(segments_px, (width_px / 2, height_px / 2), half_px, rng)
        if found is None or not supported(found):
            raise Drop("no_vanishing_points", f"{len(segments_px)} edges: {found}")
        evidence = {"segments": len(segments_px), "share": round(found.share, 3), "counts": list(found.counts)}
        camera = Camera.centred(found.focal_px, width_px, height_px)
        return Calibration(camera, "vanishing", found.focal_sigma_rel, evidence)


def supported(found: Manhattan) -> bool:
    """Tell whether the evidence is enough to answer at all."""
    enough = all(count >= least for count, least in zip(found.counts, MIN_COUNTS, strict=True))
    return enough and found.focal_sigma_rel <= MAX_SIGMA_REL and found.share >= MIN_SHARE


def straight_edges(rgb: UInt8Array) -> Float64Array:
    """Return the longest straight edges, (n, 4) [x1, y1, x2, y2] in continuous pixels of the image.

    Found in an image shrunk to `WORK_PX`: finer edges are texture.
    """
    height_px, width_px = rgb.shape[:2]
    scale = min(1.0, WORK_PX / max(height_px, width_px))
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    if scale < 1:
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    lines: Any = cv2.createLineSegmentDetector(cv2.LSD_REFINE_STD).detect(grey)[0]  # its stub knows of no None
    if lines is None:
        return np.empty((0, 4))
    # OpenCV puts integers on pixel centres.
    ends = (lines.reshape(-1, 4).astype(np.float64) + 0.5) * np.tile(
        [width_px / grey.shape[1], height_px / grey.shape[0]], 2
    )
    length = np.hypot(ends[:, 2] - ends[:, 0], ends[:, 3] - ends[:, 1])
    long = np.flatnonzero(length > MIN_LENGTH * math.hypot(width_px, height_px))
    return ends[long[np.argsort(-length[long], kind="stable")][:MAX_SEGMENTS]]
