"""Depth maps stored as 16-bit grey images: PNG, or PGM, whose 16-bit values are big-endian."""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from vlm3data.types import Drop

UInt16Array = npt.NDArray[np.uint16]


def decode_depth_image(data: bytes, size_px: tuple[int, int]) -> UInt16Array:
    """Return the stored values (h, w) of a 16-bit grey PNG or PGM.

    `size_px` is the (width, height) that is expected: another size is refused from the header.
    Raises Drop: depth_size_mismatch, corrupt_depth.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "PPM")) as image:
            if image.size != size_px:
                raise Drop("depth_size_mismatch", f"depth {image.size}, expected {size_px}")
            if not image.mode.startswith("I"):
                raise Drop("corrupt_depth", f"a depth map of mode {image.mode}, not 16-bit grey")
            values = np.asarray(image)
    # What Pillow's decoders raise on damaged data.
    except (OSError, SyntaxError, ValueError, IndexError, EOFError, struct.error, zlib.error) as error:
        raise Drop("corrupt_depth", str(error)) from error
    except Image.DecompressionBombError as error:
        raise Drop("corrupt_depth", str(error)) from error
    if values.min() < 0 or values.max() > np.iinfo(np.uint16).max:
        raise Drop("corrupt_depth", "values beyond 16 bits")
    return values.astype(np.uint16)


def encode_png16(stored: UInt16Array) -> bytes:
    """Return (h, w) values as a 16-bit grey PNG."""
    return cv2.imencode(".png", stored)[1].tobytes()


def encode_pgm16(stored: UInt16Array) -> bytes:
    """Return (h, w) values as a binary 16-bit PGM."""
    height, width = stored.shape
    return f"P5\n{width} {height}\n65535\n".encode() + stored.astype(">u2").tobytes()
