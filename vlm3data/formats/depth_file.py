"""A depth or confidence map in whatever file an RGB-D folder holds: PNG or TIFF, PGM, NPY (never pickled).

Sizes are read from headers and held against what is expected, and against the file's length where it is not
compressed, before anything is allocated.
"""

from __future__ import annotations

import io
import re
import struct
import zlib

import numpy as np
import numpy.typing as npt
from PIL import Image

from vlm3data.types import Drop

MAX_PX = 1 << 25
"""Pixels of one map: more than any sensor gives, and little enough for memory."""

_PGM = re.compile(rb"P5(?:\s+#[^\n]*\n)*\s+(\d{1,9})\s+(?:#[^\n]*\n\s*)*(\d{1,9})\s+(?:#[^\n]*\n\s*)*(\d{1,9})\s")
_NPY = b"\x93NUMPY"
# As numpy itself writes it: its reader takes anything that is a Python literal.
_NPY_HEADER = re.compile(
    rb"\{'descr': '([<>|]?[uif][1248])', 'fortran_order': False, 'shape': \((\d{1,9}), (\d{1,9})\), \}\s*"
)
# What Pillow's decoders raise on damaged data.
_DAMAGE = (
    OSError, SyntaxError, ValueError, TypeError, IndexError, KeyError, EOFError, OverflowError, ZeroDivisionError,
    struct.error, zlib.error,
)  # fmt: skip


def depth_size_px(data: bytes) -> tuple[int, int]:
    """Return (width, height) of an encoded depth map from its header; raises Drop: corrupt_depth."""
    if data.startswith(b"P5"):
        return _pgm_header(data)[0]
    if data.startswith(_NPY):
        (height, width), _, _ = _npy_header(data)
        return width, height
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "TIFF")) as image:
            return image.size
    except (*_DAMAGE, Image.DecompressionBombError) as error:
        raise Drop("corrupt_depth", str(error)) from error


def decode_depth_file(data: bytes, size_px: tuple[int, int]) -> npt.NDArray[np.number]:
    """Return the stored values (h, w), whole numbers or floats, of a map that must be of `size_px` (width, height).

    Raises Drop: depth_size_mismatch, corrupt_depth.
    """
    _check_size(data, size_px)
    if data.startswith(b"P5"):
        return _pgm(data)
    values = _npy(data) if data.startswith(_NPY) else _pillow(data, "16-bit or float values", ("I", "F"))
    if values.itemsize == 1:
        raise Drop("corrupt_depth", f"values of {values.dtype}, which are no depths")
    return values


def decode_confidence_file(data: bytes, size_px: tuple[int, int]) -> npt.NDArray[np.number]:
    """Return the stored values (h, w) of a confidence map, which must be of its depth map's `size_px` (width, height).

    Of 8 bits too, but no picture: palettes and colours are refused. Raises Drop: confidence_size_mismatch,
    corrupt_confidence.
    """
    try:
        _check_size(data, size_px)
        return _npy(data) if data.startswith(_NPY) else _pillow(data, "one value a pixel", ("L", "I", "F"))
    except Drop as drop:
        raise Drop(drop.reason.replace("depth", "confidence"), drop.detail) from drop


def _check_size(data: bytes, size_px: tuple[int, int]) -> None:
    found = depth_size_px(data)
    if found != size_px:
        raise Drop("depth_size_mismatch", f"{found[0]}x{found[1]} pixels, expected {size_px[0]}x{size_px[1]}")
    if found[0] * found[1] > MAX_PX:
        raise Drop("corrupt_depth", f"a map of {found[0]}x{found[1]} pixels")


def _pillow(data: bytes, what: str, modes: tuple[str, ...]) -> npt.NDArray[np.number]:
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "TIFF")) as image:
            if image.mode[:1] not in modes or image.mode == "LA":  # 8 bits are a picture of a depth map, not one
                raise Drop("corrupt_depth", f"an image of mode {image.mode}, not of {what}")
            return np.asarray(image)
    except (*_DAMAGE, Image.DecompressionBombError) as error:
        raise Drop("corrupt_depth", str(error)) from error


def _pgm_header(data: bytes) -> tuple[tuple[int, int], int, int]:
    """Return the size, the largest value and where the pixels begin."""
    match = _PGM.match(data[:4096])
    if match is None:
        raise Drop("corrupt_depth", "not a binary PGM")
    width, height, largest = (int(word) for word in match.groups())
    if not (width and height and 0 < largest < 65536):
        raise Drop("corrupt_depth", f"a PGM of {width}x{height} pixels up to {largest}")
    return (width, height), largest, match.end()


def _pgm(data: bytes) -> npt.NDArray[np.number]:
    (width, height), largest, start = _pgm_header(data)
    if largest < 256:
        raise Drop("corrupt_depth", "a PGM of 8 bits is a picture of a depth map, not one")
    if len(data) - start < 2 * width * height:
        raise Drop("corrupt_depth", "the file ends inside the pixels")
    return np.frombuffer(data, ">u2", width * height, start).reshape(height, width).astype(np.uint16)


def _npy_header(data: bytes) -> tuple[tuple[int, int], np.dtype[np.number], int]:
    """Return the shape, the type and where the values begin, of a two-dimensional array in C order."""
    length, start = (2, 10) if data[6:7] == b"\x01" else (4, 12)
    size = int.from_bytes(data[8 : 8 + length], "little")
    match = _NPY_HEADER.fullmatch(data[start : start + size]) if size < 4096 else None
    if match is None:
        raise Drop("corrupt_depth", "not an NPY file of a two-dimensional array of numbers, row by row")
    return (int(match[2]), int(match[3])), np.dtype(match[1].decode()), start + size


def _npy(data: bytes) -> npt.NDArray[np.number]:
    (height, width), dtype, start = _npy_header(data)
    if len(data) - start < height * width * dtype.itemsize:
        raise Drop("corrupt_depth", "the file ends inside the values")
    return np.frombuffer(data, dtype, height * width, start).reshape(height, width)
