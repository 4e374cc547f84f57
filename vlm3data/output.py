"""The directory that a build writes to: whose it is, and that nobody else writes there meanwhile."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Generator
from pathlib import Path

from fsspec import AbstractFileSystem

from vlm3data.growth import Built, built_by
from vlm3data.plan import PLAN, Plan
from vlm3data.storage import TEMPORARY, create_remote, is_local, list_files, open_store, read_whole, write_whole
from vlm3data.types import UserError

OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "memory"})
"""They have no directories to be made; some would make a bucket instead."""


@contextlib.contextmanager
def open_output(out: str) -> Generator[tuple[AbstractFileSystem, str]]:
    """Yield file system and directory of `out`, which is made.

    A local directory is locked meanwhile, and cleared of what a killed build had begun to write. On an object store two
    builds of the same plan write the same bytes, and of two other plans the second is refused (`claim`).
    """
    fs, directory = open_store(out)
    if not is_local(fs):
        if not OBJECT_STORES & {fs.protocol, *fs.protocol}:
            fs.makedirs(directory, exist_ok=True)
        yield fs, directory
        return
    Path(directory).mkdir(parents=True, exist_ok=True)
    with _locked(directory, out) as ours:
        try:
            if ours:
                _clear(fs, directory)
            yield fs, directory
        finally:
            if ours:
                _clear(fs, directory)


def plan_at(fs: AbstractFileSystem, directory: str, out: str) -> Built | None:
    """Return the plan by which the shards at `out` were made, if there is one."""
    try:
        return built_by(out, read_whole(fs, f"{directory}/{PLAN}"))
    except (FileNotFoundError, NotADirectoryError):
        return None


def claim(fs: AbstractFileSystem, directory: str, plan: Plan, built: Built | None, out: str) -> None:
    """Write the plan to `out`, where `built` is until now; UserError where another build was faster."""
    data, path = Path(plan.path).read_bytes(), f"{directory}/{PLAN}"
    if built is not None and data == built.data:
        return
    if is_local(fs) or built is not None:
        write_whole(fs, path, data)
    elif not create_remote(fs, path, data) and read_whole(fs, path) != data:
        raise UserError(f"{out}: another build began to write there at this moment; choose another --out")


@contextlib.contextmanager
def _locked(directory: str, out: str) -> Generator[bool]:
    """Hold the directory's lock, which ends with this process; False where its file system has none."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno == errno.EWOULDBLOCK:
                raise UserError(
                    f"{out}: another build writes there now; wait for it, or choose another --out"
                ) from error
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def _clear(fs: AbstractFileSystem, directory: str) -> None:
    for path in list_files(fs, directory, TEMPORARY):
        Path(path).unlink(missing_ok=True)
