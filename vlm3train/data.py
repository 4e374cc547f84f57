"""From the stream to a trainer: local batches whose content depends on the position alone.

Accelerate would shard a stream that already knows its rank a second time, or cut image patches as if they
were samples. So it never sees this one: every process builds a plain DataLoader over its own share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from vlm3data.mixture import Mixture
from vlm3data.stream import open_stream
from vlm3data.types import Sample, UserError


@dataclass(frozen=True, slots=True)
class Layout:
    """How a global batch is cut: which process this is, of how many, and the batch each of them takes."""

    rank: int
    world_size: int
    batch_size: int

    def position(self, batches: int) -> int:
        """Return the stream position that follows after every process has had `batches` local batches."""
        return batches * self.batch_size * self.world_size


class LocalBatches(IterableDataset[list[Sample]]):
    """The endless batches of one process from stream position `start` on, whatever its number of workers."""

    def __init__(self, mixture: Mixture, layout: Layout, start: int) -> None:
        # Mistakes show here, and polars, which does not survive a fork, has done its part before there are workers.
        mixture.schedule()
        self.mixture, self.layout, self.start = mixture, layout, start

    def __iter__(self) -> Iterator[list[Sample]]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        return local_batches(self.mixture, self.layout, self.start, worker, workers)


def local_batches(
    mixture: Mixture, layout: Layout, start: int, worker: int = 0, workers: int = 1
) -> Iterator[list[Sample]]:
    """Yield the local batches `worker`, `worker + workers`, ... from position `start`, a global batch's first.

    A DataLoader takes from its workers in turn, so the batches arrive in the order they would have
    without any. Each place in a batch is a stream of its own, so that no worker reads what it does not use.
    """
    stride = layout.position(workers)
    first = start + layout.position(worker) + layout.rank
    places = [
        open_stream(mixture, rank=place % stride, world_size=stride, start=place)
        for place in range(first, first + layout.batch_size * layout.world_size, layout.world_size)
    ]
    while True:
        yield [next(place)[1] for place in places]


class StreamLoader(DataLoader[Any]):
    """A loader that raises what a worker refused as it was meant: torch would wrap it in a traceback."""

    def __iter__(self) -> Any:
        for batch in super().__iter__():
            if isinstance(batch, UserError):
                raise batch
            yield batch


@dataclass(frozen=True, slots=True)
class _Carried:
    """A collate function whose `UserError` travels as a batch does."""

    collate: Callable[[Sequence[Sample]], Any]

    def __call__(self, samples: Sequence[Sample]) -> Any:
        try:
            return self.collate(samples)
        except UserError as error:
            return error


def make_loader(batches: LocalBatches, collate: Callable[[Sequence[Sample]], Any], workers: int) -> StreamLoader:
    """Return a loader that yields collated local batches; decoding and tokenising happen in the workers."""
    return StreamLoader(
        batches,
        batch_size=None,
        collate_fn=_Carried(collate),
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        prefetch_factor=4 if workers else None,
    )
