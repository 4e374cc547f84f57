"""The tables as one Arrow file that later opens map into memory, in the user's cache directory.

Its name is a digest of what the store says of the JSON files: size, time of change and inode of local ones (the
time of change, ctime, cannot be set back), the ETag or like of remote ones. Where a store says neither, and where a
file changed within the last seconds, so that another change might not show, nothing is cached. The file ends with a
digest of itself; one that does not agree is made again.
"""

from __future__ import annotations

import mmap
import os
import time
import warnings
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
import xxhash
from fsspec import AbstractFileSystem

from vlm3data.formats.nuscenes.reader import TABLES, TableReader
from vlm3data.formats.nuscenes.tables import Tables, read_tables
from vlm3data.storage import is_local
from vlm3data.types import UserError

FORMAT = 1
"""Raised whenever the columns or what is in them change."""
SETTLED_S = 2.0
"""How long ago the newest table must have changed for the tables to be cached."""
_WIDTH = {"size_px": 2, "global_from_ego": 7, "ego_from_sensor": 7, "pinhole_px": 4, "box": 10}
"""Columns with several values a row."""
_MARKS = ("ETag", "etag", "e_tag", "md5Hash", "content_md5", "crc32c", "generation", "version_id", "checksum", "sha256")
"""What stores call something that changes whenever a file does."""


def open_tables(fs: AbstractFileSystem, directory: str, *, sweeps: bool) -> Tables:
    """Return the tables below `directory`, from the cache where it holds them as they are now.

    Raises UserError for what `read_tables` finds wrong with them.
    """
    table = TableReader(fs, directory)
    state = _state(table)
    kept = _place(table, state, sweeps=sweeps) if state else None
    if kept is not None and (tables := _load(kept)) is not None:
        return tables
    began_s = time.time()
    tables = read_tables(table, sweeps=sweeps)
    if kept is not None and state and state == _state(table) and _newest_s(state) < began_s - SETTLED_S:
        _save(tables, kept)
    return tables


def _state(table: TableReader) -> dict[str, dict[str, Any]] | None:
    """Return by table what would be another if its content were; None where the store does not tell."""
    state: dict[str, dict[str, Any]] = {}
    for name in TABLES:
        try:
            if is_local(table.fs):
                found = Path(table.path(name)).stat()
                times = {"mtime_ns": found.st_mtime_ns, "ctime_ns": found.st_ctime_ns}
                about: dict[str, Any] = {"size": found.st_size, **times, "inode": found.st_ino, "device": found.st_dev}
            else:
                info = table.fs.info(table.path(name))
                about = {mark: str(info[mark]) for mark in _MARKS if info.get(mark)}
                if not about:
                    return None
                about["size"] = info["size"]
        except FileNotFoundError as error:
            raise UserError(f"{table.name(name)}: there is no such table ({table.path(name)})") from error
        state[name] = about
    return state


def _newest_s(state: Mapping[str, Mapping[str, Any]]) -> float:
    """Return when a local table last changed, seconds since 1970; 0 for remote ones, whose marks are of content."""
    return max(about.get("ctime_ns", 0) for about in state.values()) / 1e9


def _place(table: TableReader, state: Mapping[str, Mapping[str, Any]], *, sweeps: bool) -> Path:
    """Return where the cache of these tables in this state lies: one file a dataset, named by both."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    protocol = table.fs.protocol if isinstance(table.fs.protocol, str) else table.fs.protocol[0]
    where = xxhash.xxh3_64_hexdigest(f"{protocol}:{table.directory}:{sweeps}".encode())
    what = xxhash.xxh3_128_hexdigest(
        repr((FORMAT, sorted((name, *sorted(about.items())) for name, about in state.items()))).encode()
    )
    return Path(home) / "vlm3" / "nuscenes" / f"{where}-{what}.arrow"


def _save(tables: Tables, kept: Path) -> None:
    """Write the cache whole or not at all, and remove those of the dataset's earlier states."""
    sink = pa.BufferOutputStream()
    columns = [_one_row(getattr(tables, field.name)) for field in fields(Tables)]
    batch = pa.record_batch(columns, [field.name for field in fields(Tables)])
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    data = sink.getvalue()
    temporary = kept.with_name(f"{kept.name}.{uuid4().hex}")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.write(xxhash.xxh3_128_digest(data))
            temporary.replace(kept)
        finally:
            temporary.unlink(missing_ok=True)
        for other in kept.parent.glob(f"{kept.name.partition('-')[0]}-*.arrow"):
            if other != kept:
                other.unlink(missing_ok=True)
    except OSError as error:
        warnings.warn(f"the tables of nuScenes will be read anew next time: {error}", stacklevel=2)


def _load(kept: Path) -> Tables | None:
    """Return the cached tables, mapped into memory; None where there are none or they are damaged."""
    try:
        with kept.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError):  # not there, no permission, an empty file
        return None
    data = memoryview(mapped)
    if xxhash.xxh3_128_digest(data[:-16]) != bytes(data[-16:]):
        return None
    batch = pa.ipc.open_file(pa.py_buffer(data[:-16])).get_batch(0)
    return Tables(**{field.name: _column(batch, field.name) for field in fields(Tables)})


def _one_row(column: np.ndarray[Any, Any] | pa.Array) -> pa.Array:
    """Return a whole column as one row that is a list: an Arrow file has one number of rows for all."""
    values = column if isinstance(column, pa.Array) else pa.array(column.reshape(-1))
    return pa.LargeListArray.from_arrays(pa.array([0, len(values)], pa.int64()), values)


def _column(batch: pa.RecordBatch, name: str) -> Any:
    values = batch.column(name).values
    if pa.types.is_large_string(values.type):
        return values
    array = values.to_numpy(zero_copy_only=True)
    return array.reshape(-1, _WIDTH[name]) if name in _WIDTH else array
