"""One field of view for every image: for a set from a single known camera, or as the plainest guess."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, model_validator

from vlm3data.config import Config
from vlm3data.types import Calibration, Camera, UInt8Array

Degrees = Annotated[float, Field(gt=0, lt=180)]


class FovCalibrator:
    """Square pixels, the principal point in the middle, the given angle across the image."""

    class Options(Config):
        """Exactly one of the three."""

        hfov_deg: Degrees | None = None
        """Field of view across the width of each image, degrees."""
        vfov_deg: Degrees | None = None
        """Field of view across its height, degrees."""
        dfov_deg: Degrees | None = None
        """Field of view across its diagonal, degrees."""

        @model_validator(mode="after")
        def _one(self) -> FovCalibrator.Options:
            if sum(angle is not None for angle in (self.hfov_deg, self.vfov_deg, self.dfov_deg)) != 1:
                raise ValueError("give exactly one of --hfov-deg, --vfov-deg and --dfov-deg")
            return self

    def __init__(self, options: Options) -> None:
        self.options = options

    def about(self) -> Mapping[str, Any]:
        """Return the angle."""
        return self.options.model_dump(mode="json")

    def calibrate(self, rgb: UInt8Array, encoded: bytes | None) -> Calibration:
        """Return the camera with the given angle; how well that is known only its giver can say."""
        height_px, width_px = rgb.shape[:2]
        extents_px = {"hfov_deg": width_px, "vfov_deg": height_px, "dfov_deg": math.hypot(width_px, height_px)}
        ((name, angle_deg),) = self.options.model_dump(exclude_none=True).items()
        focal_px = extents_px[name] / 2 / math.tan(math.radians(angle_deg) / 2)
        return Calibration(Camera.centred(focal_px, width_px, height_px), "fov", None, {name: angle_deg})
