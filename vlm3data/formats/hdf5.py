"""One two-dimensional array of numbers out of an HDF5 file from a stranger, as MegaDepth stores its depth maps.

h5py reads what the file says of the array; the values are taken from the file's bytes here, so that nothing larger
than the array is ever inflated. An HDF5 file can also point elsewhere: to other files (external links, external
storage, virtual datasets), or to filters that are libraries to load. All that is refused.
"""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from vlm3data.types import Drop, UserError

MAX_VALUES = 1 << 25
MAX_CHUNKS = 1 << 16

# What h5py raises on damaged files.
_DAMAGE = (OSError, ValueError, KeyError, TypeError, RuntimeError, OverflowError, AttributeError, zlib.error)


def array_size(file: BinaryIO, name: str) -> tuple[int, int]:
    """Return (width, height) of the array `name` without reading its values; raises Drop: corrupt_hdf5."""
    with _damage_named():
        with _h5py().File(file, "r") as opened:
            height, width = _checked(opened, name).shape
        return width, height


def read_array(data: bytes, name: str) -> npt.NDArray[np.floating]:
    """Return the values (h, w) of the array `name`, floats; raises Drop: corrupt_hdf5."""
    with _damage_named(), _h5py().File(io.BytesIO(data), "r") as opened:
        return _values(_checked(opened, name), data)


def write_array(name: str, values: npt.NDArray[np.floating]) -> bytes:
    """Return an HDF5 file that holds `values` (h, w) alone, compressed, without a date."""
    file = io.BytesIO()
    with _h5py().File(file, "w", track_order=False) as opened:
        opened.create_dataset(name, data=values, compression="gzip", track_times=False)
    return file.getvalue()


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise UserError("reading HDF5 files needs h5py: pip install 'vlm3[megadepth]'") from error
    return h5py


@contextmanager
def _damage_named() -> Generator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise Drop("corrupt_hdf5", " ".join(str(error).split()) or type(error).__name__) from error


def _checked(opened: Any, name: str) -> Any:
    """Return the dataset, if it is a plain one that lies in this file whole."""
    h5py = _h5py()
    link = opened.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise ValueError(f"{name!r} is {'a link elsewhere' if link is not None else 'not in the file'}")
    if opened.get(name, getclass=True) is not h5py.Dataset:
        raise ValueError(f"{name!r} is no array")
    dataset = h5py.h5d.open(opened.id, name.encode())
    layout = dataset.get_create_plist()
    if layout.get_layout() == h5py.h5d.VIRTUAL or layout.get_external_count():
        raise ValueError(f"the values of {name!r} are said to be in other files")
    kind, h5t = dataset.get_type(), h5py.h5t
    floats = (h5t.IEEE_F16LE, h5t.IEEE_F16BE, h5t.IEEE_F32LE, h5t.IEEE_F32BE, h5t.IEEE_F64LE, h5t.IEEE_F64BE)
    if not any(kind.equal(known) for known in floats):
        raise ValueError(f"the values of {name!r} are not plain floats")
    shape = dataset.shape
    if len(shape) != 2 or min(shape) < 1 or math.prod(shape) > MAX_VALUES:
        raise ValueError(f"{name!r} has the shape {shape}")
    return dataset


def _values(dataset: Any, data: bytes) -> npt.NDArray[np.floating]:
    h5d, plist, shape, dtype = _h5py().h5d, dataset.get_create_plist(), dataset.shape, dataset.dtype
    if plist.get_layout() == h5d.COMPACT:
        values = np.empty(shape, dtype)
        dataset.read(_h5py().h5s.ALL, _h5py().h5s.ALL, values)
        return values
    if plist.get_layout() == h5d.CONTIGUOUS:
        return np.frombuffer(_slice(data, dataset.get_offset(), math.prod(shape) * dtype.itemsize), dtype).reshape(
            shape
        )
    chunk = plist.get_chunk()
    if math.prod(chunk) > 2 * MAX_VALUES:
        raise ValueError(f"chunks of {chunk} values")
    chunk_bytes = math.prod(chunk) * dtype.itemsize
    filters = [plist.get_filter(number) for number in range(plist.get_nfilters())]
    places = _places(dataset, shape, chunk)
    values = np.empty(shape, dtype)
    if any(number == _h5py().h5z.FILTER_LZF for number, *_ in filters):
        _check_lzf(filters, chunk_bytes)
        dataset.read(_h5py().h5s.ALL, _h5py().h5s.ALL, values)
        return values
    for (y, x), (offset, size, skipped) in places.items():
        applied = [number for place, (number, *_) in enumerate(filters) if not skipped >> place & 1]
        plain = _unfiltered(_slice(data, offset, size), applied, chunk_bytes, dtype.itemsize)
        part = np.frombuffer(plain, dtype).reshape(chunk)
        values[y : y + chunk[0], x : x + chunk[1]] = part[: shape[0] - y, : shape[1] - x]
    return values


def _check_lzf(filters: list[Any], chunk_bytes: int) -> None:
    """Refuse what h5py's LZF, which makes at most 88 bytes of one, would need more than a chunk's memory for."""
    h5z = _h5py().h5z
    for number, _, settings, _ in filters:
        unknown = number not in (h5z.FILTER_LZF, h5z.FILTER_SHUFFLE)
        if unknown or (number == h5z.FILTER_LZF and (len(settings) != 3 or settings[2] != chunk_bytes)):
            raise ValueError(f"packed with filter {number} {settings}")


def _places(
    dataset: Any, shape: tuple[int, int], chunk: tuple[int, int]
) -> dict[tuple[int, int], tuple[int, int, int]]:
    """Return where in the file each chunk lies, and which filters it skips, by its first row and column.

    All chunks must be there.
    """
    if math.ceil(shape[0] / chunk[0]) * math.ceil(shape[1] / chunk[1]) > MAX_CHUNKS:
        raise ValueError(f"chunks of {chunk} values for {shape}")
    expected = {(y, x) for y in range(0, shape[0], chunk[0]) for x in range(0, shape[1], chunk[1])}
    places: dict[tuple[int, int], tuple[int, int, int]] = {}

    def note(info: Any) -> bool | None:
        if info.chunk_offset not in expected:
            raise ValueError(f"a chunk that is not of this array, at {info.chunk_offset}")
        places[info.chunk_offset] = (info.byte_offset, info.size, info.filter_mask)

    dataset.chunk_iter(note)
    if len(places) != len(expected):
        raise ValueError(f"{len(places)} of {len(expected)} chunks are there")
    return places


def _slice(data: bytes, offset: int | None, size: int) -> memoryview:
    if offset is None or offset + size > len(data):
        raise ValueError("the file ends inside the values")
    return memoryview(data)[offset : offset + size]


def _unfiltered(packed: memoryview, filters: list[int], size: int, itemsize: int) -> bytes | memoryview:
    h5z = _h5py().h5z
    plain: bytes | memoryview = packed
    for number in reversed(filters):
        if number == h5z.FILTER_DEFLATE:
            inflater = zlib.decompressobj()
            plain = inflater.decompress(plain, size + 1)
        elif number == h5z.FILTER_SHUFFLE:
            plain = np.frombuffer(plain, np.uint8).reshape(itemsize, -1).T.tobytes()
        else:
            raise ValueError(f"packed with filter {number}; gzip, LZF and shuffle are read")
    if len(plain) != size:
        raise ValueError(f"a chunk of {len(plain)} bytes, not {size}")
    return plain
