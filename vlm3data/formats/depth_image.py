"""Writing depth maps as 16-bit grey images, PNG or PGM; `depth_file` reads them."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

UInt16Array = npt.NDArray[np.uint16]


def encode_png16(stored: UInt16Array) -> bytes:
    """Return (h, w) values as a 16-bit grey PNG."""
    return cv2.imencode(".png", stored)[1].tobytes()


def encode_pgm16(stored: UInt16Array) -> bytes:
    """Return (h, w) values as a binary 16-bit PGM, which is big-endian."""
    height, width = stored.shape
    return f"P5\n{width} {height}\n65535\n".encode() + stored.astype(">u2").tobytes()
