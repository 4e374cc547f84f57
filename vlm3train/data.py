"""From the stream to a trainer: local batches whose content depends on the position alone.

Accelerate would shard a stream that already knows its rank a second time, or cut image patches as if they
were samples. So it never sees this one: every process builds a plain DataLoader over its own share.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple

import cv2
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from vlm3data.mixture import Mixture
from vlm3data.skips import Skip
from vlm3data.stream import Stream
from vlm3data.types import Sample, UserError
from vlm3train.image_sizes import ImageSizes


@dataclass(frozen=True, slots=True)
class Layout:
    """How a global batch is cut: which process this is, of how many, and the batch each of them takes."""

    rank: int
    world_size: int
    batch_size: int
    grad_accum: int = 1

    def position(self, batches: int) -> int:
        """Return the stream position that follows after every process has had `batches` local batches."""
        return batches * self.batch_size * self.world_size

    @property
    def per_step(self) -> int:
        """Return how many samples, of all processes, make an optimizer step."""
        return self.position(self.grad_accum)


class Drawn(NamedTuple):
    """A local batch, and the damaged samples that others stand in for in it."""

    samples: list[Sample]
    skips: list[Skip]


class LocalBatches(IterableDataset[Drawn | UserError]):
    """The endless batches of one process from stream position `start` on, whatever its number of workers."""

    def __init__(self, mixture: Mixture, layout: Layout, start: int) -> None:
        # Mistakes show here, and polars, which does not survive a fork, has done its part before there are workers.
        mixture.schedule()
        self.mixture, self.layout, self.start, self.sizes = mixture, layout, start, ImageSizes(mixture)

    def __iter__(self) -> Iterator[Drawn | UserError]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        try:
            yield from self.batches(worker, workers)
        except UserError as error:  # carried as a batch is, see StreamLoader
            yield error

    def batches(self, worker: int = 0, workers: int = 1) -> Generator[Drawn, None, None]:
        """Yield the local batches `worker`, `worker + workers`, ... from position `start`, a global batch's first.

        A DataLoader takes from its workers in turn, so the batches arrive in the order they would have
        without any. No worker reads what it does not use.
        """
        layout = self.layout
        positions = (position for batch in count(worker, workers) for position in self._positions(batch))
        with Stream(self.mixture, positions) as stream:
            told = 0
            while True:
                samples = [next(stream)[1] for _ in range(layout.batch_size)]
                yield Drawn(samples, stream.skips.listed[told:])
                told = len(stream.skips)

    def _positions(self, batch: int) -> list[int]:
        """Return the stream positions of the local batch of this number.

        The positions of one optimizer step are dealt out in order of image size: a batch of images of one size wastes
        no padding, and all processes have as much to do. Which samples make a step is not changed by it.
        """
        layout = self.layout
        step, micro = divmod(batch, layout.grad_accum)
        first, whole = self.start + step * layout.per_step, layout.per_step
        order = self.sizes.order(range(first, first + whole))
        return order[layout.position(micro) + layout.rank : layout.position(micro + 1) : layout.world_size]


class StreamLoader(DataLoader[Any]):
    """A loader that raises what a worker refused as it was meant: torch would wrap it in a traceback."""

    on_skips: Callable[[list[Skip]], None] = staticmethod(lambda skips: None)
    """Told of damaged samples when the batch with their stand-ins is handed over."""

    waited_s = 0.0
    """How long the loop has waited for batches."""

    def __iter__(self) -> Any:
        with _single_threaded_opencv():
            batches = super().__iter__()  # starts the workers
        while True:
            began = time.monotonic()
            with said_if_a_worker_dies():
                arrived = next(batches)
            self.waited_s += time.monotonic() - began
            if isinstance(arrived, UserError):
                raise arrived
            batch, skips = arrived
            if skips:
                self.on_skips(skips)
            yield batch


@contextlib.contextmanager
def said_if_a_worker_dies() -> Generator[None]:
    """Turn the death of a worker into a UserError: torch raises it wherever the training process then is."""
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise UserError(
            f"a process that reads samples has died ({str(error).splitlines()[0]}); most often that is the "
            "system, short of memory: lower --workers or --batch-size, then --resume"
        ) from error


@dataclass(frozen=True, slots=True)
class _Carried:
    """A collate function whose `UserError` travels as a batch does, and who stands in for whom beside it."""

    collate: Callable[[Sequence[Sample]], Any]

    def __call__(self, drawn: Any) -> Any:
        if isinstance(drawn, UserError):
            return drawn
        try:
            return self.collate(drawn.samples), drawn.skips
        except UserError as error:
            return error


def make_loader(
    batches: LocalBatches,
    collate: Callable[[Sequence[Sample]], Any],
    workers: int,
    on_skips: Callable[[list[Skip]], None] | None = None,
) -> StreamLoader:
    """Return a loader that yields collated local batches; decoding and tokenising happen in the workers.

    `on_skips` is told of damaged samples when the batch with their stand-ins is handed over.
    """
    loader = StreamLoader(
        batches,
        batch_size=None,
        collate_fn=_Carried(collate),
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        prefetch_factor=4 if workers else None,
        worker_init_fn=_begin_worker,
    )
    if on_skips is not None:
        loader.on_skips = on_skips
    return loader


@contextlib.contextmanager
def _single_threaded_opencv() -> Generator[None]:
    """Let processes be forked while OpenCV has no threads.

    They do not survive a fork, and a child that then sets their number waits for them for ever.
    """
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def _begin_worker(worker: int) -> None:
    """Keep OpenCV to one thread, also in a worker that was not forked: every core has a worker of its own."""
    if cv2.getNumThreads() != 1:
        cv2.setNumThreads(1)
