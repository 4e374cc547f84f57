"""Which sample serves position n: a pure function of the shares, the sizes and a seed, with no state but n.

Positions come in blocks of 64. How often each dataset has been drawn before block b is fixed without
visiting earlier blocks, by halving time: over the whole horizon the counts are the shares rounded to
whole numbers; at the middle of an interval they are the shares rounded again, each dataset staying
between its counts at the two ends. A path of ~34 halvings leads to any block, near or far. Rounding
keeps every count within 1 of n times its share, and the counts always add up to n.

Where the shares change over the run, n times the share becomes the sum of the shares up to n, which is known in
closed form; nothing else changes.

Inside a block the datasets are shuffled, so that no period of the shares can line up with the ranks.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import repeat
from typing import NamedTuple

import numpy as np

from vlm3data.randomness import permutation
from vlm3data.types import Float64Array, Int64Array

BLOCK = 64
HORIZON_BLOCKS = 1 << 34
"""About 10^12 positions: beyond any run, and n times a share is still exact to 1e-4 in a float64."""
WINDOW_SHARDS = 16
"""An epoch shuffles the shards, then the samples within this many neighbouring shards: a remote store is
then read a window at a time, and the permutation of a window, not of the dataset, is held in memory."""


class Place(NamedTuple):
    """Where position n is served from: dataset number, how many whole epochs came before, sample number."""

    dataset: int
    epoch: int
    sample: int


class Stretch(NamedTuple):
    """Positions from `begin` on, in which the shares go evenly from `first` to `last` within `length`, then stay."""

    begin: int
    first: tuple[float, ...]
    last: tuple[float, ...]
    length: int


@dataclass(frozen=True)
class Course:
    """The shares of the datasets over all positions, stretch by stretch; the last one never ends."""

    stretches: tuple[Stretch, ...]

    @classmethod
    def constant(cls, shares: Sequence[float]) -> Course:
        """Return the course of shares that never change."""
        return cls((Stretch(0, tuple(shares), tuple(shares), 1),))

    @property
    def ever(self) -> list[bool]:
        """Return which datasets have a share at any time."""
        return [any(stretch.first[i] or stretch.last[i] for stretch in self.stretches) for i in range(len(self))]

    def __len__(self) -> int:
        return len(self.stretches[0].first)

    def drawn(self, n: int) -> Float64Array:
        """Return how many of the positions before `n` each dataset should serve, not rounded: the summed shares."""
        total = np.zeros(len(self))
        for place, stretch in enumerate(self.stretches):
            end = self.stretches[place + 1].begin if place + 1 < len(self.stretches) else n
            inside = min(n, end) - stretch.begin
            if inside <= 0:
                continue  # not reached, or so short that no position falls into it
            first, last = np.array(stretch.first), np.array(stretch.last)
            if stretch.first == stretch.last:
                total += first * inside
                continue
            # The mean share of the positions so far, halfway between the first and the latest.
            total += inside * (first + (last - first) * (inside / stretch.length / 2))
        return total


@dataclass(frozen=True)
class Leaf:
    """One dataset of the schedule; its own order depends on nothing but what stands here and the seed."""

    name: str
    fingerprint: str
    shard_sizes: tuple[int, ...]

    @property
    def size(self) -> int:
        """Return the number of samples."""
        return sum(self.shard_sizes)


class Schedule:
    """The order of a whole mixture. `locate(n)` may be asked in any order, from any process."""

    def __init__(self, seed: int, course: Course, leaves: Sequence[Leaf]) -> None:
        self.seed, self.course, self.leaves = seed, course, tuple(leaves)
        self._sizes = [leaf.size for leaf in leaves]
        # Caches only: what they hold follows from the arguments. A shuffled window per dataset stays in memory.
        self._block = lru_cache(maxsize=8)(self._draw_block)
        self._counts = lru_cache(maxsize=256)(self._count_at)
        self._window = lru_cache(maxsize=2 * len(self.leaves) + 2)(self._draw_window)
        self._epoch = lru_cache(maxsize=2 * len(self.leaves) + 2)(self._draw_epoch)

    def __reduce__(self) -> tuple[type[Schedule], tuple[int, Course, tuple[Leaf, ...]]]:
        return Schedule, (self.seed, self.course, self.leaves)

    def locate(self, n: int) -> Place:
        """Return what serves position `n`; raise IndexError outside [0, 10^12)."""
        block, offset = divmod(n, BLOCK)
        if not 0 <= block < HORIZON_BLOCKS:
            raise IndexError(f"position {n} is outside the schedule's horizon")
        return self._block(block)[offset]

    def counts(self, n: int) -> Int64Array:
        """Return how many of the positions before `n` each dataset serves."""
        block, offset = divmod(n, BLOCK)
        before = self._counts(block).copy()
        for place in self._block(block)[:offset]:
            before[place.dataset] += 1
        return before

    def _draw_block(self, block: int) -> list[Place]:
        """Return the 64 places of one block."""
        before, after = self._counts(block), self._counts(block + 1)
        many = after - before
        datasets = np.repeat(np.arange(len(self.leaves)), many)[permutation(BLOCK, self.seed, "block", block)]
        drawn = zip(range(len(self.leaves)), before.tolist(), many.tolist(), strict=True)
        draws = {dataset: self._samples(dataset, first, count) for dataset, first, count in drawn if count}
        return [Place(dataset, *next(draws[dataset])) for dataset in datasets.tolist()]

    def _count_at(self, block: int) -> Int64Array:
        """Return the counts before `block`, the middle of an interval whose ends are rounder numbers."""
        if block == 0:
            return np.zeros(len(self.leaves), np.int64)
        ideal, total = self.course.drawn(block * BLOCK), block * BLOCK
        if block == HORIZON_BLOCKS:
            return _apportion(ideal, total, self._counts(0), np.full(len(self.leaves), total))
        half = block & -block
        return _apportion(ideal, total, self._counts(block - half), self._counts(block + half))

    def _samples(self, dataset: int, draw: int, many: int) -> Iterator[tuple[int, int]]:
        """Yield epoch and sample number of the `draw`-th draw from a dataset and those after it."""
        while many > 0:
            epoch, place = divmod(draw, self._sizes[dataset])
            starts, _ = self._epoch(dataset, epoch)
            window = bisect_right(starts, place) - 1
            first = place - starts[window]
            here = self._window(dataset, epoch, window)[first : first + many].tolist()
            yield from zip(repeat(epoch), here)
            draw, many = draw + len(here), many - len(here)

    def _draw_epoch(self, dataset: int, epoch: int) -> tuple[list[int], Int64Array]:
        """Return where each window of the epoch starts, and the epoch's order of the shards."""
        leaf = self.leaves[dataset]
        order = permutation(len(leaf.shard_sizes), self.seed, "shards", leaf.name, leaf.fingerprint, epoch)
        sizes = np.asarray(leaf.shard_sizes, np.int64)[order]
        return (np.cumsum(sizes) - sizes)[::WINDOW_SHARDS].tolist(), order

    def _draw_window(self, dataset: int, epoch: int, window: int) -> Int64Array:
        """Return the shuffled sample numbers of one window."""
        leaf, (_, order) = self.leaves[dataset], self._epoch(dataset, epoch)
        ends = np.cumsum(leaf.shard_sizes).tolist()
        shards = order[window * WINDOW_SHARDS : (window + 1) * WINDOW_SHARDS].tolist()
        numbers = np.concatenate([np.arange(ends[shard] - leaf.shard_sizes[shard], ends[shard]) for shard in shards])
        position = (self.seed, "window", leaf.name, leaf.fingerprint, epoch, window)
        return numbers[permutation(len(numbers), *position)]


def _apportion(ideal: Float64Array, total: int, low: Int64Array, high: Int64Array) -> Int64Array:
    """Round `ideal` to whole numbers that add up to `total`, each within [low, high].

    By largest remainder, so that only the numbers furthest below their ideal are rounded up.
    """
    counts = np.minimum(np.maximum(np.floor(ideal).astype(np.int64), low), high)
    while missing := total - int(counts.sum()):
        step, room = (1, counts < high) if missing > 0 else (-1, counts > low)
        beyond = np.where(room, (counts - ideal) * step, np.inf)
        counts[beyond.argsort(kind="stable")[: min(abs(missing), np.count_nonzero(room))]] += step
    return counts
