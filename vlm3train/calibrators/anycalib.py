"""AnyCalib (Tirado-Garín and Civera 2025, arXiv:2503.12701), the method behind VLM3's images without intrinsics.

The package fetches its weights when first used. Used as its README shows; of the image it sees, it reports the
intrinsics in the image's own pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

from vlm3data.config import Config
from vlm3data.types import Calibration, UInt8Array
from vlm3train.calibrators._network import as_tensor, camera_of, device, package

INSTALL = "pip install git+https://github.com/javrtg/AnyCalib"


class AnyCalibCalibrator:
    """fx, fy, cx and cy of a pinhole camera, by a network."""

    class Options(Config):
        """What a user may set for this method alone."""

        model_id: Literal["anycalib_pinhole", "anycalib_gen", "anycalib_dist", "anycalib_edit"] = "anycalib_pinhole"
        """AnyCalib's weights: trained on pinhole, on all, on distorted, or on stretched and cropped images."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._package = package("anycalib", INSTALL)

    def about(self) -> Mapping[str, Any]:
        """Return which weights."""
        return self.options.model_dump(mode="json")

    def calibrate(self, rgb: UInt8Array, encoded: bytes | None) -> Calibration:
        """Return what the network sees; it gives no uncertainty. Raises Drop: calibration_failed.

        AnyCalib's image coordinates have pixel centres at +0.5, as ours have: nothing to convert.
        """
        predicted = self._model.predict(as_tensor(rgb), cam_id="pinhole")
        camera = camera_of(predicted["intrinsics"].tolist(), rgb)
        return Calibration(camera, "anycalib", None, {"model_id": self.options.model_id})

    @cached_property
    def _model(self) -> Any:
        return self._package.AnyCalib(model_id=self.options.model_id).to(device()).eval()
