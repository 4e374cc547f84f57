"""Reading and writing whole files at any fsspec URL; a path without a scheme is a local one."""

from __future__ import annotations

import posixpath
from pathlib import Path
from typing import Any, cast

import fsspec
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from vlm3data.types import Drop, UserError


def open_store(url: str) -> tuple[AbstractFileSystem, str]:
    """Return the file system of `url` and the path on it, without a trailing slash."""
    try:
        fs, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise UserError(f"cannot open {url!r}: {error}") from error
    return fs, path.rstrip("/")


def absolute(url: str) -> str:
    """Return `url`, a local path among them made independent of the working directory; empty stays empty."""
    return url if not url or "://" in url or "::" in url else str(Path(url).absolute())


def list_files(fs: AbstractFileSystem, directory: str, suffix: str) -> list[str]:
    """Return the paths in `directory` that end in `suffix`, sorted; none where there is no such directory.

    Not a glob: directories may have brackets in their names.
    """
    try:
        return sorted(str(path) for path in fs.ls(directory, detail=False) if str(path).endswith(suffix))
    except (FileNotFoundError, NotADirectoryError):
        return []


def is_local(fs: AbstractFileSystem) -> bool:
    """Tell whether `fs` is this machine's own file system, where files can be mapped and renamed."""
    return isinstance(fs, LocalFileSystem)


def read_whole(fs: AbstractFileSystem, path: str, first: int | None = None) -> bytes:
    """Return the bytes of a file, or its `first` ones; FileNotFoundError where there is none."""
    if not is_local(fs):
        # By name: s3fs has another argument in their place.
        return cast("bytes", fs.cat_file(path) if first is None else fs.cat_file(path, start=0, end=first))
    if first is None:  # fsspec's own way to a local file costs as much as reading it
        return Path(path).read_bytes()
    with Path(path).open("rb") as file:
        return file.read(first)


def path_below(root: str, name: str) -> str:
    """Return the path of the file that a dataset names `name`, relative to `root`; raises Drop: path_leaves_root."""
    relative = posixpath.normpath(name)
    if relative == ".." or relative.startswith(("/", "../")):
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
    if not is_local(fs):
        fs.pipe_file(path, data)  # one put: an object store shows it only when it is complete
        return
    temporary = f"{path}.tmp"
    with cast("Any", fs.open(temporary, "wb")) as file:
        file.write(data)
    fs.mv(temporary, path)
