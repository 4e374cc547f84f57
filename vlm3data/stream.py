"""The weighted stream: any rank, any worker, any start; what it yields at position n depends on nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any, Self

from vlm3data.ahead import Wanted, fetch_ahead
from vlm3data.mixture import Mixture
from vlm3data.randomness import permutation
from vlm3data.schedule import BLOCK, Schedule
from vlm3data.shards import CorruptSampleError
from vlm3data.shards.read import Draw
from vlm3data.skips import Skip, Skips
from vlm3data.types import Cut, Drop, MadeImages, Sample, UserError


class Stream(Iterator[tuple[int, Sample]]):
    """An iterator over `(n, sample)` for the given positions, in their order.

    It reads ahead from remote stores; `close`, or leaving its `with` block, ends that and leaves no thread.
    `skips` has what was damaged and replaced so far. Where images are unified as they are read, `cuts` has what was
    left out then by dataset and reason: labels, and samples without any. Raises UserError for what is wrong with the
    mixture.
    """

    def __init__(self, mixture: Mixture, positions: Iterable[int]) -> None:
        self.skips = Skips(mixture.spec.max_bad)
        self._mixture, self._cuts = mixture, Counter[str]()
        self._rows = _rows(mixture, _wanted(mixture, mixture.schedule(), positions), self.skips, self._cuts)

    def __next__(self) -> tuple[int, Sample]:
        return next(self._rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def cuts(self) -> Mapping[str, int]:
        """Return what was left out so far, `dataset: reason`."""
        labels = Counter[str]()
        for part in self._mixture.parts:
            if part.dataset is not None and part.dataset.unifier is not None:
                name = part.name.partition("#")[0]  # the parts of several tasks share their dataset
                labels |= Counter({f"{name}: {why}": many for why, many in part.dataset.unifier.cut.items()})
        return labels + self._cuts

    def close(self) -> None:
        """Stop reading ahead; nothing more is yielded."""
        self._rows.close()


def open_stream(
    spec: str | Path | Mixture,
    *,
    rank: int = 0,
    world_size: int = 1,
    start: int = 0,
    lock: Mapping[str, Any] | None = None,
) -> Stream:
    """Return an endless iterator over `(n, sample)` for the n >= `start` with n mod `world_size` = `rank`.

    `spec` is a mixture or the path of its YAML. Mistakes in it are raised here, not at the first sample; so is, with
    a `lock` (`Mixture.lock`), that its data are others now. Nothing is decoded: a sample holds JPEG bytes, and its
    JSON is parsed when first asked for.

    A process that is to fork workers should call `Mixture.schedule()` first and hand them the mixture: reading an
    index takes polars, whose threads do not survive a fork.
    """
    if not 0 <= rank < world_size or start < 0:
        raise UserError(f"need 0 <= rank < world_size and start >= 0, not {rank}, {world_size}, {start}")
    mixture = spec if isinstance(spec, Mixture) else Mixture.load(spec)
    if lock is not None and (changes := mixture.changes_since(lock)):
        raise UserError(f"{mixture.where}: the data are not those of the lock: {'; '.join(changes)}")
    return Stream(mixture, count(start + (rank - start) % world_size, world_size))


def _rows(
    mixture: Mixture, wanted: Iterator[Wanted], skips: Skips, cuts: Counter[str]
) -> Generator[tuple[int, Sample], None, None]:
    read = _Reader(mixture, skips, cuts)
    if all(part.dataset is None or part.dataset.is_local for part in mixture.parts):
        for item in wanted:
            yield item.n, read(item, None)
        return
    ahead = fetch_ahead(wanted, mixture.spec.read_ahead)
    try:
        for item, block in ahead:
            yield item.n, read(item, block)
    finally:
        ahead.close()


def _wanted(mixture: Mixture, schedule: Schedule, positions: Iterable[int]) -> Iterator[Wanted]:
    parts, positions = mixture.parts, iter(positions)
    selected = [part.selected for part in parts]

    def want(n: int) -> Wanted:
        number, epoch, place = schedule.locate(n)
        dataset, chosen = parts[number].dataset, selected[number]
        assert dataset is not None
        return Wanted(n, number, epoch, place, place if chosen is None else int(chosen[place]), dataset)

    # Many at a time: code that runs after an image was decoded is no longer in the processor's caches.
    while wanted := [want(n) for n in islice(positions, BLOCK)]:
        yield from wanted


class _Reader:
    """Reads what is wanted; in the place of a damaged sample the next sound one of what is used of its dataset.

    Which one that is follows from the data alone: it is the same for every topology and start.
    """

    def __init__(self, mixture: Mixture, skips: Skips, cuts: Counter[str]) -> None:
        self._mixture, self._parts, self._skips, self._cuts = mixture, mixture.parts, skips, cuts
        self._drawn = [0] * len(self._parts)
        self._draws = [
            partial(draw_questions, part.entry.pixels, part.selection.task, mixture.seed, part.name)
            for part in self._parts
        ]

    def __call__(self, item: Wanted, block: bytes | None) -> Sample:
        self._drawn[item.part] += 1
        # A stand-in is asked other questions than where it stands for itself.
        draw = partial(self._draws[item.part], item.sample, item.epoch)
        try:
            sample = item.dataset.read(item.sample, item.epoch, draw, block)
            return sample if item.dataset.unifier is None else _asked(sample)
        except (CorruptSampleError, Drop) as error:
            return self._stand_in(item, draw, error)

    def _stand_in(self, item: Wanted, draw: Draw, error: CorruptSampleError | Drop) -> Sample:
        part, sample, bad = self._parts[item.part], item.sample, []
        for step in range(1, part.size + 1):
            if isinstance(error, Drop):  # it is sound, but seen like this nothing of it is left
                self._cuts[f"{part.name}: {error.reason}"] += 1
            else:
                what = f"{self._mixture.where}: datasets.{part.name}: {error}"
                self._skips.note(part.name, sample, self._drawn[item.part], part.size, what)
                bad.append(sample)
            place = (item.place + step) % part.size
            sample = place if part.selected is None else int(part.selected[place])
            try:
                found = _asked(item.dataset.read(sample, item.epoch, draw))
            except (CorruptSampleError, Drop) as another:
                error = another
                continue
            self._skips.listed += (self._skip(item, i, found.key) for i in bad)
            return found
        raise UserError(
            f"{self._mixture.where}: datasets.{part.name}: every sample is damaged or has nothing left; {error}"
        )

    def _skip(self, item: Wanted, sample: int, replaced_by: str) -> Skip:
        shard, key = item.dataset.key(sample)
        offset = item.dataset.where(sample).offset
        return Skip(item.n, self._parts[item.part].name, key, shard, offset, item.epoch, replaced_by)


def _asked(sample: Sample) -> Sample:
    """Return the sample; raises Cut where nothing is asked of it any more, seen as it is now."""
    if isinstance(sample.images, MadeImages) and not sample.questions:
        raise Cut("no_question_left", sample.key)
    return sample


def draw_questions(
    count: int, task: str | None, seed: int, name: str, sample: int, epoch: int, stored: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return `count` of the stored questions (of `task`) in random order: another draw for every (sample, epoch)."""
    asked = stored if task is None else [question for question in stored if question["task"] == task]
    return [asked[i] for i in permutation(len(asked), seed, "draw", name, sample, epoch)[:count]]
