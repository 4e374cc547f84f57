"""Decoding and encoding images; what cannot be decoded whole is dropped by name, never patched up."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

from vlm3data.exif import UPRIGHT, read_exif
from vlm3data.types import MAX_IMAGE_PX, Drop, UInt8Array

EIGHT_BIT_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}
JPEG_MAGIC = b"\xff\xd8"
TURNED: dict[int, Callable[[UInt8Array], UInt8Array]] = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: np.rot90(stored),
}
"""What turns the stored pixels upright, by EXIF orientation (CIPA DC-008)."""


def decode_rgb(data: bytes, size_px: tuple[int, int] | None = None, *, upright: bool = False) -> UInt8Array:
    """Return (h, w, 3) RGB of an encoded image: its pixels as stored, or turned as its EXIF orientation says.

    `size_px` is the (width, height) that the camera claims: another size is refused from the header, before
    anything is decoded. Raises Drop: image_unreadable, image_truncated, image_corrupt,
    image_too_large, image_size_mismatch, image_mode_unsupported; with `upright` also exif_unreadable.
    """
    turn = read_exif(data).orientation if upright else UPRIGHT
    if size_px is not None and turn >= 5:  # stored on its side
        size_px = size_px[1], size_px[0]
    stored = _decode_jpeg(data, size_px) if data[:2] == JPEG_MAGIC else _decode_other(data, size_px)
    return np.ascontiguousarray(TURNED[turn](stored))


def is_upright_jpeg(data: bytes, *, upright: bool) -> bool:
    """Tell whether `data` is a JPEG whose pixels, as stored, are those that `decode_rgb` gives."""
    return data[:2] == JPEG_MAGIC and not (upright and read_exif(data).orientation != UPRIGHT)


def encode_jpeg(image: UInt8Array, quality: int) -> bytes:
    """Return `image` as a baseline JPEG with 4:2:0 chroma."""
    return simplejpeg.encode_jpeg(image, quality, colorspace="RGB", colorsubsampling="420")


def _decode_jpeg(data: bytes, size_px: tuple[int, int] | None) -> UInt8Array:
    try:
        height_px, width_px = (int(size) for size in simplejpeg.decode_jpeg_header(data)[:2])
    except ValueError as error:
        raise Drop("image_unreadable", str(error)) from error
    _check_size((width_px, height_px), size_px)
    try:
        return simplejpeg.decode_jpeg(data, colorspace="RGB", strict=True)
    except ValueError as error:
        reason = "image_truncated" if "remature end" in str(error) else "image_corrupt"
        raise Drop(reason, str(error)) from error


def _decode_other(data: bytes, size_px: tuple[int, int] | None) -> UInt8Array:
    try:
        with Image.open(io.BytesIO(data)) as image:
            _check_size(image.size, size_px)
            if image.mode not in EIGHT_BIT_MODES:  # Pillow would clip 16-bit grey to white
                raise Drop("image_mode_unsupported", image.mode)
            return np.asarray(image.convert("RGB"))
    except UnidentifiedImageError as error:
        raise Drop("image_unreadable", str(error)) from error
    except Image.DecompressionBombError as error:
        raise Drop("image_too_large", str(error)) from error
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow's decoders raise on damaged data
        raise Drop("image_truncated", str(error)) from error


def _check_size(found_px: tuple[int, int], claimed_px: tuple[int, int] | None) -> None:
    if found_px[0] * found_px[1] > MAX_IMAGE_PX:
        raise Drop("image_too_large", f"{found_px[0]}x{found_px[1]} pixels")
    if claimed_px is not None and tuple(found_px) != tuple(claimed_px):
        raise Drop("image_size_mismatch", f"image {found_px}, intrinsics {claimed_px}")
