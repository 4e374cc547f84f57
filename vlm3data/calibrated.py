"""Frames whose source has no intrinsics get the camera that a calibrator estimates from the image."""

from __future__ import annotations

from dataclasses import replace

from vlm3data.contracts import Calibrator
from vlm3data.images import decode_rgb
from vlm3data.types import Calibration, Drop, Frame


def calibrated(frame: Frame, calibrator: Calibrator | None) -> tuple[Frame, Calibration | None]:
    """Return the frame with a camera, and how it came about where that is not the source's own.

    Raises Drop: no_intrinsics without a calibrator, what the calibrator raises where it finds none, and what is wrong
    with the image.
    """
    if frame.camera is not None:
        return frame, None
    image = frame.image()  # a frame that could not be read says here what is wrong with it
    if calibrator is None:
        raise Drop("no_intrinsics", frame.key)
    encoded = image if isinstance(image, bytes) else None
    rgb = decode_rgb(image, frame.size_px, upright=frame.upright) if isinstance(image, bytes) else image
    calibration = calibrator.calibrate(rgb, encoded)
    return replace(frame, camera=calibration.camera, image=lambda: rgb), calibration
