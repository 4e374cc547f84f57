"""Photos with EXIF as cameras write it, made on the spot."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from tests.conftest import photo
from vlm3data.exif import EXIF_IFD, MAKE, MODEL, ORIENTATION


def with_exif(
    camera: dict[int, Any], *, seed: int = 0, size: tuple[int, int] = (160, 120), orientation: int | None = None,
    make: str = "", model: str = "", form: str = "JPEG",
) -> bytes:  # fmt: skip
    """Return a photo of `size` whose EXIF has the tags `camera`, and an orientation where one is given."""
    exif = Image.Exif()
    if orientation is not None:
        exif[ORIENTATION] = orientation
    if make:
        exif[MAKE], exif[MODEL] = make, model
    exif.get_ifd(EXIF_IFD).update(camera)
    file = io.BytesIO()
    Image.open(io.BytesIO(photo(seed, *size))).save(file, form, exif=exif)
    return file.getvalue()


def pixels(encoded: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return the stored pixels."""
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))
