"""What the calibrators that are networks share: finding their package, handing an image over."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from vlm3data.types import Camera, Drop, UInt8Array, UserError


def package(name: str, install: str) -> Any:
    """Return the module `name` with torch beside it; a missing one is a mistake that `install` mends."""
    try:
        import_module("torch")
        return import_module(name)
    except ImportError as error:
        raise UserError(f"--calibrator {name} needs the package {name} and PyTorch ({error}): {install}") from error


def device() -> str:
    """Return where networks run: on the GPU, if there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def as_tensor(rgb: UInt8Array) -> Any:
    """Return (3, h, w) float32 in 0..1 on `device()`, which is what both packages take."""
    import torch

    return torch.tensor(rgb).to(device()).permute(2, 0, 1).float() / 255


def camera_of(intrinsics: Sequence[float], rgb: UInt8Array) -> Camera:
    """Return the camera of the image `rgb` with fx, fy, cx, cy. Raises Drop: calibration_failed."""
    fx_px, fy_px, cx_px, cy_px = intrinsics
    try:
        return Camera(fx_px, fy_px, cx_px, cy_px, rgb.shape[1], rgb.shape[0])
    except ValueError as error:
        raise Drop("calibration_failed", str(error)) from error
