"""Reading shards: any sample by number, in one range read, checked against its hash.

Local shards are mapped. What comes over a network may be fetched before it is asked for (`fetch`), and is then handed
to `read`; samples that lie side by side are fetched at once.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import xxhash
from fsspec import AbstractFileSystem

from vlm3data.shards.cache import ShardCache, index_cache
from vlm3data.shards.checked import about_from, check_places, check_record, damage_named, manifest_from
from vlm3data.shards.index import DATASET, INDEX_ARROW, INDEX_PARQUET, PLACE
from vlm3data.shards.original import Unifier, Unify
from vlm3data.shards.ranges import StoreError, read_file, read_pieces, read_range
from vlm3data.shards.write import BLOCK, MANIFEST
from vlm3data.storage import is_local, list_files, open_store
from vlm3data.types import Sample, UserError

Draw = Callable[[list[dict[str, Any]]], list[dict[str, Any]]]


NEAR_BYTES, AT_ONCE_BYTES = 64 << 10, 8 << 20
"""Samples of a shard with gaps up to the first are fetched at once, as long as they stay within the second."""


class CorruptSampleError(Exception):
    """The bytes of a sample are not those that were written; the message names shard, sample and offset."""


class Where(NamedTuple):
    """Where a sample lies: in which shard, and at which bytes of it; `xxh3` is what they must hash to."""

    shard: int
    offset: int
    length: int
    xxh3: int

    @property
    def end(self) -> int:
        """Return the first byte behind the sample."""
        return self.offset + self.length


class Dataset:
    """A finished dataset of shards at `url`; cheap to open, picklable, safe to use after a fork.

    `len(dataset)` is the number of samples, `dataset[i]` reads one. A `cache` keeps what comes over a network.
    """

    def __init__(self, url: str, name: str = "", cache: ShardCache | None = None, unify: Unify | None = None) -> None:
        """Open the dataset; `unify` says how images are seen where the shards hold the source's own.

        Raises UserError where there is no finished dataset, and for another focal length or alignment than that of
        shards with unified images.
        """
        self.url, self.name, self._cache, self.unify = url, name, cache, unify or Unify()
        self._store, self._opened_by = open_store(url), os.getpid()
        self.is_local = is_local(self._fs)
        try:
            data = read_file(self._fs, f"{self.directory}/{DATASET}")
        except (FileNotFoundError, NotADirectoryError) as error:
            raise UserError(_what_is_missing(self._fs, self.directory, url)) from error
        self.about: dict[str, Any] = about_from(data, f"{url}/{DATASET}")
        if not self.is_original:
            with damage_named(f"{url}/{DATASET}"):
                _refuse_to_unify(url, self.unify, self.about)

    def __len__(self) -> int:
        return self.about["samples"]

    def __reduce__(self) -> tuple[Any, ...]:
        return (Dataset, (self.url, self.name, self._cache, self.unify))

    @property
    def is_original(self) -> bool:
        """Tell whether the shards hold the source's own images, which are unified when they are read."""
        return self.about.get("config", {}).get("store") == "original"

    @cached_property
    def unifier(self) -> Unifier | None:
        """Return what unifies samples when they are read; None where the shards hold unified images."""
        if not self.is_original:
            return None
        with damage_named(f"{self.url}/{DATASET}"):
            return Unifier(self.url, self.about, self.unify)

    @property
    def directory(self) -> str:
        """Return where the dataset lies on its file system."""
        return self._store[1]

    @property
    def _fs(self) -> AbstractFileSystem:
        if self._opened_by != os.getpid():  # fsspec's remote file systems have a thread, which a fork leaves behind
            self._store, self._opened_by = open_store(self.url), os.getpid()
        return self._store[0]

    @property
    def fingerprint(self) -> str:
        """Return the digest of the shards' hashes: two datasets with the same one hold the same bytes."""
        return self.about["fingerprint"]

    @cached_property
    def shard_sizes(self) -> np.ndarray:
        """Return the number of samples per shard, in order."""
        shards, many = self._place["shard"], len(self._shards)
        if len(shards) and shards.max() >= many:
            raise UserError(f"{self.directory}/{INDEX_ARROW}: is damaged: it has samples in shards that are not listed")
        return np.bincount(shards, minlength=many)

    def missing_shards(self) -> list[str]:
        """Return the names of the shards that are listed but not there."""
        there = {path.rpartition("/")[2] for path in list_files(self._fs, self.directory, ".tar")}
        return [shard for shard in self.about["shards"] if shard not in there]

    def index_parquet(self) -> str | bytes:
        """Return the index of what the samples are: the path of the file where it is on this machine, or its bytes."""
        return self._file(INDEX_PARQUET)

    def __getitem__(self, i: int) -> Sample:
        """Return sample `i` as a model sees it with all its stored questions, its record checked, as `read` does not.

        Raises what `read` does.
        """
        sample = self.stored(i)
        try:
            check_record(sample.record)
        except ValueError as error:
            raise self._corrupt(i, f"is no sample of ours ({error})") from error
        return sample if self.unifier is None else self.unifier(sample)

    def read(self, i: int, epoch: int = 0, draw: Draw | None = None, block: bytes | None = None) -> Sample:
        """Return sample `i` as a model sees it, out of `block` where it was fetched before.

        Raises Drop where it is unified only now and nothing is left of it, and as `stored` does.
        """
        sample = self.stored(i, epoch, draw, block)
        return sample if self.unifier is None else self.unifier(sample)

    def stored(self, i: int, epoch: int = 0, draw: Draw | None = None, block: bytes | None = None) -> Sample:
        """Return sample `i` as the shard holds it, whether its image is unified or not.

        Raises `CorruptSampleError` where its bytes do not match the index, StoreError where they cannot be had.
        """
        where = self.where(i)
        data = block if block is not None else self._mapped(where) if self.is_local else self.fetch([i])[0]
        if xxhash.xxh3_64_intdigest(data) != where.xxh3:
            # Once more, past the cache: what was damaged on the way is not damaged in the store.
            data = b"" if self.is_local else self._range(where.shard, where.offset, where.end)
            if xxhash.xxh3_64_intdigest(data) != where.xxh3:
                raise self._corrupt(i, "is damaged")
        try:
            key, images, record = split_block(data)
        except ValueError as error:  # written like this: its hash is right
            raise self._corrupt(i, f"is no sample of ours ({error})") from error
        return Sample(key=key, images=images, record_json=record, dataset=self.name, epoch=epoch, draw=draw)

    def where(self, i: int) -> Where:
        """Return where sample `i` lies."""
        shard, offset, length, xxh3 = self._columns
        return Where(shard[i], offset[i], length[i], xxh3[i])

    def key(self, i: int) -> tuple[str, str]:
        """Return shard and key of sample `i` as its manifest has them: its own bytes may be damaged.

        Where the manifest is damaged too, the number stands for the key.
        """
        where = self.where(i)
        try:
            members = self.manifest(where.shard)["members"]
        except (UserError, FileNotFoundError, IndexError):
            members = []
        keys = (member["key"] for member in members if member["offset"] == where.offset)
        return self._shard(where), next(keys, f"sample {i}")

    def manifest(self, shard: int) -> dict[str, Any]:
        """Return the manifest of a shard by its number: hash, counts, what was left out, where its members lie."""
        path = f"{self.directory}/{self._shards[shard].removesuffix('.tar')}{MANIFEST}"
        return manifest_from(read_file(self._fs, path), path)

    def fetch(self, samples: Sequence[int], closed: threading.Event | None = None) -> list[bytes]:
        """Return the bytes of samples in a remote store, unchecked, those side by side out of one request.

        Gives up where `closed` is set. Raises StoreError.
        """
        places = [self.where(i) for i in samples]
        blocks = {place: block for place in places if (block := self._cached(place)) is not None}
        for run in runs(place for place in places if place not in blocks):
            first, end = run[0].offset, max(place.end for place in run)
            data = self._range(run[0].shard, first, end, closed)
            for place in run:
                blocks[place] = data[place.offset - first : place.end - first] if len(run) > 1 else data
                self._keep(place, blocks[place])
        return [blocks[place] for place in places]

    @cached_property
    def _place(self) -> dict[str, np.ndarray]:
        table = self._index
        return {name: table[name].chunk(0).to_numpy() for name in table.column_names} if table.num_rows else _EMPTY

    @cached_property
    def _columns(self) -> list[memoryview]:
        # A memoryview gives a plain int three times as fast as numpy does.
        return [self._place[name].data for name in Where._fields]

    @cached_property
    def _shards(self) -> list[str]:
        return orjson.loads(self._index.schema.metadata[b"shards"])

    @cached_property
    def _index(self) -> pa.Table:
        with damage_named(f"{self.directory}/{INDEX_ARROW}"), self._not_kept_if_damaged(INDEX_ARROW):
            found = self._file(INDEX_ARROW)
            # Mapped, an index costs no memory of its own, whatever its length and however many workers read it.
            source = pa.memory_map(found) if isinstance(found, str) else pa.BufferReader(found)
            table = pa.ipc.open_file(source).read_all()
            check_places(table, PLACE, self.about)
            return table

    def _file(self, name: str) -> str | bytes:
        path = f"{self.directory}/{name}"
        if self.is_local:
            return path
        cache = self._cache or index_cache()
        kept = cache and cache.whole(f"{self.fingerprint}/{name}", lambda: read_pieces(self._fs, path))
        return read_file(self._fs, path) if kept is None else str(kept)

    @contextmanager
    def _not_kept_if_damaged(self, name: str) -> Generator[None]:
        try:
            yield
        except Exception:
            if not self.is_local and (cache := self._cache or index_cache()) is not None:
                cache.forget(f"{self.fingerprint}/{name}")
            raise

    @cached_property
    def _maps(self) -> dict[int, memoryview]:
        return {}

    def _shard(self, where: Where) -> str:
        """Return the name of the shard, or what the damaged index says of it."""
        return self._shards[where.shard] if where.shard < len(self._shards) else f"shard {where.shard}"

    def _corrupt(self, i: int, what: str) -> CorruptSampleError:
        where = self.where(i)
        return CorruptSampleError(f"{self.directory}/{self._shard(where)}: sample {i} at byte {where.offset} {what}")

    def _mapped(self, where: Where) -> memoryview:
        view = self._maps.get(where.shard)
        if view is None:
            view = self._maps[where.shard] = self._map(where.shard)
        return view[where.offset : where.end]

    def _map(self, shard: int) -> memoryview:
        if shard >= len(self._shards):
            return memoryview(b"")
        path = f"{self.directory}/{self._shards[shard]}"
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError as error:
            raise StoreError(f"{path}: there is no such file") from error
        try:
            there = os.fstat(descriptor).st_size
            return memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) if there else b"")
        finally:
            os.close(descriptor)

    def _range(self, shard: int, start: int, end: int, closed: threading.Event | None = None) -> bytes:
        return read_range(self._fs, f"{self.directory}/{self._shards[shard]}", start, end, closed)

    def _cached(self, where: Where) -> bytes | None:
        if self._cache is None:
            return None
        return self._cache.read(f"{self.fingerprint}/{self._shards[where.shard]}", *where[1:])

    def _keep(self, where: Where, block: bytes) -> None:
        if self._cache is not None and xxhash.xxh3_64_intdigest(block) == where.xxh3:
            self._cache.write(f"{self.fingerprint}/{self._shards[where.shard]}", where.offset, block)


def runs(places: Iterable[Where]) -> list[list[Where]]:
    """Return the places in groups that one request each can serve, in the order of the shards."""
    groups: list[list[Where]] = []
    for place in sorted(set(places)):
        last = groups[-1] if groups else None
        if (
            last
            and last[0].shard == place.shard
            and place.offset - last[-1].end <= NEAR_BYTES
            and place.end - last[0].offset <= AT_ONCE_BYTES
        ):
            last.append(place)
        else:
            groups.append([place])
    return groups


def read_samples(url: str) -> Iterator[Sample]:
    """Yield every sample of the dataset at `url`, in the order it was written, all stored questions in each."""
    dataset = Dataset(url)
    for i in range(len(dataset)):
        yield dataset[i]


def split_block(block: bytes | memoryview) -> tuple[str, tuple[bytes, ...], bytes]:
    """Return key, images and JSON of the sample whose tar members `block` holds; raises ValueError."""
    images, record, key, at, end = [], b"", "", 0, len(block)
    if end % BLOCK:
        raise ValueError(f"a block of {end} bytes")
    while at < end:
        name, octal = _HEADER.unpack_from(block, at)
        size, at = int(octal, 8), at + BLOCK
        if not 0 <= size <= end - at:
            raise ValueError(f"a member of {size} bytes in a block of {end}")
        data = bytes(block[at : at + size])
        name = name.rstrip(b"\0")
        if name.endswith(b".json"):
            record, key = data, name[:-5].decode()
        else:
            images.append(data)
        at += size + -size % BLOCK
    return key, tuple(images), record


_HEADER = struct.Struct("100s24x11s")
"""Of a tar's member: its name, and at byte 124 its size in octal (POSIX ustar)."""
_EMPTY = {name: np.empty(0, np.uint64) for name in ("shard", "offset", "length", "xxh3")}


def _refuse_to_unify(url: str, unify: Unify, about: dict[str, Any]) -> None:
    """Raise UserError where unified images would have to be seen otherwise than they are."""
    for key, value in unify._asdict().items():
        if value is not None and value != about["config"][key]:
            raise UserError(
                f"{key} {value}: the images in {url} were unified to {about['config'][key]} when they were built; "
                "another one takes a dataset built with --store original"
            )


def _what_is_missing(fs: Any, directory: str, url: str) -> str:
    if fs.isfile(directory):
        return f"no dataset at {url}: it is a file; name the directory that `vlm3data build` wrote"
    if not fs.exists(directory):
        return f"no dataset at {url}: there is no such directory; build it with `vlm3data build ... --out {url}`"
    if list_files(fs, directory, MANIFEST):
        return f"the dataset at {url} is half built (no {DATASET}): run its `vlm3data build` again to finish it"
    return f"no dataset at {url}: there is no {DATASET} in it; name the directory that `vlm3data build` wrote"
