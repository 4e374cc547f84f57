"""The focal length that the camera itself wrote into the file.

Three ways, the first that a file allows:

- `FocalLengthIn35mmFilm`: the focal length with the same angle of view on 24 x 36 mm film. The angle is that of the
  diagonal (CIPA DCG-001): f_px = f35 * diagonal_px / 43.27 mm. Phones write it so, in whole millimetres.
- `FocalLength` in millimetres, times the pixels per millimetre of `FocalPlaneXResolution` and `...YResolution`.
- `FocalLength`, and the sensor's size by make and model. A picture of another shape than the sensor is taken for a cut
  that keeps the whole width or the whole height.

A resized picture keeps its angles and is allowed for. One that was cut after the camera wrote it is refused where
that shows: its shape is not the one that EXIF records.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import orjson
from pydantic import Field, RootModel, ValidationError

from vlm3data.config import Config, explain, read_yaml
from vlm3data.exif import Exif, read_exif
from vlm3data.types import Calibration, Camera, Drop, UInt8Array, UserError

SENSORS = Path(__file__).with_name("sensors.yaml")
FILM_DIAGONAL_MM = math.hypot(36, 24)
NOMINAL = 0.03
"""1 sigma of an engraved or recorded focal length: rounding by the maker, focusing, the correction of distortion.
A judgement, as is the next."""
CUT_SHAPE = 0.08
"""1 sigma where a picture is neither 4:3 nor 3:2: many cameras then write the equivalent of the uncut sensor."""
SENSOR_SHAPES = (4 / 3, 3 / 2)
SAME_SHAPE = 0.01
AGREE = 1.15
FOCAL_PER_DIAGONAL = (0.15, 30.0)
"""From a fisheye to the longest lenses, as shares of the picture's diagonal; anything beyond is no camera's."""

Millimetres = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Sensors(RootModel[dict[str, dict[str, tuple[Millimetres, Millimetres]]]]):
    """Make, model: width and height."""


class ExifCalibrator:
    """Square pixels, the principal point in the middle, the focal length as the file says."""

    class Options(Config):
        """What a user may set for this method alone."""

        sensors: str = ""
        """YAML file of more sensors: by make and model, spelt as in EXIF, a list of width and height in millimetres."""

    def __init__(self, options: Options) -> None:
        self._sensors = _sensors(str(SENSORS)) | (_sensors(options.sensors) if options.sensors else {})

    def about(self) -> Mapping[str, Any]:
        """Return the digest of the table of sensors."""
        table = orjson.dumps([[*camera, *size] for camera, size in sorted(self._sensors.items())])
        return {"sensors": hashlib.sha256(table).hexdigest()[:16]}

    def calibrate(self, rgb: UInt8Array, encoded: bytes | None) -> Calibration:
        """Return the camera that the file describes; evidence: `from`, the tag that decided, and its value.

        Raises Drop: no_exif_focal, exif_contradicts (the shape of the picture, or two ways more than 15 % apart),
        exif_digital_zoom (without a known sensor: makers differ in whether the 35 mm value includes it),
        exif_implausible_focal, exif_unreadable.
        """
        if encoded is None:
            raise Drop("no_exif_focal", "not an image file")
        exif, (height_px, width_px) = read_exif(encoded), rgb.shape[:2]
        scale = _resized(exif, width_px, height_px)
        found = self._focals_px(exif, width_px, height_px, scale)
        if not found:
            raise Drop("no_exif_focal", f"{exif.make} {exif.model}".strip())
        if max(found.values()) > AGREE * min(found.values()):
            raise Drop("exif_contradicts", ", ".join(f"{way}: {focal_px:.0f} px" for way, focal_px in found.items()))
        way, focal_px = next(iter(found.items()))
        low, high = FOCAL_PER_DIAGONAL
        if not low <= focal_px / math.hypot(width_px, height_px) <= high:
            raise Drop("exif_implausible_focal", f"{way}: {focal_px:.4g} px for {width_px}x{height_px}")
        sigma = _sigma_rel(way, exif, width_px, height_px)
        evidence = {"from": way, "focal_35mm": exif.focal_35mm, "focal_mm": exif.focal_mm}
        return Calibration(Camera.centred(focal_px, width_px, height_px), "exif", sigma, evidence)

    def _focals_px(self, exif: Exif, width_px: int, height_px: int, scale: float | None) -> dict[str, float]:
        """Return the focal length by each way that the file allows, the preferred one first."""
        found: dict[str, float] = {}
        sensor = self._sensors.get((exif.make.lower(), exif.model.lower()))
        zoom = exif.digital_zoom or 1.0
        zoomed = zoom > 1.01
        if zoomed and not (sensor and exif.focal_mm):
            raise Drop("exif_digital_zoom", f"{zoom:g} times, {exif.make} {exif.model}")
        if exif.focal_35mm and not zoomed:
            found["focal_35mm"] = exif.focal_35mm * math.hypot(width_px, height_px) / FILM_DIAGONAL_MM
        if exif.focal_mm and exif.plane_px_per_mm and scale and not zoomed:
            found["focal_plane"] = exif.focal_mm * math.sqrt(math.prod(exif.plane_px_per_mm)) * scale
        if exif.focal_mm and sensor:
            long_px, short_px = max(width_px, height_px), min(width_px, height_px)
            found["sensor"] = exif.focal_mm * zoom * max(long_px / max(sensor), short_px / min(sensor))
        return found


def _resized(exif: Exif, width_px: int, height_px: int) -> float | None:
    """Return by how much the picture was resized since; None where EXIF does not say its size.

    Sides are compared long to long: programs that turn a picture do not always turn what EXIF says of it.
    """
    if exif.size_px is None:
        return None
    long_px, short_px = max(width_px, height_px), min(width_px, height_px)
    wrote_long, wrote_short = max(exif.size_px), min(exif.size_px)
    shape = (long_px / short_px) / (wrote_long / wrote_short)
    if abs(math.log(shape)) > max(SAME_SHAPE, 1 / short_px):  # a small picture's sides are rounded
        raise Drop("exif_contradicts", f"{width_px}x{height_px}, but the camera wrote {wrote_long}x{wrote_short}")
    return long_px / wrote_long


def _sigma_rel(way: str, exif: Exif, width_px: int, height_px: int) -> float:
    if way != "focal_35mm" or exif.focal_35mm is None:
        return NOMINAL
    shape = max(width_px, height_px) / min(width_px, height_px)
    usual = any(abs(shape / known - 1) < 0.02 for known in SENSOR_SHAPES)
    return math.hypot(NOMINAL if usual else CUT_SHAPE, 1 / math.sqrt(12) / exif.focal_35mm)  # whole millimetres


def _sensors(path: str) -> dict[tuple[str, str], tuple[float, float]]:
    try:
        table = Sensors.model_validate(read_yaml(path)).root
    except ValidationError as error:
        raise UserError(f"{explain(error, Sensors, path)}; expected {{make: {{model: [width, height]}}}}") from error
    return {(make.lower(), model.lower()): size for make, models in table.items() for model, size in models.items()}
