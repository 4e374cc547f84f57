"""Reading and writing whole files at any fsspec URL; a path without a scheme is a local one.

What a network does for a moment is waited out (`vlm3data.retries`). A file that is written appears whole or not at all.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import BinaryIO, cast
from uuid import uuid4

import fsspec
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from vlm3data.errors import UsageError
from vlm3data.retries import StoreError, persist
from vlm3data.types import Drop, UserError

TEMPORARY = ".tmp"
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def open_store(url: str) -> tuple[AbstractFileSystem, str]:
    """Return the file system of `url` and the path on it, without a trailing slash."""
    try:
        fs, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise UserError(f"cannot open {url!r}: {error}") from error
    return fs, path.rstrip("/")


def open_root(root: str, what: str = "directory") -> tuple[AbstractFileSystem, str]:
    """Return file system and path of a dataset, `root`, which has to be there: a directory, or whatever `what` says."""
    if not root:
        raise UsageError("--root is missing: say where the dataset lies")
    fs, path = open_store(root)
    if not (fs.isdir(path) if what == "directory" else fs.exists(path)):
        raise UserError(f"--root {root}: there is no such {what}")
    return fs, path


def absolute(url: str) -> str:
    """Return `url`, a local path among them made independent of the working directory; empty stays empty."""
    return url if not url or "://" in url or "::" in url else str(Path(url).absolute())


def list_files(fs: AbstractFileSystem, directory: str, suffix: str) -> list[str]:
    """Return the paths in `directory` that end in `suffix`, sorted; none where there is no such directory.

    Not a glob: directories may have brackets in their names.
    """

    def attempt() -> list[str]:
        fs.invalidate_cache(directory)  # others write there, too
        return sorted(str(path) for path in fs.ls(directory, detail=False) if str(path).endswith(suffix))

    try:
        if is_local(fs):
            return attempt()
        return persist(attempt, fs.unstrip_protocol(directory), doing=("listed", "listing"))
    except (FileNotFoundError, NotADirectoryError):
        return []


def is_local(fs: AbstractFileSystem) -> bool:
    """Tell whether `fs` is this machine's own file system, where files can be mapped and renamed."""
    return isinstance(fs, LocalFileSystem)


def read_whole(fs: AbstractFileSystem, path: str, first: int | None = None) -> bytes:
    """Return the bytes of a file, or its `first` ones.

    Raises FileNotFoundError where there is none, StoreError where a remote store does not give it.
    """
    if not is_local(fs):
        # By name: s3fs has another argument in their place.
        where = {} if first is None else {"start": 0, "end": first}
        return persist(lambda: cast("bytes", fs.cat_file(path, **where)), fs.unstrip_protocol(path))
    if first is None:  # fsspec's own way to a local file costs as much as reading it
        return Path(path).read_bytes()
    with Path(path).open("rb") as file:
        return file.read(first)


def path_below(root: str, name: str) -> str:
    """Return the path of the file that a dataset names `name`, relative to `root`.

    Raises Drop: path_leaves_root, also for a name with a NUL: what reads only up to it would open another file.
    """
    relative = posixpath.normpath(name)
    if relative == ".." or relative.startswith(("/", "../")) or "\0" in relative:
        raise Drop("path_leaves_root", name)
    return posixpath.join(root, relative)


def read_below(fs: AbstractFileSystem, root: str, name: str, what: str, first: int | None = None) -> bytes:
    """Return the bytes of the file that a dataset names `name`, relative to `root`; `what` says what it should be.

    With `first` only as many bytes from its beginning.

    Raises Drop: path_leaves_root, <what>_missing, <what>_unreadable.
    """
    path = path_below(root, name)
    try:
        return read_whole(fs, path, first)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise Drop(f"{what}_missing", path) from error
    except (OSError, ValueError) as error:  # no permission, a loop of links, a name that cannot be
        raise Drop(f"{what}_unreadable", f"{path}: {error}") from error


def write_whole(fs: AbstractFileSystem, path: str, data: bytes) -> None:
    """Write a small file so that it is there whole or not at all, also if we are killed meanwhile."""
    if is_local(fs):
        with open_whole(fs, path) as file:
            file.write(data)
    else:  # one put: an object store shows it only when it is complete
        _send(fs, path, lambda: fs.pipe_file(path, data))


def create_remote(fs: AbstractFileSystem, path: str, data: bytes) -> bool:
    """Write a small file to a remote store where there is none yet; return False where there is one.

    Of two that do this at once only one succeeds, where the store can tell (S3).
    """
    try:
        _send(fs, path, lambda: fs.pipe_file(path, data, mode="create"))
    except StoreError as error:
        if isinstance(error.__cause__, FileExistsError):
            return False
        raise
    return True


@contextlib.contextmanager
def open_whole(fs: AbstractFileSystem, path: str) -> Generator[BinaryIO]:
    """Open a large file to be written: it is there, whole, when the block is left without an exception.

    A local file is written beside its place, under a name that nobody else uses; what goes to a remote store is
    collected on this machine first, so that sending it can be tried again. Raises StoreError where there is no room.
    """
    try:
        if is_local(fs):
            with _beside(Path(path)) as file:
                yield file
        else:
            with cast("BinaryIO", tempfile.TemporaryFile()) as file:
                yield file
                file.flush()
                # It has no name, so that nothing is left of it however we end.
                _send(fs, path, lambda: fs.put_file(f"/dev/fd/{file.fileno()}", path))
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        where = path if is_local(fs) else f"{fs.unstrip_protocol(path)}, collected in {tempfile.gettempdir()}"
        raise StoreError(f"{where}: cannot be written: {os.strerror(error.errno)}") from error


@contextlib.contextmanager
def _beside(path: Path) -> Generator[BinaryIO]:
    temporary = path.with_name(f"{path.name}.{uuid4().hex[:8]}{TEMPORARY}")
    try:
        with temporary.open("wb") as file:
            yield cast("BinaryIO", file)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _send(fs: AbstractFileSystem, path: str, attempt: Callable[[], object]) -> None:
    url = fs.unstrip_protocol(path)
    try:
        persist(attempt, url, doing=("written", "writing"))
    except FileNotFoundError as error:
        raise StoreError(f"{url}: there is no such bucket or directory") from error
