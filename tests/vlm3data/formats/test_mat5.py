"""MAT-files: as scipy reads and writes them, and nothing that a damaged or hostile one asks for."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from tests.vlm3data.formats.damage import survives
from vlm3data.formats.mat5 import MAX_BYTES, read_struct, write_struct
from vlm3data.types import Drop

RNG = np.random.default_rng(0)
FIELDS = {
    "rgb": RNG.integers(0, 256, (6, 8, 3), np.uint8),
    "depth": RNG.uniform(0.5, 9, (6, 8)),
    "calib": np.array([[559.62, 0, 0], [0, 558.14, 0], [361.87, 241.99, 1]]),
    "mask": RNG.integers(0, 2, (6, 8), np.uint8),
    "small": np.arange(3, dtype=np.int16).reshape(1, 3),
    "single": RNG.uniform(0, 1, (4, 1)).astype(np.float32),
}


def by_scipy(compress: bool, **more: object) -> bytes:
    file = io.BytesIO()
    savemat(file, {"other": np.arange(4.0), "data": FIELDS | more}, do_compression=compress)
    return file.getvalue()


@pytest.mark.parametrize("compress", [False, True])
def test_what_scipy_writes_is_read(compress):
    data = by_scipy(compress, cell=np.array([1, "a"], object), text="some words", empty=np.zeros((0, 7)))
    found = read_struct(data, "data", tuple(FIELDS))
    for name, array in FIELDS.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_scipy_reads_what_is_written():
    data = loadmat(io.BytesIO(write_struct("data", FIELDS)))["data"]
    for name, array in FIELDS.items():
        np.testing.assert_array_equal(data[name][0][0], array)
    assert write_struct("data", FIELDS) == write_struct("data", FIELDS)


def test_the_other_byte_order_is_read():
    def element(kind: int, body: bytes) -> bytes:
        return struct.pack(">II", kind, len(body)) + body + bytes(-len(body) % 8)

    def matrix(number: int, shape: tuple[int, int], name: bytes, rest: bytes) -> bytes:
        head = element(6, struct.pack(">II", number, 0)) + element(5, struct.pack(">2i", *shape)) + element(1, name)
        return element(14, head + rest)

    values = np.arange(6.0).reshape(2, 3)
    field = matrix(6, (2, 3), b"", element(9, values.astype(">f8").tobytes(order="F")))
    names = struct.pack(">HHi", 4, 5, 8) + element(1, b"depth".ljust(8, b"\0"))
    data = b"x".ljust(124) + struct.pack(">H", 0x100) + b"MI" + matrix(2, (1, 1), b"data", names + field)
    np.testing.assert_array_equal(read_struct(data, "data", ("depth",))["depth"], values)


def test_values_stored_in_a_smaller_type_than_their_class_are_read():
    file = io.BytesIO()
    savemat(file, {"data": {"depth": FIELDS["mask"]}})
    data = bytearray(file.getvalue())
    at = data.index(struct.pack("<II", 6, 8), 180) + 8  # the field's array flags: class uint8 becomes double
    assert data[at] == 9
    data[at] = 6
    found = read_struct(bytes(data), "data", ("depth",))["depth"]
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, FIELDS["mask"])


@pytest.mark.parametrize("field", [np.array([1, "a"], object), "text", np.array([1 + 2j]), {"inner": 1.0}])
def test_only_real_numbers_are_ever_made(field):
    with pytest.raises(Drop, match="mat_corrupt: a field is not an array of real numbers"):
        read_struct(by_scipy(True, wanted=field), "data", ("wanted",))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "mat_corrupt"),
        (b"MATLAB 5.0 MAT-file".ljust(128, b"\0"), "mat_corrupt"),
        (b"\x89HDF\r\n\x1a\n".ljust(600, b"\0"), "mat_unsupported"),
        (write_struct("other", FIELDS), "mat_field_missing"),
        (write_struct("data", {"depth": FIELDS["depth"]}), "mat_field_missing"),
        (write_struct("data", FIELDS)[:-20], "mat_corrupt"),
    ],
)
def test_what_is_wrong_is_named(data, reason):
    with pytest.raises(Drop) as caught:
        read_struct(data, "data", tuple(FIELDS))
    assert caught.value.reason == reason


def test_a_small_file_cannot_ask_for_much_memory():
    body = zlib.compress(struct.pack("<II", 14, 2 * MAX_BYTES) + bytes(2 * MAX_BYTES), 1)
    bomb = write_struct("data", {})[:128] + struct.pack("<II", 15, len(body)) + body
    claim = bytearray(by_scipy(False))
    at = claim.index(struct.pack("<II", 9, 8 * 48))
    claim[at + 4 : at + 8] = struct.pack("<I", 2**32 - 8)
    tracemalloc.start()
    for data in (bomb, bytes(claim)):
        with pytest.raises(Drop, match="mat_corrupt"):
            read_struct(data, "data", ("depth",))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.5 * MAX_BYTES


@pytest.mark.parametrize("compress", [False, True])
def test_any_damage_gives_a_refusal_or_numbers(tmp_path, compress):
    def read() -> None:
        found = read_struct(path.read_bytes(), "data", ("rgb", "depth", "calib", "mask"))
        assert {array.dtype.kind for array in found.values()} <= set("uif")

    path = tmp_path / "x.mat"
    assert survives(by_scipy(compress), path, read, seed=int(compress))["refused"] > 10
