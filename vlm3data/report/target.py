"""What a report is about: the shards of one dataset, or a mixture as its stream draws it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Self

from vlm3data.mixture import Mixture
from vlm3data.randomness import permutation
from vlm3data.report.palette import dataset_colours
from vlm3data.shards import CorruptSampleError, Dataset
from vlm3data.stream import open_stream
from vlm3data.types import Drop, Int64Array, Sample, UserError

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Member:
    """One dataset of the target."""

    name: str
    dataset: Dataset
    share: float | None
    """Of all draws of a mixture over its run; None where the target is the dataset itself."""
    rows: tuple[Int64Array, ...] | None = None
    """The numbers of the samples that are used, per part; None where all are."""


class Seen(NamedTuple):
    """One sample to look at."""

    place: int
    """Its position in the stream of a mixture, or its number in the dataset."""
    member: int
    shard: int
    sample: Sample
    questions: list[dict[str, Any]]
    """Those that are asked here: all that are stored, or what the mixture draws of them."""


class Target:
    """Shards or a mixture, opened; raises UserError where that is neither."""

    def __init__(self, name: str, members: list[Member], mixture: Mixture | None, seed: int) -> None:
        self.name, self.members, self.mixture, self.seed = name, members, mixture, seed
        self.unseen: Counter[str] = Counter()
        """Samples that could not be seen so far, by reason."""

    @classmethod
    def open(cls, name: str, seed: int | None = None) -> Self:
        """Open the directory of shards, or the mixture's YAML, `name`.

        `seed` chooses among the samples of shards (0 where it is None), and replaces the mixture's own.
        """
        if not name.endswith((".yaml", ".yml")):
            short = name.rstrip("/").rpartition("/")[2] or name
            return cls(name, [Member(short, Dataset(name, short), None)], None, seed or 0)
        mixture = Mixture.load(name)
        if seed is not None:
            mixture = Mixture(mixture.spec.model_copy(update={"seed": seed}), mixture.where)
        return cls(name, _members_of(mixture), mixture, mixture.seed)

    @cached_property
    def colours(self) -> list[str]:
        """Return the colour of each member."""
        parts = self.mixture.parts if self.mixture is not None else []
        return list(dataset_colours([part.name.partition("#")[0] for part in parts] or [self.members[0].name]).values())

    @property
    def samples(self) -> int | None:
        """Return how many samples there are to see: those of the dataset, or the mixture's planned length."""
        return len(self.members[0].dataset) if self.mixture is None else self.mixture.samples

    def seen(self, limit: int | None, progress: Progress = lambda done, total: None) -> Iterator[Seen]:
        """Yield up to `limit` samples: of shards a random choice in the order stored, of a mixture its first."""
        many = self.samples if limit is None else limit if self.samples is None else min(limit, self.samples)
        if many is None:
            raise UserError(f"{self.name}: a mixture without `samples` has no end: say how many with --limit")
        rows = self._of_shards(many) if self.mixture is None else self._of_stream(self.mixture, many)
        for done, seen in enumerate(rows, 1):
            yield seen
            progress(done, many)

    def _of_shards(self, many: int) -> Iterator[Seen]:
        dataset = self.members[0].dataset
        chosen = range(len(dataset))
        if many < len(dataset):
            chosen = sorted(permutation(len(dataset), self.seed, "report")[:many].tolist())
        for i in chosen:
            try:
                sample = dataset[i]
            except Drop as drop:  # unified only now, and nothing is left of it
                self.unseen[drop.reason] += 1
                continue
            except CorruptSampleError as error:
                raise UserError(f"{error}; `vlm3data verify {self.name}` finds all that is wrong") from error
            yield Seen(i, 0, int(dataset.where(i).shard), sample, sample.record["questions"])

    def _of_stream(self, mixture: Mixture, many: int) -> Iterator[Seen]:
        number_of = {member.name: number for number, member in enumerate(self.members)}
        schedule, parts = mixture.schedule(), mixture.parts
        with open_stream(mixture) as stream:
            for _ in range(many):
                n, sample = next(stream)
                number, _, place = schedule.locate(n)
                part = parts[number]
                assert part.dataset is not None
                row = place if part.selected is None else int(part.selected[place])
                member = number_of[part.name.partition("#")[0]]
                stored = sample.record["questions"]
                questions = sample.draw(stored) if sample.draw else stored
                yield Seen(n, member, int(part.dataset.where(row).shard), sample, questions)


def _members_of(mixture: Mixture) -> list[Member]:
    """Return the datasets of a mixture in its order, the parts of one dataset together."""
    found: dict[str, Member] = {}
    for part, share in zip(mixture.parts, mixture.shares_over_run(), strict=True):
        name, rows = part.name.partition("#")[0], None if part.selected is None else (part.selected,)
        if part.dataset is None:
            raise UserError(f"{mixture.where}: datasets.{name}: has only a planned size; give `shards` to look at it")
        before = found.get(name)
        if before is not None:
            rows = None if rows is None or before.rows is None else before.rows + rows
            share += before.share or 0.0
        found[name] = Member(name, part.dataset, share, rows)
    return list(found.values())
