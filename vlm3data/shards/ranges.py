"""Reading parts of files in any store, however often that takes (`vlm3data.retries`)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import cast

from fsspec import AbstractFileSystem

from vlm3data.retries import ShortRead, StoreError, is_transient, persist
from vlm3data.storage import read_whole as read_file

__all__ = ["StoreError", "is_transient", "read_file", "read_pieces", "read_range"]

PIECE_BYTES = 16 << 20


def read_range(fs: AbstractFileSystem, path: str, start: int, end: int, closed: threading.Event | None = None) -> bytes:
    """Return bytes [start, end) of a file; fewer only where the file itself ends before.

    Gives up at once when `closed` is set. Raises StoreError.
    """

    def attempt() -> bytes:
        data = cast(
            "bytes", fs.cat_file(path, start=start, end=end)
        )  # by name: s3fs has another argument in their place
        if len(data) < end - start and _size(fs, path) >= end:
            raise ShortRead(f"{len(data):,} bytes came instead of {end - start:,}")
        return data[: end - start]

    def truncated(error: BaseException) -> bool:
        # Some stores answer a range that begins behind the end with an error (416), not with nothing.
        return not isinstance(error, FileNotFoundError | PermissionError) and _size(fs, path) <= start

    what = f"{fs.unstrip_protocol(path)}: bytes {start}-{end - 1}"
    try:
        return persist(attempt, what, closed, truncated=truncated)
    except FileNotFoundError as error:
        raise StoreError(f"{what}: there is no such file") from error


def read_pieces(fs: AbstractFileSystem, path: str) -> Iterator[bytes]:
    """Yield a whole file in pieces of at most 16 MB: no more of it is in memory at a time.

    Raises FileNotFoundError where there is none, and as `read_range` does.
    """
    size = persist(lambda: _size(fs, path), fs.unstrip_protocol(path))
    if not size:  # or unknown: some HTTP servers do not say
        yield read_file(fs, path)
    for start in range(0, size, PIECE_BYTES):
        piece = read_range(fs, path, start, min(start + PIECE_BYTES, size))
        if len(piece) < min(PIECE_BYTES, size - start):
            raise StoreError(f"{fs.unstrip_protocol(path)}: became shorter while it was read")
        yield piece


def _size(fs: AbstractFileSystem, path: str) -> int:
    return int(fs.info(path).get("size") or 0)
