"""A depth map in an OpenEXR file, as WAI stores it: one channel of half or single floats, whole or compressed by ZIP.

Layout: openexr.com, "OpenEXR File Layout". Read here and not by a library: OpenCV's wheels come without EXR, and
OpenEXR's own Python module returns damaged files with the damaged part left unset.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
import numpy.typing as npt

from vlm3data.types import Drop, Float32Array

MAX_PX = 1 << 25
HEADER_BYTES = 4096
"""As many of a file's first bytes hold its header, where nobody has put a preview into it."""

_MAGIC = b"\x76\x2f\x31\x01\x02\x00\x00\x00"
"""The magic number, version 2, and none of the flags: tiles, long names, deep pixels, several parts."""
_NONE, _ZIPS, _ZIP = 0, 2, 3
_LINES = {_NONE: 1, _ZIPS: 1, _ZIP: 16}
"""Rows in a chunk, by the compression."""
_TYPES = {1: np.dtype("<f2"), 2: np.dtype("<f4")}
_NAME_BYTES = 32


class _Header:
    """What a file says of its one channel, and where its chunks are listed."""

    def __init__(self, data: bytes) -> None:
        attributes, self.end = _attributes(data)
        x0, self.first_row, x1, last_row = struct.unpack("<4i", attributes["dataWindow"])
        self.width, self.height = x1 - x0 + 1, last_row - self.first_row + 1
        if self.width < 1 or self.height < 1 or self.width * self.height > MAX_PX:
            raise ValueError(f"{self.width}x{self.height} pixels")
        (self.compression,) = attributes["compression"]
        if self.compression not in _LINES:
            raise ValueError(f"compression {self.compression}; none, ZIPS and ZIP are read")
        self.lines, self.dtype = _LINES[self.compression], _type(attributes["channels"])


def exr_size_px(data: bytes) -> tuple[int, int]:
    """Return (width, height) of a depth map from the beginning of its file; raises Drop: corrupt_depth."""
    try:
        header = _Header(data)
    except (struct.error, ValueError, KeyError) as error:
        raise Drop("corrupt_depth", f"not an EXR file of depth: {error}") from error
    return header.width, header.height


def decode_exr(data: bytes, size_px: tuple[int, int]) -> Float32Array:
    """Return the values (h, w) of a map that must be of `size_px` (width, height).

    Raises Drop: depth_size_mismatch, corrupt_depth.
    """
    found = exr_size_px(data)
    if found != size_px:
        raise Drop("depth_size_mismatch", f"depth {found}, expected {size_px}")
    try:
        return _pixels(data, _Header(data)).astype(np.float32)
    except (struct.error, ValueError, zlib.error) as error:
        raise Drop("corrupt_depth", str(error)) from error


def encode_exr(depth_m: Float32Array) -> bytes:
    """Return (h, w) values as half floats compressed by ZIP: what WAI's conversions write."""
    height, width = depth_m.shape
    window = struct.pack("<4i", 0, 0, width - 1, height - 1)
    attributes = [
        ("channels", "chlist", b"Y\0" + struct.pack("<iIii", 1, 0, 1, 1) + b"\0"),
        ("compression", "compression", bytes([_ZIP])),
        ("dataWindow", "box2i", window),
        ("displayWindow", "box2i", window),
        ("lineOrder", "lineOrder", b"\0"),
        ("pixelAspectRatio", "float", struct.pack("<f", 1)),
        ("screenWindowCenter", "v2f", bytes(8)),
        ("screenWindowWidth", "float", struct.pack("<f", 1)),
    ]
    parts = [f"{name}\0{kind}\0".encode() + struct.pack("<i", len(body)) + body for name, kind, body in attributes]
    head = _MAGIC + b"".join(parts) + b"\0"
    rows = range(0, height, _LINES[_ZIP])
    bodies = [_packed(depth_m[row : row + _LINES[_ZIP]].astype(_TYPES[1]).tobytes()) for row in rows]
    chunks = [struct.pack("<ii", row, len(body)) + body for row, body in zip(rows, bodies, strict=True)]
    starts = len(head) + 8 * len(chunks) + np.cumsum([0, *map(len, chunks)])[:-1]
    return head + starts.astype("<u8").tobytes() + b"".join(chunks)


def _attributes(data: bytes) -> tuple[dict[str, bytes], int]:
    """Return the header's attributes by name, and where it ends."""
    if not data.startswith(_MAGIC):
        raise ValueError("it does not begin as one of scan lines in one part")
    attributes: dict[str, bytes] = {}
    at = len(_MAGIC)
    while data[at : at + 1] != b"\0":
        name, at = _text(data, at)
        _, at = _text(data, at)
        (size,) = struct.unpack_from("<i", data, at)
        at += 4
        if name in attributes or not 0 <= size <= len(data) - at:
            raise ValueError(f"its attribute {name!r} is of {size} bytes")
        attributes[name] = data[at : at + size]
        at += size
    return attributes, at + 1


def _type(channels: bytes) -> np.dtype[np.floating]:
    name, at = _text(channels, 0)
    kind, _, sx, sy = struct.unpack_from("<iIii", channels, at)
    if channels[at + 16 :] != b"\0" or kind not in _TYPES or (sx, sy) != (1, 1):
        raise ValueError(f"it holds other than one channel of floats, {name!r} first")
    return _TYPES[kind]


def _text(data: bytes, at: int) -> tuple[str, int]:
    end = data.index(b"\0", at, at + _NAME_BYTES)
    if end == at:
        raise ValueError("a name is missing in its header")
    return data[at:end].decode("latin-1"), end + 1


def _pixels(data: bytes, header: _Header) -> npt.NDArray[np.floating]:
    rows = range(0, header.height, header.lines)
    starts = struct.unpack_from(f"<{len(rows)}Q", data, header.end)
    row_bytes = header.width * header.dtype.itemsize
    plain: list[bytes] = []
    for row, start in zip(rows, starts, strict=True):
        if start > len(data):
            raise ValueError("the file ends inside the pixels")
        found, size = struct.unpack_from("<ii", data, start)
        body = data[start + 8 : start + 8 + size] if size >= 0 else b""
        if found != row + header.first_row or len(body) != size:
            raise ValueError(f"no sound chunk at row {row}")
        plain.append(_unpacked(body, min(header.lines, header.height - row) * row_bytes, header.compression))
    return np.frombuffer(b"".join(plain), header.dtype).reshape(header.height, header.width)


def _unpacked(body: bytes, size: int, compression: int) -> bytes:
    """Return the bytes of a chunk; what would not have shrunk is stored as it is."""
    if len(body) == size:
        return body
    inflater = zlib.decompressobj()
    stored = inflater.decompress(body, size + 1) if compression != _NONE else b""
    if len(stored) != size or not inflater.eof:
        raise ValueError(f"a chunk of {len(stored)} bytes, not {size}")
    steps = np.frombuffer(stored, np.uint8) - np.uint8(128)
    steps[0] ^= 128
    halves = np.cumsum(steps, dtype=np.uint8)
    mixed = np.empty(size, np.uint8)
    mixed[::2], mixed[1::2] = halves[: (size + 1) // 2], halves[(size + 1) // 2 :]
    return mixed.tobytes()


def _packed(plain: bytes) -> bytes:
    mixed = np.frombuffer(plain, np.uint8)
    halves = np.concatenate([mixed[::2], mixed[1::2]])
    steps = np.diff(halves, prepend=np.uint8(0)) + np.uint8(128)
    steps[0] ^= 128
    body = zlib.compress(steps.tobytes(), 4)
    return body if len(body) < len(plain) else plain
