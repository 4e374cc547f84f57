"""`.sens` files: round trips, the real frames bit for bit, damage of every kind."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image

from tests.conftest import needs_realdata, photo
from tests.vlm3data.formats.damage import survives
from vlm3data.formats.sens import SensHeader, read_color, read_depth, read_header, walk, write_sens
from vlm3data.storage import open_store
from vlm3data.types import Drop, UserError

WIDTH, HEIGHT = 40, 30
POSES = [np.eye(4) + np.pad(np.full((3, 1), i), ((0, 1), (3, 0))) for i in range(5)]
FRAME_BYTES = 96


def header(**changes) -> SensHeader:
    rng = np.random.default_rng(1)
    matrices = rng.normal(size=(4, 4, 4)).astype(np.float32)
    about = {
        "color_compression": "jpeg",
        "depth_compression": "zlib_ushort",
        "color_size_px": (WIDTH, HEIGHT),
        "depth_size_px": (WIDTH // 2, HEIGHT // 2),
        "depth_shift": 1000.0,
        "num_frames": len(POSES),
    }
    return SensHeader("Sensor å", *matrices, **(about | changes))


def depth(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 65536, (HEIGHT // 2, WIDTH // 2)).astype(np.uint16)


def color(seed: int, compression: str = "jpeg") -> bytes | np.ndarray:
    jpeg = photo(seed, WIDTH, HEIGHT)
    if compression == "jpeg":
        return jpeg
    pixels = np.asarray(Image.open(io.BytesIO(jpeg)))
    if compression == "raw":
        return pixels
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write(path: Path, about: SensHeader, num: int = len(POSES)) -> Path:
    with path.open("wb") as file:
        frames = ((POSES[i], color(i, about.color_compression), depth(i)) for i in range(num))
        write_sens(file, about, frames)
    return path


def read_all(path: str | Path) -> list[object]:
    """Read everything that can be read of a file; a frame's fault stands in the frame's place."""
    fs, name = open_store(str(path))
    about = read_header(fs, name)
    found: list[object] = []
    for frame in walk(fs, name, about):
        for read in (read_color, read_depth):
            try:
                found.append(read(fs, name, about, frame))
            except Drop as drop:
                found.append(drop.reason)
    return found


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return write(tmp_path / "scan.sens", header())


@pytest.mark.parametrize("color_compression", ["jpeg", "png", "raw"])
@pytest.mark.parametrize("depth_compression", ["zlib_ushort", "raw_ushort"])
def test_what_is_written_is_read(tmp_path, color_compression, depth_compression):
    about = header(color_compression=color_compression, depth_compression=depth_compression)
    path = write(tmp_path / "scan.sens", about)
    fs, name = open_store(str(path))
    found = read_header(fs, name)
    for key in SensHeader.__slots__:
        np.testing.assert_array_equal(getattr(found, key), getattr(about, key))
    frames = walk(fs, name, found)
    assert len(frames) == len(POSES)
    for i, frame in enumerate(frames):
        np.testing.assert_array_equal(frame.world_from_cam, POSES[i])
        np.testing.assert_array_equal(read_color(fs, name, found, frame), color(i, color_compression))
        np.testing.assert_array_equal(read_depth(fs, name, found, frame), depth(i))


def test_the_header_is_where_the_format_says(good):
    """Offsets spelled out here once more, so that writer and reader cannot be wrong together."""
    data = good.read_bytes()
    version, length = struct.unpack_from("<IQ", data)
    assert (version, data[12 : 12 + length].decode()) == (4, "Sensor å")
    start = 12 + length + 4 * 64
    assert struct.unpack_from("<ii", data, start) == (2, 1)
    assert struct.unpack_from("<4I", data, start + 8) == (WIDTH, HEIGHT, WIDTH // 2, HEIGHT // 2)
    assert struct.unpack_from("<fQ", data, start + 24) == (1000.0, 5)
    pose = np.frombuffer(data, "<f4", 16, start + 36).reshape(4, 4)
    np.testing.assert_array_equal(pose, POSES[0])
    color_bytes, depth_bytes = struct.unpack_from("<2Q", data, start + 36 + 64 + 16)
    first = start + 36 + FRAME_BYTES
    assert data[first : first + color_bytes] == color(0)
    stored = zlib.decompress(data[first + color_bytes : first + color_bytes + depth_bytes])
    np.testing.assert_array_equal(np.frombuffer(stored, "<u2"), depth(0).ravel())
    assert data[-8:] == bytes(8)


def test_the_real_frames_come_back_bit_for_bit(tmp_path):
    folder = needs_realdata("rgbd_7scenes")
    stems = sorted(path.name.removesuffix(".color.jpg") for path in folder.glob("*.color.jpg"))
    pictures = []
    for stem in stems:
        pose = np.loadtxt(folder / f"{stem}.pose.txt").astype(np.float32)
        stored = np.asarray(Image.open(folder / f"{stem}.depth.png")).astype(np.uint16)
        pictures.append((pose, (folder / f"{stem}.color.jpg").read_bytes(), stored))
    size = (640, 480)
    about = header(color_size_px=size, depth_size_px=size, num_frames=len(pictures))
    path = tmp_path / "real.sens"
    with path.open("wb") as file:
        write_sens(file, about, pictures)
    fs, name = open_store(str(path))
    frames = walk(fs, name, about)
    assert len(frames) == 20
    for frame, (pose, jpeg, stored) in zip(frames, pictures, strict=True):
        np.testing.assert_array_equal(frame.world_from_cam, pose)
        assert read_color(fs, name, about, frame) == jpeg
        np.testing.assert_array_equal(read_depth(fs, name, about, frame), stored)


def test_another_file_system_reads_the_same(good):
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/scans/scan.sens", good.read_bytes())
    for ours, theirs in zip(read_all("memory://scans/scan.sens"), read_all(good), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_writer_that_is_given_another_number_of_frames_says_so(tmp_path):
    with pytest.raises(ValueError, match="3 frames given, 5 announced"):
        write(tmp_path / "scan.sens", header(), 3)


def patched(path: Path, field: str, value: int | float) -> Path:
    """Overwrite one field of the header."""
    data = bytearray(path.read_bytes())
    codes = 12 + len("Sensor å".encode()) + 4 * 64
    at, kind = {
        "version": (0, "<I"),
        "name length": (4, "<Q"),
        "color compression": (codes, "<i"),
        "depth compression": (codes + 4, "<i"),
        "color width": (codes + 8, "<I"),
        "depth width": (codes + 16, "<I"),
        "depth height": (codes + 20, "<I"),
        "depth shift": (codes + 24, "<f"),
        "frames": (codes + 28, "<Q"),
    }[field]
    struct.pack_into(kind, data, at, value)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("version", 3, "is no .sens file of version 4"),
        ("name length", 1 << 60, "a sensor name of 1152921504606846976 bytes"),
        ("color compression", -1, "colour compression code -1 cannot be read; only raw, png, jpeg"),
        ("color compression", 7, "colour compression code 7"),
        ("depth compression", 2, "depth compression occi_ushort cannot be read; only raw_ushort, zlib_ushort"),
        ("color width", 0, "colour images of 0x30"),
        ("depth width", 1 << 31, "depth images of 2147483648x15"),
        ("depth shift", 0.0, "a depth shift of 0.0"),
        ("depth shift", float("nan"), "a depth shift of nan"),
        ("frames", 1 << 40, "claims 1099511627776 frames"),
    ],
)
def test_a_header_at_fault_is_one_line_that_names_the_file(good, field, value, says):
    patched(good, field, value)
    with pytest.raises(UserError) as refusal:
        read_all(good)
    assert str(refusal.value).startswith(str(good))
    assert says in str(refusal.value)


def test_a_header_that_is_cut_off_is_refused(good):
    good.write_bytes(good.read_bytes()[:200])
    with pytest.raises(UserError, match="ends inside the header"):
        read_all(good)


def test_a_file_that_is_cut_off_keeps_its_whole_frames(good):
    whole = read_all(good)
    good.write_bytes(good.read_bytes()[:-100])
    rest = read_all(good)
    assert len(rest) == len(whole) - 2
    for ours, theirs in zip(rest, whole, strict=False):
        np.testing.assert_array_equal(ours, theirs)


def with_blob(path: Path, blob: bytes, **changes) -> Path:
    """Write one frame whose depth is `blob` as it is, after a good frame's colour."""
    about = header(num_frames=1, **changes)
    with path.open("wb") as file:
        write_sens(
            file, replace(about, depth_compression="raw_ushort"), [(POSES[0], b"\xff\xd8", np.frombuffer(blob, "<u2"))]
        )
    return patched(path, "depth compression", 1)


def test_a_bomb_is_refused_without_unpacking_it(tmp_path):
    bomb = zlib.compress(bytes(100 << 20), 9)
    small = (300, 300)  # so that the blob is not refused by its size alone
    path = with_blob(tmp_path / "bomb.sens", bomb + b"\0" * (len(bomb) % 2), depth_size_px=small)
    tracemalloc.start()
    assert read_all(path)[1] == "corrupt_depth"
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("damage", ["short", "long", "cut", "junk", "flipped"])
def test_a_damaged_depth_map_is_dropped_by_name(tmp_path, damage):
    want = bytes(range(256)) * 5
    blob = {
        "short": zlib.compress(want[:598]),
        "long": zlib.compress(want[:602]),
        "cut": zlib.compress(want[:600])[:-4],
        "junk": b"no zlib stream at all!",
        "flipped": bytearray(zlib.compress(want[:600])),
    }[damage]
    if damage == "flipped":
        blob[-1] ^= 1  # the checksum
    path = with_blob(tmp_path / "scan.sens", bytes(blob) + b"\0" * (len(blob) % 2))
    assert read_all(path)[1] == "corrupt_depth"


def test_a_map_that_its_blob_cannot_hold_is_refused_before_it_is_allocated(tmp_path):
    path = with_blob(tmp_path / "scan.sens", zlib.compress(b"ab"), depth_size_px=(4096, 4096))
    tracemalloc.start()
    assert read_all(path)[1] == "corrupt_depth"
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_one_bad_frame_costs_one_frame(good):
    data = good.read_bytes()
    fs, name = open_store(str(good))
    offset, size = walk(fs, name, read_header(fs, name))[2].depth_at
    good.write_bytes(data[:offset] + b"\xff" * size + data[offset + size :])
    found = read_all(good)
    assert found[5] == "corrupt_depth"
    assert [i for i, value in enumerate(found) if isinstance(value, str)] == [5]


def test_any_damage_gives_a_refusal_or_a_result(good):
    came_of = survives(good.read_bytes(), good, lambda: read_all(good))
    assert min(came_of.values()) > 0
