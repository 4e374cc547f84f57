"""ScanNet's `.sens`: a calibrated RGB-D video in one file, read frame by frame and written as it comes.

The layout is that of the public SensReader (github.com/ScanNet/ScanNet), little-endian throughout: a header, per
frame a header of 96 bytes and two blobs, at the end IMU measurements, which nothing here needs. Frames have no
index; `walk` finds them by their headers and seeks over the blobs. Nothing is allocated before the sizes that a
header claims have been held against the size of the file.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt
from fsspec import AbstractFileSystem

from vlm3data.storage import is_local
from vlm3data.types import Drop, Float32Array, UInt8Array, UserError

UInt16Array = npt.NDArray[np.uint16]

VERSION = 4
COLOR_COMPRESSIONS = {0: "raw", 1: "png", 2: "jpeg"}
DEPTH_COMPRESSIONS = {0: "raw_ushort", 1: "zlib_ushort", 2: "occi_ushort"}
MAX_NAME = 4096
MAX_PX = 1 << 24
"""Pixels of one image: far more than a depth sensor's or a tablet's video has, and little enough for memory."""
READ_AHEAD = 1 << 20
"""Bytes fetched at once where a walk goes over a network: a few frames, since a request costs about as much."""

_MATRICES = struct.Struct("<64f")
_CODES = struct.Struct("<ii4IfQ")
_FRAME = struct.Struct("<16f4Q")
_MAX_DEFLATE = 1032
"""No deflate stream grows by more than this (zlib's technical notes), so a short blob cannot hold a large map."""


@dataclass(frozen=True, slots=True)
class SensHeader:
    """What a file says once for all frames; matrices are (4, 4), intrinsics put integers on pixel centres."""

    sensor: str
    intrinsic_color: Float32Array
    extrinsic_color: Float32Array
    """Base from colour camera; the identity in practice."""
    intrinsic_depth: Float32Array
    extrinsic_depth: Float32Array
    """Base from depth camera: colour from depth, where colour is the base (SensReader's `saveToPointCloud`)."""
    color_compression: str
    depth_compression: str
    color_size_px: tuple[int, int]
    """(width, height)."""
    depth_size_px: tuple[int, int]
    depth_shift: float
    """Stored depth values a metre."""
    num_frames: int

    @property
    def num_bytes(self) -> int:
        """Return where the first frame begins."""
        return 4 + 8 + len(_encoded(self.sensor)) + _MATRICES.size + _CODES.size


@dataclass(frozen=True, slots=True)
class SensFrame:
    """One frame's header, and where its blobs lie."""

    world_from_cam: Float32Array
    """(4, 4), the depth camera's; full of -inf where tracking was lost."""
    color_at: tuple[int, int]
    """(offset, bytes)."""
    depth_at: tuple[int, int]


def read_header(fs: AbstractFileSystem, path: str) -> SensHeader:
    """Return a file's header, checked; raise UserError, naming the file, where it cannot be read on."""
    size = int(fs.size(path) or 0)
    start = _range(fs, path, 0, min(size, 4 + 8 + MAX_NAME + _MATRICES.size + _CODES.size))
    try:
        version, name_bytes = struct.unpack_from("<IQ", start)
        if version != VERSION:
            raise UserError(f"{path}: is no .sens file of version {VERSION} (found {version})")
        if name_bytes > MAX_NAME:
            raise UserError(f"{path}: damaged header: a sensor name of {name_bytes} bytes")
        sensor = start[12 : 12 + name_bytes].decode("utf-8", "surrogateescape")
        matrices = np.array(_MATRICES.unpack_from(start, 12 + name_bytes), np.float32).reshape(4, 4, 4)
        codes = _CODES.unpack_from(start, 12 + name_bytes + _MATRICES.size)
    except struct.error as error:
        raise UserError(f"{path}: the file ends inside the header; copy it again") from error
    color_code, depth_code, color_width, color_height, depth_width, depth_height, depth_shift, num_frames = codes
    for what, width, height in (("colour", color_width, color_height), ("depth", depth_width, depth_height)):
        if not 0 < width * height <= MAX_PX:
            raise UserError(f"{path}: damaged header: {what} images of {width}x{height} pixels")
    if not (math.isfinite(depth_shift) and depth_shift > 0):
        raise UserError(f"{path}: damaged header: a depth shift of {depth_shift}")
    if num_frames * _FRAME.size > size:
        raise UserError(f"{path}: claims {num_frames} frames, but has only {size} bytes; copy it again")
    return SensHeader(
        sensor,
        *matrices,
        color_compression=_compression(path, "colour", color_code, COLOR_COMPRESSIONS, ()),
        depth_compression=_compression(path, "depth", depth_code, DEPTH_COMPRESSIONS, ("occi_ushort",)),
        color_size_px=(color_width, color_height),
        depth_size_px=(depth_width, depth_height),
        depth_shift=depth_shift,
        num_frames=num_frames,
    )


def walk(fs: AbstractFileSystem, path: str, header: SensHeader) -> list[SensFrame]:
    """Return the frames that lie wholly in the file; fewer than `header.num_frames` where it is cut or damaged.

    Only the frames' headers are read. Behind a damaged one nothing more can be found.
    """
    size, offset = int(fs.size(path) or 0), header.num_bytes
    frames: list[SensFrame] = []
    with _open_for_walking(fs, path) as file:
        while len(frames) < header.num_frames:
            file.seek(offset)
            data = file.read(_FRAME.size)
            if len(data) < _FRAME.size:
                break
            *numbers, _, _, color_bytes, depth_bytes = _FRAME.unpack(data)
            color = offset + _FRAME.size
            offset = color + color_bytes + depth_bytes
            if offset > size:
                break
            pose = np.array(numbers, np.float32).reshape(4, 4)
            frames.append(SensFrame(pose, (color, color_bytes), (color + color_bytes, depth_bytes)))
    return frames


def read_color(fs: AbstractFileSystem, path: str, header: SensHeader, frame: SensFrame) -> bytes | UInt8Array:
    """Return the encoded image, or (h, w, 3) RGB where the file stores raw pixels. Raises Drop: corrupt_colour."""
    width, height = header.color_size_px
    raw_bytes = width * height * 3
    # A codec may swell what cannot be compressed, but not to twice its size.
    if frame.color_at[1] > 2 * raw_bytes + 65536:
        raise Drop("corrupt_colour", f"{path}: {frame.color_at[1]} bytes for one image of {width}x{height}")
    data = _range(fs, path, *frame.color_at)
    if header.color_compression != "raw":
        return data
    if len(data) != raw_bytes:
        raise Drop("corrupt_colour", f"{path}: {len(data)} bytes for raw RGB of {width}x{height}")
    return np.frombuffer(data, np.uint8).reshape(height, width, 3)


def read_depth(fs: AbstractFileSystem, path: str, header: SensHeader, frame: SensFrame) -> UInt16Array:
    """Return the stored depth (h, w), 0 for unknown. Raises Drop: corrupt_depth."""
    width, height = header.depth_size_px
    want, have = width * height * 2, frame.depth_at[1]
    deflated = header.depth_compression == "zlib_ushort"
    if have > want + want // 8 + 1024 or want > (have * _MAX_DEFLATE if deflated else have):
        raise Drop("corrupt_depth", f"{path}: {have} bytes for a depth map of {width}x{height}")
    data = _range(fs, path, *frame.depth_at)
    values = _inflate(data, want, path) if deflated else data
    if len(values) != want:
        raise Drop("corrupt_depth", f"{path}: {len(values)} bytes of depth where {width}x{height} need {want}")
    return np.frombuffer(values, "<u2").reshape(height, width)


def write_sens(
    file: BinaryIO, header: SensHeader, frames: Iterable[tuple[npt.ArrayLike, bytes | UInt8Array, npt.ArrayLike]]
) -> None:
    """Write a whole file: `frames` are (world_from_cam (4, 4), colour as the header says, stored depth (h, w)).

    Streamed: one frame is held at a time. Timestamps are those of 30 frames a second, in microseconds.
    """
    sensor = _encoded(header.sensor)
    matrices = (header.intrinsic_color, header.extrinsic_color, header.intrinsic_depth, header.extrinsic_depth)
    file.write(struct.pack("<IQ", VERSION, len(sensor)) + sensor)
    file.write(np.stack(matrices).astype("<f4").tobytes())
    codes = (
        _code(header.color_compression, COLOR_COMPRESSIONS),
        _code(header.depth_compression, DEPTH_COMPRESSIONS),
    )
    sizes = (*header.color_size_px, *header.depth_size_px)
    file.write(_CODES.pack(*codes, *sizes, header.depth_shift, header.num_frames))
    count = 0
    for count, (world_from_cam, color, stored) in enumerate(frames, 1):
        depth = np.ascontiguousarray(stored, "<u2").tobytes()
        if header.depth_compression == "zlib_ushort":
            depth = zlib.compress(depth)
        data = color if isinstance(color, bytes) else color.tobytes()
        time_us = count * 1_000_000 // 30
        pose = np.asarray(world_from_cam, "<f4").tobytes()
        file.write(pose + struct.pack("<4Q", time_us, time_us, len(data), len(depth)) + data + depth)
    if count != header.num_frames:
        raise ValueError(f"{count} frames given, {header.num_frames} announced")
    file.write(struct.pack("<Q", 0))  # no IMU measurements


def _inflate(data: bytes, want: int, path: str) -> bytes:
    """Return the `want` bytes that `data` holds, checksum and all; never more, however much it would unpack to."""
    stream = zlib.decompressobj()
    try:
        values = stream.decompress(data, want)
        if not stream.eof and stream.decompress(stream.unconsumed_tail, 1):
            raise Drop("corrupt_depth", f"{path}: a depth map that unpacks to more than {want} bytes")
    except zlib.error as error:
        raise Drop("corrupt_depth", f"{path}: {error}") from error
    if not stream.eof:
        raise Drop("corrupt_depth", f"{path}: a depth map that is cut off")
    return values


def _encoded(sensor: str) -> bytes:
    return sensor.encode("utf-8", "surrogateescape")


def _compression(path: str, what: str, code: int, known: dict[int, str], refused: tuple[str, ...]) -> str:
    name = known.get(code, f"code {code}")
    if name in refused or code not in known:
        readable = ", ".join(value for value in known.values() if value not in refused)
        raise UserError(f"{path}: {what} compression {name} cannot be read; only {readable}")
    return name


def _code(name: str, known: dict[int, str]) -> int:
    return next(code for code, value in known.items() if value == name)


def _range(fs: AbstractFileSystem, path: str, start: int, count: int) -> bytes:
    if not is_local(fs):
        return cast("bytes", fs.cat_file(path, start=start, end=start + count)) if count else b""
    with Path(path).open("rb", buffering=0) as file:  # fsspec's way to a local file costs as much as reading it
        file.seek(start)
        return file.read(count)


def _open_for_walking(fs: AbstractFileSystem, path: str) -> Any:
    if is_local(fs):  # without a buffer, or every header would read the blobs around it
        return Path(path).open("rb", buffering=0)
    return fs.open(path, "rb", block_size=READ_AHEAD, cache_type="readahead")
