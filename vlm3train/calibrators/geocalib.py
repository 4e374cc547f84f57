"""GeoCalib (Veicht et al., ECCV 2024, arXiv:2409.06704): the focal length, with its own uncertainty.

The package fetches its weights when first used. Used as its README shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from vlm3data.config import Config
from vlm3data.types import Calibration, UInt8Array
from vlm3train.calibrators._network import as_tensor, camera_of, device, package

INSTALL = "pip install git+https://github.com/cvg/GeoCalib"


class GeoCalibCalibrator:
    """fx and fy of a pinhole camera, by a network and an optimisation; the principal point in the middle."""

    class Options(Config):
        """Nothing to set."""

    def __init__(self, options: Options) -> None:
        self._package = package("geocalib", INSTALL)

    def about(self) -> Mapping[str, Any]:
        """Return which weights."""
        return {"weights": "pinhole"}

    def calibrate(self, rgb: UInt8Array, encoded: bytes | None) -> Calibration:
        """Return what the network sees. Raises Drop: calibration_failed.

        GeoCalib puts the principal point in the middle of the image, (w/2, h/2) in its coordinates and in ours; its
        own pixel grid is half a pixel off ours, far below what it can tell. Its uncertainty is that of fy in pixels,
        half the square root of its optimisation's variance, and so doubled here; 0 where it has none.
        """
        result = self._model.calibrate(as_tensor(rgb))
        found = result["camera"]
        camera = camera_of([*found.f[0].tolist(), *found.c[0].tolist()], rgb)
        sigma_px = 2 * float(result["focal_uncertainty"].flatten()[0])
        known = 0 < sigma_px < float("inf")
        return Calibration(camera, "geocalib", sigma_px / camera.fy_px if known else None, {"weights": "pinhole"})

    @cached_property
    def _model(self) -> Any:
        return self._package.GeoCalib(weights="pinhole").to(device()).eval()
