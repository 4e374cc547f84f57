"""Depth maps: stored values come back as they were, and damage is a named drop."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.vlm3data.formats.damage import survives
from vlm3data.formats.depth_file import decode_confidence_file, decode_depth_file, depth_size_px
from vlm3data.formats.depth_image import encode_pgm16, encode_png16
from vlm3data.types import Drop

STORED = np.random.default_rng(0).integers(0, 65536, (24, 32)).astype(np.uint16)


def npy2(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=(2, 0))
    return file.getvalue()


def npy(array: np.ndarray, **options: bool) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def tiff(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "TIFF")
    return file.getvalue()


FILES = {
    "png": encode_png16(STORED),
    "pgm": encode_pgm16(STORED),
    "npy": npy(STORED),
    "npy of version 2": npy2(STORED),
    "tiff": tiff(STORED),
    "float npy": npy(STORED / np.float32(1000)),
    "float tiff": tiff(STORED / np.float32(1000)),
}


@pytest.mark.parametrize("kind", FILES)
def test_stored_values_come_back(kind):
    expected = STORED / np.float32(1000) if "float" in kind else STORED
    np.testing.assert_array_equal(decode_depth_file(FILES[kind], (32, 24)), expected)
    assert depth_size_px(FILES[kind]) == (32, 24)


@pytest.mark.parametrize("kind", FILES)
def test_another_size_is_refused(kind):
    with pytest.raises(Drop, match="depth_size_mismatch: 32x24 pixels, expected 24x32"):
        decode_depth_file(FILES[kind], (24, 32))


def test_a_pgm_that_does_not_go_to_65535_is_not_stretched():
    small = (STORED % 10000).astype(np.uint16)
    data = encode_pgm16(small).replace(b"\n65535\n", b"\n# a comment\n9999\n")
    np.testing.assert_array_equal(decode_depth_file(data, (32, 24)), small)


LEVELS = (STORED % 3).astype(np.uint8)
PICTURES = {"colours": Image.fromarray(LEVELS).convert("RGB"), "palette": Image.fromarray(LEVELS).convert("P")}


@pytest.mark.parametrize("data", [tiff(LEVELS), npy(LEVELS), encode_png16(LEVELS.astype(np.uint16))])
def test_levels_of_confidence_come_back(data):
    np.testing.assert_array_equal(decode_confidence_file(data, (32, 24)), LEVELS)
    with pytest.raises(Drop, match="confidence_size_mismatch: 32x24 pixels, expected 16x24"):
        decode_confidence_file(data, (16, 24))
    with pytest.raises(Drop, match="corrupt_confidence"):
        decode_confidence_file(data[: len(data) // 2], (32, 24))


@pytest.mark.parametrize("kind", PICTURES)
def test_a_picture_of_confidence_is_no_confidence(kind):
    file = io.BytesIO()
    PICTURES[kind].save(file, "PNG")
    with pytest.raises(Drop, match="corrupt_confidence"):
        decode_confidence_file(file.getvalue(), (32, 24))


def png_header(width: int, height: int) -> bytes:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


def fake_npy(header: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + bytes(64)


BAD = {
    "empty": b"",
    "truncated png": FILES["png"][: len(FILES["png"]) // 2],
    "png header alone": png_header(32, 24),
    "8 bits": tiff(STORED.astype(np.uint8)),
    "8 bit npy": npy(STORED.astype(np.uint8)),
    "8 bit pgm": b"P5\n32 24\n255\n" + bytes(32 * 24),
    "8 bit pgm with more behind it": b"P5\n32 24\n255\n" + bytes(2 * 32 * 24),
    "ascii pgm": b"P2\n32 24\n65535\n" + b"1 " * 768,
    "short pgm": FILES["pgm"][:-1],
    "pickled npy": npy(STORED.astype(object), allow_pickle=True),
    "npy of another rank": npy(STORED[None]),
    "fortran npy": npy(np.asfortranarray(STORED)),
    "npy of text": npy(STORED.astype("U5")),
    "short npy": FILES["npy"][:-1],
    "npy header that is code": fake_npy("__import__('os').getcwd()\n"),
    "jpeg": b"\xff\xd8\xff\xe0" + bytes(64),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_depth_map_is_dropped(kind):
    with pytest.raises(Drop, match="corrupt_depth"):
        decode_depth_file(BAD[kind], (32, 24))


def test_a_header_cannot_ask_for_much_memory():
    big = (60000, 50000)
    claims = [
        png_header(*big),
        b"P5 60000 50000 65535\n" + bytes(64),
        fake_npy("{'descr': '<f8', 'fortran_order': False, 'shape': (50000, 60000)}\n"),
    ]
    tracemalloc.start()
    for data in claims:
        with pytest.raises(Drop, match="corrupt_depth"):
            decode_depth_file(data, big)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000


@pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")
@pytest.mark.parametrize("kind", FILES)
def test_any_damage_gives_a_refusal_or_a_map(tmp_path, kind):
    def read() -> None:
        values = decode_depth_file(path.read_bytes(), (32, 24))
        assert values.shape == (24, 32)
        assert values.dtype.kind in "uif"

    path = tmp_path / "x"
    assert survives(FILES[kind], path, read, seed=len(kind))["refused"] > 10
