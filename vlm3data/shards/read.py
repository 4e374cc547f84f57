"""Reading shards: any sample by number, in one range read, checked against its hash."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, cast

import numpy as np
import orjson
import pyarrow as pa
import xxhash

from vlm3data.shards.index import DATASET, INDEX_ARROW
from vlm3data.shards.write import BLOCK, MANIFEST
from vlm3data.storage import is_local, list_files, open_store
from vlm3data.types import Sample, UserError

Draw = Callable[[list[dict[str, Any]]], list[dict[str, Any]]]


class CorruptSampleError(Exception):
    """The bytes of a sample are not those that were written; the message names shard, sample and offset."""


class Dataset:
    """A finished dataset of shards at `url`; cheap to open, picklable, safe to use after a fork.

    `len(dataset)` is the number of samples, `dataset[i]` reads one.
    """

    def __init__(self, url: str, name: str = "") -> None:
        self.url, self.name = url, name
        self._fs, self.directory = open_store(url)
        try:
            self.about: dict[str, Any] = orjson.loads(self._fs.cat_file(f"{self.directory}/{DATASET}"))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise UserError(_what_is_missing(self._fs, self.directory, url)) from error
        except orjson.JSONDecodeError as error:
            raise UserError(f"{url}/{DATASET} is damaged ({error}); run its `vlm3data build` again") from error

    def __len__(self) -> int:
        return self.about["samples"]

    def __reduce__(self) -> tuple[Any, ...]:
        return (Dataset, (self.url, self.name))

    @property
    def fingerprint(self) -> str:
        """Return the digest of the shards' hashes: two datasets with the same one hold the same bytes."""
        return self.about["fingerprint"]

    @cached_property
    def shard_sizes(self) -> np.ndarray:
        """Return the number of samples per shard, in order."""
        return np.bincount(self._place["shard"], minlength=len(self._shards))

    def missing_shards(self) -> list[str]:
        """Return the names of the shards that are listed but not there."""
        there = {path.rpartition("/")[2] for path in list_files(self._fs, self.directory, ".tar")}
        return [shard for shard in self.about["shards"] if shard not in there]

    def __getitem__(self, i: int) -> Sample:
        """Return sample `i` with all its stored questions."""
        return self.read(i)

    def read(self, i: int, epoch: int = 0, draw: Draw | None = None) -> Sample:
        """Return sample `i`; raise `CorruptSampleError` where its bytes do not match the index."""
        place = self._place
        shard, offset = int(place["shard"][i]), int(place["offset"][i])
        block = self._block(shard, offset, int(place["length"][i]))
        if xxhash.xxh3_64_intdigest(block) != int(place["xxh3"][i]):
            raise CorruptSampleError(f"{self.directory}/{self._shards[shard]}: sample {i} at byte {offset} is damaged")
        key, images, record = split_block(block)
        return Sample(key=key, images=images, record_json=record, dataset=self.name, epoch=epoch, draw=draw)

    @cached_property
    def _place(self) -> dict[str, np.ndarray]:
        table = self._index
        return {name: table[name].chunk(0).to_numpy() for name in table.column_names} if table.num_rows else _EMPTY

    @cached_property
    def _shards(self) -> list[str]:
        return orjson.loads(self._index.schema.metadata[b"shards"])

    @cached_property
    def _index(self) -> pa.Table:
        path = f"{self.directory}/{INDEX_ARROW}"
        # Mapped, a local index costs no memory of its own, whatever its length and however many workers read it.
        source = pa.memory_map(path) if is_local(self._fs) else pa.BufferReader(self._fs.cat_file(path))
        return pa.ipc.open_file(source).read_all()

    @cached_property
    def _maps(self) -> dict[int, mmap.mmap]:
        return {}

    def _block(self, shard: int, offset: int, length: int) -> bytes | memoryview:
        if not is_local(self._fs):
            path = f"{self.directory}/{self._shards[shard]}"
            return cast("bytes", self._fs.cat_file(path, offset, offset + length))
        if shard not in self._maps:
            descriptor = os.open(f"{self.directory}/{self._shards[shard]}", os.O_RDONLY)
            try:
                self._maps[shard] = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
            finally:
                os.close(descriptor)
        return memoryview(self._maps[shard])[offset : offset + length]


def read_samples(url: str) -> Iterator[Sample]:
    """Yield every sample of the dataset at `url`, in the order it was written, all stored questions in each."""
    dataset = Dataset(url)
    for i in range(len(dataset)):
        yield dataset[i]


def split_block(block: bytes | memoryview) -> tuple[str, tuple[bytes, ...], bytes]:
    """Return key, images and JSON of the sample whose tar members `block` holds."""
    images, record, key, at = [], b"", "", 0
    view = memoryview(block)
    while at < len(view):
        header = bytes(view[at : at + 136])  # name: bytes 0-99; size in octal: bytes 124-135 (POSIX ustar)
        name = header[:100].rstrip(b"\0")
        size = int(header[124:135], 8)
        data = bytes(view[at + BLOCK : at + BLOCK + size])
        if name.endswith(b".json"):
            record, key = data, name[:-5].decode()
        else:
            images.append(data)
        at += BLOCK + size + -size % BLOCK
    return key, tuple(images), record


_EMPTY = {name: np.empty(0, np.uint64) for name in ("shard", "offset", "length", "xxh3")}


def _what_is_missing(fs: Any, directory: str, url: str) -> str:
    if not fs.exists(directory):
        return f"no dataset at {url}: there is no such directory; build it with `vlm3data build ... --out {url}`"
    if list_files(fs, directory, MANIFEST):
        return f"the dataset at {url} is half built (no {DATASET}): run its `vlm3data build` again to finish it"
    return f"no dataset at {url}: there is no {DATASET} in it"
