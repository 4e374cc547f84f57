"""What an image file's EXIF says of its camera; every value is taken as a claim, and nonsense as absent.

Tags and their meaning: CIPA DC-008, "Exchangeable image file format for digital still cameras: Exif". Places and
everything else about the photographer are not read.
"""

from __future__ import annotations

import io
import math
import struct
import warnings
from dataclasses import dataclass
from typing import Any

from PIL import Image, UnidentifiedImageError

from vlm3data.types import Drop

MAKE, MODEL, ORIENTATION, EXIF_IFD = 0x010F, 0x0110, 0x0112, 0x8769
FOCAL_LENGTH, FOCAL_LENGTH_35MM, DIGITAL_ZOOM = 0x920A, 0xA405, 0xA404
PIXEL_WIDTH, PIXEL_HEIGHT = 0xA002, 0xA003
PLANE_X, PLANE_Y, PLANE_UNIT = 0xA20E, 0xA20F, 0xA210
MM_OF_UNIT = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}
"""FocalPlaneResolutionUnit: inch, centimetre; some cameras write millimetre or micrometre, beyond the standard."""
UPRIGHT = 1


@dataclass(frozen=True, slots=True)
class Exif:
    """None where the file does not say it, or says something that cannot be."""

    orientation: int = UPRIGHT
    """1 to 8; 5 to 8 swap width and height."""
    make: str = ""
    model: str = ""
    focal_mm: float | None = None
    focal_35mm: float | None = None
    """Of the lens with the same angle of view on 24 x 36 mm film."""
    digital_zoom: float | None = None
    plane_px_per_mm: tuple[float, float] | None = None
    """Pixels on a millimetre of the sensor, x and y."""
    size_px: tuple[int, int] | None = None
    """The picture that the camera wrote."""


def read_exif(encoded: bytes) -> Exif:
    """Return what the EXIF of an image file says. Raises Drop: image_unreadable, image_too_large, exif_unreadable."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of damage; what is damaged is absent here
            with Image.open(io.BytesIO(encoded)) as image:
                tags = image.getexif()
                return _exif(dict(tags), dict(tags.get_ifd(EXIF_IFD)))
    except UnidentifiedImageError as error:
        raise Drop("image_unreadable", str(error)) from error
    except Image.DecompressionBombError as error:
        raise Drop("image_too_large", str(error)) from error
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, EOFError, OverflowError, struct.error) as error:
        raise Drop("exif_unreadable", repr(error)) from error  # what Pillow's parser raises on damaged data


def _exif(tags: dict[int, Any], camera: dict[int, Any]) -> Exif:
    orientation = tags.get(ORIENTATION)
    width, height = _positive(camera.get(PIXEL_WIDTH)), _positive(camera.get(PIXEL_HEIGHT))
    return Exif(
        orientation=orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else UPRIGHT,
        make=_text(tags.get(MAKE)),
        model=_text(tags.get(MODEL)),
        focal_mm=_positive(camera.get(FOCAL_LENGTH)),
        focal_35mm=_positive(camera.get(FOCAL_LENGTH_35MM)),
        digital_zoom=_positive(camera.get(DIGITAL_ZOOM)),
        plane_px_per_mm=_plane(camera),
        size_px=(int(width), int(height)) if width and height and min(width, height) >= 1 else None,
    )


def _plane(camera: dict[int, Any]) -> tuple[float, float] | None:
    x, unit = _positive(camera.get(PLANE_X)), camera.get(PLANE_UNIT, 2)  # an inch, where no unit is given
    y = _positive(camera.get(PLANE_Y)) or x
    if x is None or y is None or unit not in MM_OF_UNIT:
        return None
    return x / MM_OF_UNIT[unit], y / MM_OF_UNIT[unit]


def _positive(value: Any) -> float | None:
    """Return a number that can be a length; None for 0, which means unknown in EXIF, and for nonsense."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) and 0 < number < 1e9 else None


def _text(value: Any) -> str:
    return value.strip("\0 \t\r\n") if isinstance(value, str) else ""
