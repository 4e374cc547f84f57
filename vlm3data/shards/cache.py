"""A cache of remote shards on this machine's disk: many processes, a limit, and nothing trusted but checksums.

A shard is kept as a sparse file of its own size, and a sample that was read is written where it lies in the shard. What
is there and what is not, nobody records: bytes whose xxh3 is not the one in the index count as missing, be they a hole,
half written by a process that died, or damaged since. So no write needs a lock, and what is read is never wrong. Only
samples that were really used take space, and a node that reads an eighth of a dataset keeps an eighth of it.

Past the limit, the shards that were not used for longest are deleted, by one process at a time. The limit is looked
after whenever a process has written a 64th of it (at most 64 MB), so that it may be passed by that much per process.

Without a cache in the mixture the indexes of its remote datasets are kept all the same, in `index_cache`: a machine
then has each once, and all its processes map it.
"""

from __future__ import annotations

import mmap
import os
import time
import warnings
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import filelock
import xxhash

from vlm3data.types import UserError

SPACE_LEFT = 0.9
"""Deleting goes on down to this share of the limit, so that it is not needed again at once."""
LOOK_AFTER_BYTES = 64_000_000
USED_AGAIN_S = 60
"""The time of a shard's last use is noted no more often than this."""
INDEX_LIMIT_BYTES = 20_000_000_000
"""Of the indexes that are kept without a mixture's asking; one of ten million samples has 240 MB."""


class _CannotKeepError(Exception):
    """This machine's disk does not take what should be kept on it."""


class ShardCache:
    """Files of remote datasets in `directory`, `limit_bytes` in all; as many processes as you like may share it."""

    def __init__(self, directory: str, limit_bytes: int) -> None:
        self.directory, self.limit_bytes = Path(os.path.expandvars(directory)).expanduser(), limit_bytes
        self._unnoticed = 0
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"the cache directory {self.directory} cannot be made: {error}") from error

    def read(self, name: str, offset: int, length: int, xxh3: int) -> bytes | None:
        """Return the bytes of a sample in the shard `name`, or None where they are not here, whole and sound."""
        try:
            file = os.open(self.directory / name, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            data = os.pread(file, length, offset)
            if xxhash.xxh3_64_intdigest(data) != xxh3:
                return None
            _note_use(file)
            return data
        finally:
            os.close(file)

    def write(self, name: str, offset: int, data: bytes) -> None:
        """Keep the bytes of a sample; a full disk is warned of, for nothing is lost but speed."""
        path = self.directory / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
            try:
                os.pwrite(file, data, offset)
            finally:
                os.close(file)
        except OSError as error:
            warnings.warn(
                f"the cache cannot keep what was read, which is read again when needed: {error}", stacklevel=2
            )
            return
        self._unnoticed += len(data)
        if self._unnoticed >= min(LOOK_AFTER_BYTES, self.limit_bytes // 64):
            self.look_after_limit()

    def whole(self, name: str, load: Callable[[], Iterable[bytes]]) -> Path | None:
        """Return the path of a whole file, its pieces by `load` where it is not here; None where it cannot be kept.

        Its checksum is in its name, and checked. Of many processes that want it at once, one loads it. That it cannot
        be kept is warned of; what `load` raises is raised.
        """
        try:
            with _on_disk():
                self.directory.mkdir(parents=True, exist_ok=True)
                lock = filelock.FileLock(self.directory / f".{name.replace('/', '-')}.lock")
                lock.acquire()
            try:
                return self._kept(name) or self._load(name, load())
            finally:
                lock.release()
        except _CannotKeepError as error:
            warnings.warn(
                f"{self.directory} cannot keep {name}, so each process holds it in memory: {error}; set VLM3_CACHE, or "
                "`cache` in the mixture, to a directory on a local disk",
                stacklevel=2,
            )
            return None

    def forget(self, name: str) -> None:
        """Delete a whole file that turned out not to be what it should be: the store is asked for it again."""
        for path in self._named(name):
            path.unlink(missing_ok=True)

    def _named(self, name: str) -> list[Path]:
        path = self.directory / name
        return sorted(path.parent.glob(f"{path.stem}-*{path.suffix}"))

    def _kept(self, name: str) -> Path | None:
        with _on_disk():
            for path in self._named(name):
                if _checksum(path) == path.stem.rpartition("-")[2]:
                    os.utime(path)
                    return path
                path.unlink(missing_ok=True)
        return None

    def _load(self, name: str, pieces: Iterable[bytes]) -> Path:
        with _on_disk():
            self.look_after_limit()  # now: what comes next is what was used last, and stays
            path = self.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(f".{os.getpid()}.tmp")
            file = temporary.open("wb")
        checksum = xxhash.xxh3_64()
        try:
            with file:
                for piece in pieces:
                    checksum.update(piece)
                    with _on_disk():
                        file.write(piece)
                with _on_disk():
                    file.flush()
            with _on_disk():
                return temporary.replace(path.with_stem(f"{path.stem}-{checksum.hexdigest()}"))
        finally:
            temporary.unlink(missing_ok=True)

    def look_after_limit(self) -> None:
        """Delete what was not used for longest, if there is too much; at once back where another process is at it."""
        self._unnoticed = 0
        try:
            with filelock.FileLock(self.directory / ".lock", blocking=False):
                self._make_room()
        except filelock.Timeout:
            return

    def _make_room(self) -> None:
        found = [(path, stat) for path in self.directory.glob("*/*") if (stat := _stat(path)) is not None]
        used = sum(_held(stat) for _, stat in found)
        if used <= self.limit_bytes:
            return
        for path, stat in sorted(found, key=lambda entry: entry[1].st_mtime_ns):
            path.unlink(missing_ok=True)
            used -= _held(stat)
            if used <= SPACE_LEFT * self.limit_bytes:
                return


@contextmanager
def _on_disk() -> Generator[None]:
    try:
        yield
    except (OSError, NotImplementedError) as error:  # the latter from file systems without locks
        raise _CannotKeepError(str(error)) from error


def index_cache() -> ShardCache | None:
    """Return where indexes are kept that no mixture's cache keeps; None, with a warning, where there is no place.

    `VLM3_CACHE` names the directory; by default it is `vlm3/index` in the user's cache directory.
    """
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return _index_cache(os.environ.get("VLM3_CACHE") or f"{home}/vlm3/index")


@cache
def _index_cache(directory: str) -> ShardCache | None:
    try:
        return ShardCache(directory, INDEX_LIMIT_BYTES)
    except UserError as error:
        warnings.warn(
            f"{error}; each process holds the indexes of remote datasets in memory; set VLM3_CACHE, or `cache` in the "
            "mixture, to a directory on a local disk",
            stacklevel=2,
        )
        return None


def _checksum(path: Path) -> str:
    """Return the xxh3 of a file, or nothing's where it is empty or was deleted meanwhile."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return xxhash.xxh3_64_hexdigest(data)
    except (FileNotFoundError, ValueError):
        return ""


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:  # another process was faster
        return None


def _held(stat: os.stat_result) -> int:
    """Return the bytes a file takes on the disk, its holes not counted."""
    return stat.st_blocks * 512


def _note_use(file: int) -> None:
    stat = os.fstat(file)
    now = time.time_ns()
    if now - stat.st_mtime_ns > USED_AGAIN_S * 10**9:
        os.utime(file, ns=(now, now))
