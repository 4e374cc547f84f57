"""Reading parts of files in any store, however often that takes (`vlm3data.retries`)."""

from __future__ import annotations

import threading
from typing import cast

from fsspec import AbstractFileSystem

from vlm3data.retries import ShortRead, StoreError, is_transient, persist
from vlm3data.storage import read_whole as read_file

__all__ = ["StoreError", "is_transient", "read_file", "read_range"]


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


def _size(fs: AbstractFileSystem, path: str) -> int:
    return int(fs.info(path).get("size") or 0)
