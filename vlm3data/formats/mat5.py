"""The part of MATLAB's MAT-file, level 5, that data sets use: one struct of numeric arrays; read and written.

Layout: MathWorks, "MAT-File Format" (level 5). scipy's `loadmat` is not used on files from elsewhere: it inflates
whatever a file claims, and damaged elements have been seen to end the whole process. Here nothing is inflated beyond
`MAX_BYTES`, every length is held against the bytes that are there, and only numbers are ever made: cells, objects,
function handles and the like are passed over unless asked for, and then refused.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from vlm3data.types import Drop

MAX_BYTES = 1 << 26
"""Of one variable, inflated: 64 MiB, twenty times one of iBims-1's structs."""

_HEADER = 128
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_MATRIX, _COMPRESSED = 14, 15
_STRUCT = 2
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_COMPLEX = 0x800


def read_struct(data: bytes, name: str, fields: tuple[str, ...]) -> dict[str, npt.NDArray[np.number]]:
    """Return the wanted fields of the 1x1 struct `name` in a MAT-file, each as an array of its MATLAB shape.

    Raises Drop: mat_unsupported (HDF5, that is version 7.3), mat_corrupt, mat_field_missing.
    """
    if data.startswith(b"\x89HDF"):
        raise Drop("mat_unsupported", "an HDF5 file (MATLAB 7.3): save it again with -v7")
    if len(data) < _HEADER or data[126:128] not in (b"IM", b"MI"):
        raise Drop("mat_corrupt", "not a MAT-file of level 5")
    order = "<" if data[126:128] == b"IM" else ">"
    try:
        for kind, body in _elements(data[_HEADER:], order):
            matrix = _inflated(body, order) if kind == _COMPRESSED else body if kind == _MATRIX else None
            if matrix is not None and (found := _fields(matrix, order, name, fields)) is not None:
                return found
    except (struct.error, zlib.error, ValueError) as error:
        raise Drop("mat_corrupt", str(error)) from error
    raise Drop("mat_field_missing", f"no struct {name!r}")


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Yield (type, body) of the elements that follow each other in `data`."""
    at = 0
    while at + 8 <= len(data):
        first, second = struct.unpack_from(order + "II", data, at)
        if first >> 16:  # a small element: type and length share a word, the body is the other
            kind, size, start, end = first & 0xFFFF, first >> 16, at + 4, at + 8
            if size > 4:
                raise ValueError(f"a small element of {size} bytes")
        else:
            kind, size, start = first, second, at + 8
            end = start + size + (0 if kind == _COMPRESSED else -size % 8)
        if start + size > len(data):
            raise ValueError(f"an element of {size} bytes in {len(data) - start}")
        yield kind, data[start : start + size]
        at = end


def _inflated(body: bytes, order: str) -> bytes | None:
    inflater = zlib.decompressobj()
    plain = inflater.decompress(body, MAX_BYTES + 8)
    if len(plain) > MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES} bytes when inflated")
    if not inflater.eof:
        raise ValueError("the compressed data end early")
    return next((inner for kind, inner in _elements(plain, order) if kind == _MATRIX), None)


def _fields(matrix: bytes, order: str, name: str, wanted: tuple[str, ...]) -> dict[str, npt.NDArray[np.number]] | None:
    """Return the wanted fields where `matrix` is the struct of that name, else None."""
    parts = list(_elements(matrix, order))
    if len(parts) < 3 or parts[2][1] != name.encode():
        return None
    if parts[0][1][0 if order == "<" else 3] != _STRUCT or np.prod(_shape(parts[1][1], order), dtype=object) != 1:
        raise Drop("mat_field_missing", f"{name!r} is not one struct")
    (length,) = struct.unpack(order + "i", parts[3][1])
    names = [parts[4][1][i : i + length].split(b"\0")[0].decode() for i in range(0, len(parts[4][1]), length)]
    bodies = dict(zip(names, parts[5:], strict=False))
    if missing := [field for field in wanted if field not in bodies]:
        raise Drop("mat_field_missing", f"{name}.{', '.join(missing)}")
    return {field: _array(bodies[field][1], order) for field in wanted}


def _shape(data: bytes, order: str) -> tuple[int, ...]:
    return struct.unpack(f"{order}{len(data) // 4}i", data)


def _array(matrix: bytes, order: str) -> npt.NDArray[np.number]:
    """Return a numeric array; its values may be stored in a smaller type than its class has."""
    parts = list(_elements(matrix, order))
    (flags,) = struct.unpack_from(order + "I", parts[0][1]) if parts else (0,)
    if flags & 0xFF not in _CLASSES or flags & _COMPLEX or len(parts) != 4 or parts[3][0] not in _TYPES:
        raise Drop("mat_corrupt", "a field is not an array of real numbers")
    shape, (kind, values) = _shape(parts[1][1], order), parts[3]
    stored = np.frombuffer(values, np.dtype(order + _TYPES[kind]))
    if min(shape, default=-1) < 0 or stored.size != np.prod(shape, dtype=object):
        raise ValueError(f"{stored.size} values for an array of shape {shape}")
    return stored.reshape(shape, order="F").astype(_CLASSES[flags & 0xFF])


def write_struct(name: str, fields: Mapping[str, npt.ArrayLike]) -> bytes:
    """Return a compressed little-endian MAT-file that holds one struct of real arrays, without a date."""
    length = 32
    names = b"".join(field.encode().ljust(length, b"\0") for field in fields)
    parts = [_head(_STRUCT, (1, 1), name), struct.pack("<HHi", 5, 4, length), _element(1, names)]
    plain = _element(_MATRIX, b"".join([*parts, *(_matrix(np.asarray(array)) for array in fields.values())]))
    body = zlib.compress(plain, 6)
    text = b"MATLAB 5.0 MAT-file".ljust(116) + bytes(8)
    return text + struct.pack("<H2s", 0x0100, b"IM") + struct.pack("<II", _COMPRESSED, len(body)) + body


def _matrix(array: npt.NDArray[Any]) -> bytes:
    array = array.reshape(array.shape if array.ndim > 1 else (1, -1))
    stored = array.dtype.kind + str(array.dtype.itemsize)
    number = next(number for number, known in _CLASSES.items() if known == stored)
    kind = next(kind for kind, known in _TYPES.items() if known == stored)
    values = array.astype("<" + stored).tobytes(order="F")
    return _element(_MATRIX, _head(number, array.shape, "") + _element(kind, values))


def _head(number: int, shape: tuple[int, ...], name: str) -> bytes:
    dimensions = struct.pack(f"<{len(shape)}i", *shape)
    return _element(6, struct.pack("<II", number, 0)) + _element(5, dimensions) + _element(1, name.encode())


def _element(kind: int, body: bytes) -> bytes:
    return struct.pack("<II", kind, len(body)) + body + bytes(-len(body) % 8)
