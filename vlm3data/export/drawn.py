"""Which samples are exported, and in which order: those of a dataset, or what a mixture's stream draws."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import xxhash

from vlm3data.mixture import Mixture
from vlm3data.selection import Selection, select
from vlm3data.shards import CorruptSampleError, Dataset
from vlm3data.stream import open_stream
from vlm3data.types import Sample, UserError

SPEC_SUFFIXES = (".yaml", ".yml", ".json")
FILES_PER_FOLDER = 1000
"""About: folders with a million files are slow to list, and some stores refuse them."""


class Item(NamedTuple):
    """One sample of an export."""

    id: str
    """Unique in the export: the key, in a mixture with the position before it, since samples come again."""
    folder: str
    """Where its images go, below `images`; the same whenever the sample comes again."""
    sample: Sample


@dataclass(frozen=True)
class Drawn:
    """What is exported."""

    request: dict[str, Any]
    """What the samples follow from, in plain JSON values: equal requests give equal bytes."""
    total: int
    items: Callable[[], Iterator[Item]]


def is_spec(what: str) -> bool:
    """Tell whether `what` names a mixture's file rather than a directory of shards."""
    return what.endswith(SPEC_SUFFIXES)


def of_shards(url: str, split: str | None, limit: int | None) -> Drawn:
    """Return the samples of the dataset at `url` in their order with all their questions; a limit draws at random."""
    dataset = Dataset(url)
    selection = Selection(split=split, limit=limit)
    numbers = np.arange(len(dataset)) if selection.is_everything else select(dataset, selection)
    if not len(numbers):
        raise UserError(f"{url}: there are no samples with {selection}")

    def items() -> Iterator[Item]:
        for i in numbers.tolist():
            try:
                sample = dataset[i]
            except CorruptSampleError as error:
                raise UserError(
                    f"{error}; build that shard again (`vlm3data verify {url}` lists all of them)"
                ) from error
            yield Item(sample.key, _bucket(sample.key, len(numbers)), sample)

    return Drawn({"shards": dataset.fingerprint, "selection": str(selection)}, len(numbers), items)


def of_mixture(path: str, samples: int) -> Drawn:
    """Return the first `samples` positions of a mixture's stream, with the questions drawn there."""
    mixture = Mixture.load(path)
    names = dict.fromkeys(part.name.partition("#")[0] for part in mixture.parts)
    folders = {name: f"{place:02d}-{_plain(name)}" for place, name in enumerate(names)}

    def items() -> Iterator[Item]:
        with open_stream(mixture) as stream:
            for n, sample in islice(stream, samples):
                bucket = _bucket(sample.key, samples)
                yield Item(f"{n}:{sample.key}", f"{folders[sample.dataset]}/{bucket}".rstrip("/"), sample)

    return Drawn({"mixture": mixture.lock(), "samples": samples}, samples, items)


def _bucket(key: str, total: int) -> str:
    buckets = -(-total // FILES_PER_FOLDER)
    return f"{xxhash.xxh3_64_intdigest(key.encode()) % buckets:05d}" if buckets > 1 else ""


def _plain(name: str) -> str:
    return "".join(char if char.isalnum() and char.isascii() else "-" for char in name)
