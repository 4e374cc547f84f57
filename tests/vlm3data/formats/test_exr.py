"""EXR depth maps: exact for what half floats can say, refused where anything is amiss."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.vlm3data.formats.damage import CASES, survives
from vlm3data.formats.exr import HEADER_BYTES, decode_exr, encode_exr, exr_size_px
from vlm3data.types import Drop

OPENEXR = zlib.decompress(
    base64.b85decode(
        b"c-kw|H)LdDU|>kjNX*Mi%_#;lax#lc7=(dhkqnFs5Won<49WSq1x2aF#hLkeC~S}<b4p@KVt8g=N`5&*QhtR|CW8P20!RU|AP}cy78m3s"
        b"RuWW~lbM(5UzCzsgv0_np&+v&HOH~IAT_xpD6u3npCK(LKe2>?1+2TlzBsukH8l@nymM+^2~b;^Q5pjWk`>5G!ZTA!GSG}DsVqokC@v|=%u"
        b"8qB1*=cY134lyH!(ex!3i2DWsC?Db%3}cE;*xtiH(O%h9`XGLXK|-C43Ez$w?f}oZ+?cfP|R=n|V*7<%^{Z!n@~R2YFZos%HVmjRO*Q4BAx"
        b"lG#O;wjZXjom)c|y"
    )
)
"""[[1.5, 2.25, inf], [0, -1, 7]] as half floats, each value 9x9 times, ZIP: written by OpenEXR's own library."""
VALUES = np.array([[1.5, 2.25, np.inf], [0, -1, 7]], np.float32).repeat(9, 0).repeat(9, 1)


def test_a_file_by_openexr_itself_is_read():
    assert exr_size_px(OPENEXR) == (27, 18)
    np.testing.assert_array_equal(decode_exr(OPENEXR, (27, 18)), VALUES)
    np.testing.assert_array_equal(decode_exr(encode_exr(VALUES), (27, 18)), VALUES)


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.float16, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_the_round_trip_is_exact(values):
    data = encode_exr(values.astype(np.float32))
    assert exr_size_px(data[:HEADER_BYTES]) == values.shape[::-1]
    np.testing.assert_array_equal(decode_exr(data, values.shape[::-1]), values.astype(np.float32))


@given(st.integers(1, 70), st.integers(1, 70))
@settings(max_examples=30, deadline=None)
def test_smooth_maps_are_packed_and_read_too(height, width):
    values = np.linspace(1, 2, height * width).reshape(height, width).astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(decode_exr(encode_exr(values), (width, height)), values)


def test_the_table_says_where_each_sixteen_rows_begin_as_other_readers_need_it():
    data = encode_exr(np.arange(40.0 * 5, dtype=np.float32).reshape(40, 5))
    (table,) = (at for at in range(len(data) - 24) if struct.unpack_from("<Q", data, at)[0] == at + 3 * 8)
    starts = struct.unpack_from("<3Q", data, table)
    heads = [struct.unpack_from("<ii", data, start) for start in starts]
    assert [row for row, _ in heads] == [0, 16, 32]
    ends = [start + 8 + size for start, (_, size) in zip(starts, heads, strict=True)]
    assert ends == [*starts[1:], len(data)]


def single(values: np.ndarray, compression: int, first_row: int = 0) -> bytes:
    """Return single floats, one row a chunk, whole (0) or by ZIPS (2), in a window that begins at `first_row`."""
    height, width = values.shape
    window = struct.pack("<4i", 0, first_row, width - 1, first_row + height - 1)
    attributes = [
        ("channels", b"Z\0" + struct.pack("<iIii", 2, 0, 1, 1) + b"\0"),
        ("compression", bytes([compression])),
        ("dataWindow", window),
    ]
    head = b"\x76\x2f\x31\x01\x02\0\0\0"
    head += b"".join(f"{name}\0x\0".encode() + struct.pack("<i", len(body)) + body for name, body in attributes) + b"\0"
    bodies = []
    for row in values.astype("<f4"):
        plain = np.frombuffer(row.tobytes(), np.uint8)
        halves = np.concatenate([plain[::2], plain[1::2]]).astype(int)
        steps = np.diff(halves, prepend=halves[0] * 0) + np.array([0] + [128] * (len(halves) - 1))
        packed = zlib.compress((steps % 256).astype(np.uint8).tobytes())
        bodies.append(packed if compression and len(packed) < len(plain) else plain.tobytes())
    chunks = [struct.pack("<ii", first_row + row, len(body)) + body for row, body in enumerate(bodies)]
    starts = len(head) + 8 * height + np.cumsum([0, *map(len, chunks)])[:-1]
    return head + struct.pack(f"<{height}Q", *starts.tolist()) + b"".join(chunks)


@pytest.mark.parametrize("compression", [0, 2])
def test_single_floats_row_by_row_are_read(compression):
    values = np.round(np.random.default_rng(0).uniform(0, 9, (7, 200)) * 4).astype(np.float32) / 4
    np.testing.assert_array_equal(decode_exr(single(values, compression, first_row=-3), (200, 7)), values)


def refused(data: bytes, size_px: tuple[int, int] = (27, 18)) -> Drop:
    with pytest.raises(Drop) as caught:
        decode_exr(data, size_px)
    assert "\n" not in str(caught.value)
    return caught.value


def test_another_size_is_told_from_the_header():
    assert refused(OPENEXR, (18, 27)).reason == "depth_size_mismatch"
    huge = OPENEXR.replace(struct.pack("<4i", 0, 0, 26, 17), struct.pack("<4i", 0, 0, 2**30, 2**30))
    assert "pixels" in refused(huge, (2**30 + 1, 2**30 + 1)).detail
    inside_out = OPENEXR.replace(struct.pack("<4i", 0, 0, 26, 17), struct.pack("<4i", 26, 17, 0, 0))
    assert refused(inside_out).reason == "corrupt_depth"


@pytest.mark.parametrize("flag", [0x200, 0x400, 0x800, 0x1000])
def test_tiles_and_parts_are_refused(flag):
    assert "one part" in refused(OPENEXR[:4] + struct.pack("<I", 2 | flag) + OPENEXR[8:]).detail


def test_lossy_compression_and_more_channels_are_refused():
    at = OPENEXR.index(b"compression\0compression\0") + 28
    for number in (1, 4, 5, 6, 7, 8, 9, 255):
        assert "compression" in refused(OPENEXR[:at] + bytes([number]) + OPENEXR[at + 1 :]).detail
    assert "channel" in refused(OPENEXR.replace(b"Y\0\1\0\0\0", b"Y\0\0\0\0\0")).detail


def test_a_file_that_ends_early_or_a_row_that_is_damaged_is_refused_whole():
    """OpenEXR's own module gives such a file back with zeros in it."""
    for length in (0, 7, 50, 300, 330, len(OPENEXR) - 1):
        assert refused(OPENEXR[:length]).reason == "corrupt_depth"
    for at in range(len(OPENEXR) - 30, len(OPENEXR)):
        flipped = OPENEXR[:at] + bytes([OPENEXR[at] ^ 1]) + OPENEXR[at + 1 :]
        assert refused(flipped).reason == "corrupt_depth"


def test_damaged_files_end_in_a_result_or_in_a_drop(tmp_path):
    path = tmp_path / "damaged.exr"
    values = np.random.default_rng(0).uniform(0, 9, (40, 31)).astype(np.float32)
    for good in (encode_exr(values), single(values, 2), OPENEXR):
        survives(good, path, lambda: decode_exr(path.read_bytes(), exr_size_px(path.read_bytes())), CASES // 2)
