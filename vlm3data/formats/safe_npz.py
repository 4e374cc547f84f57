"""Reading `.npz` files from strangers, object arrays among them: zips of `.npy`, and pickled dicts called `.npz`.

`numpy.load` reads both only with `allow_pickle=True`, which runs whatever a file asks for. Here pickles go through
`safe_pickle`, and every size that a header claims is held against the bytes that are there before it is believed.
"""

from __future__ import annotations

import io
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Collection
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt
from fsspec import AbstractFileSystem
from numpy.lib import format as npy

from vlm3data.formats import safe_pickle
from vlm3data.types import UserError

MAX_MEMBER = 1 << 30
"""Bytes of one array: the overlaps of eleven thousand images with one another."""
MAX_PICKLE = 1 << 27
MAX_DIRECTORY = 1 << 20
"""Bytes that a zip may spend on the names of its members; `numpy.savez` needs some hundred."""
_MAX_RATIO = 1040
"""Deflate makes nothing smaller than this (zlib's technical notes: 1032)."""

_ZIP, _PICKLE, _NPY = b"PK\x03\x04", b"\x80", b"\x93NUMPY"
_END, _END_SIZE = b"PK\x05\x06", 22
_LOCATOR64, _LOCATOR64_SIZE = b"PK\x06\x07", 20
_SPOILT = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError, KeyError, IndexError, TypeError,
    SyntaxError, OverflowError, RecursionError, MemoryError, NotImplementedError, RuntimeError, tokenize.TokenError,
)  # fmt: skip


def read_npz(fs: AbstractFileSystem, path: str, names: Collection[str]) -> dict[str, Any]:
    """Return those of the `names` that the file holds: arrays; of a pickled dict also plain containers.

    Other members are not read. Raises UserError, one line that names the file, where it is damaged, too large, or
    asks for more than plain data.
    """
    with cast("BinaryIO", fs.open(path, "rb")) as file:
        magic = file.read(6)
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        if magic.startswith(_ZIP):
            return _zip(file, size, path, names)
        if not magic.startswith(_PICKLE):
            raise UserError(f"{path}: neither a zip of arrays nor a pickled dict")
        if size > MAX_PICKLE:
            raise UserError(f"{path}: a pickle of {size} bytes is more than any scene needs")
        whole = safe_pickle.load(file.read(), path)
    if type(whole) is not dict:
        raise UserError(f"{path}: holds a pickled {type(whole).__name__}, not a dict of arrays")
    return {name: whole[name] for name in names if name in whole}


def read_npy(data: bytes, where: str) -> npt.NDArray[Any]:
    """Return the array of an `.npy` file, an object array's pickle through `safe_pickle`; raises UserError."""
    try:
        return _npy(data, where)
    except _SPOILT as error:
        raise UserError(f"{where}: not a sound array: {_line(error)}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _zip(file: BinaryIO, size: int, path: str, names: Collection[str]) -> dict[str, Any]:
    try:
        _check_directory(file, size)
        with zipfile.ZipFile(file) as archive:
            members: dict[str, zipfile.ZipInfo] = {}
            for info in archive.infolist():
                if info.filename in members:
                    raise ValueError(f"{info.filename!r} is in it twice")
                members[info.filename] = info
            wanted = {name: members[f"{name}.npy"] for name in names if f"{name}.npy" in members}
            return {name: read_npy(_member(archive, info, size), f"{path}: {name}") for name, info in wanted.items()}
    except _SPOILT as error:
        raise UserError(f"{path}: not a sound npz file: {_line(error)}") from error


def _check_directory(file: BinaryIO, size: int) -> None:
    """Refuse a zip whose list of members, which zipfile holds in memory, is longer than any array file's."""
    file.seek(max(0, size - (1 << 16) - _END_SIZE - _LOCATOR64_SIZE))
    tail = file.read()
    at = len(tail) - _END_SIZE
    if not (tail[at:].startswith(_END) and tail.endswith(b"\0\0")):  # as zipfile looks for it
        at = tail.rfind(_END)
    if at < 0 or len(tail) - at < _END_SIZE:
        raise ValueError("the file ends before the list of its members")
    length = struct.unpack_from("<I", tail, at + 12)[0]
    if length > MAX_DIRECTORY or tail[max(0, at - _LOCATOR64_SIZE) : at].startswith(_LOCATOR64):
        raise ValueError("its list of members is too long")


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, size: int) -> bytes:
    """Return the bytes of a member of a zip of `size` bytes."""
    packed = 1 if info.compress_type == zipfile.ZIP_STORED else _MAX_RATIO
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
        raise ValueError(f"{info.filename!r} is packed in a way that numpy does not write")
    if info.file_size > min(MAX_MEMBER, info.compress_size * packed) or info.compress_size > size:
        raise ValueError(f"{info.filename!r} claims {info.file_size} bytes out of {min(info.compress_size, size)}")
    with archive.open(info) as member:
        data = member.read(info.file_size)
        if len(data) != info.file_size or member.read(1):
            raise ValueError(f"{info.filename!r} is not of the {info.file_size} bytes that it claims")
    return data


def _npy(data: bytes, where: str) -> npt.NDArray[Any]:
    file = io.BytesIO(data)
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(file)
    start, count = file.tell(), math.prod(shape)
    if dtype == np.dtype(object):
        array = safe_pickle.load(data[start:], where)
        if not isinstance(array, np.ndarray) or array.dtype != dtype or array.shape != shape:
            raise ValueError(f"its pickle is not the array {shape} of objects that it claims")
        return array
    if dtype.kind not in "biufcUS" or not dtype.itemsize or len(shape) > safe_pickle.MAX_DIMENSIONS:
        raise ValueError(f"an array {str(shape)[:60]} of {str(dtype)[:60]}")
    if max(shape, default=0) > safe_pickle.MAX_SIDE or min(shape, default=0) < 0:
        raise ValueError(f"an array of shape {str(shape)[:60]}")
    if count * dtype.itemsize != len(data) - start:
        raise ValueError(f"{shape} values of {dtype} in {len(data) - start} bytes")
    return np.frombuffer(data, dtype, count, start).reshape(shape, order="F" if fortran else "C")
