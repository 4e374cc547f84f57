"""A mixture: which datasets in which shares, from a YAML file that a person edits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self

import numpy as np

from vlm3data import registry
from vlm3data.changes import changes
from vlm3data.contracts import Member
from vlm3data.mixture_spec import Entry, MixtureSpec, read_spec, walk
from vlm3data.schedule import Course, Leaf, Schedule, Stretch
from vlm3data.selection import Selection, answer_chars, select
from vlm3data.shards import Dataset, ShardCache, Unify
from vlm3data.types import Int64Array, UserError


@dataclass(frozen=True)
class Part:
    """What the schedule draws from: a dataset of the mixture, or what it has of one task."""

    name: str
    """The dataset's path in the mixture, and `#task` where its tasks have shares of their own."""
    entry: Entry
    share_of_dataset: float
    selection: Selection
    dataset: Dataset | None
    """None while it is only planned."""

    @cached_property
    def selected(self) -> Int64Array | None:
        """Return the numbers of the samples that are used; None where all are."""
        if self.dataset is None or self.selection.is_everything:
            return None
        return select(self.dataset, self.selection)

    @property
    def size(self) -> int:
        """Return the number of samples: of the shards, or as planned."""
        if self.dataset is None:
            return int(self.entry.size or 0)
        return len(self.dataset) if self.selected is None else len(self.selected)

    @cached_property
    def answer_chars(self) -> float | None:
        """Return the characters in the answers that are drawn of a sample, on average; None while it is planned."""
        return None if self.dataset is None else answer_chars(self.dataset, self.selected, self.entry.pixels)

    @property
    def seen(self) -> dict[str, Any]:
        """Return, as `unify`, how images are unified as they are read; nothing where they are as built."""
        unify = {} if self.dataset is None or not self.dataset.is_original else self.dataset.unify._asdict()
        return {"unify": said} if (said := {key: value for key, value in unify.items() if value is not None}) else {}

    def leaf(self) -> Leaf:
        """Return the part as the schedule knows it."""
        assert self.dataset is not None
        sizes, fingerprint = self.dataset.shard_sizes, self.dataset.fingerprint
        if self.selected is not None:
            ends = np.cumsum(sizes)
            shard = np.searchsorted(ends, self.selected, side="right")
            sizes = np.bincount(shard, minlength=len(sizes))
            fingerprint = f"{fingerprint} ({self.selection})"
        return Leaf(self.name, fingerprint, tuple(sizes.tolist()))


class Mixture:
    """A checked spec, with its datasets opened when they are first needed; picklable, for worker processes."""

    def __init__(self, spec: MixtureSpec, where: str) -> None:
        """Take a spec; `where` it came from begins every message about it."""
        self.spec, self.where = spec, where

    def __reduce__(self) -> tuple[Any, ...]:
        return Mixture, (self.spec, self.where)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a mixture's file, with what it extends; raise `UserError` with one line for whatever is wrong."""
        return cls.check(read_spec(str(path)), str(path))

    @classmethod
    def check(cls, values: Any, where: str) -> Self:
        """Validate plain values."""
        return cls(MixtureSpec.check(values, where), where)

    @property
    def seed(self) -> int:
        """Return the seed that everything is drawn with."""
        return self.spec.seed

    @property
    def samples(self) -> int | None:
        """Return the planned length of the run."""
        return self.spec.samples

    @cached_property
    def parts(self) -> list[Part]:
        """Return what can be drawn from, in the file's order; a missing or half-built dataset is a `UserError`."""
        parts = [part for path, entry in self._leaves for part in self._parts_of(path, entry)]
        self._refuse_duplicates(parts)
        return parts

    @cached_property
    def _cache(self) -> ShardCache | None:
        if self.spec.cache is None:
            return None
        try:
            return ShardCache(self.spec.cache.directory, round(self.spec.cache.limit_gb * 1e9))
        except UserError as error:
            raise UserError(f"{self.where}: cache.directory: {error}") from error

    @property
    def _leaves(self) -> list[tuple[str, Entry]]:
        return [(path, entry) for path, entry in walk(self.spec.datasets) if entry.datasets is None]

    def _parts_of(self, path: str, entry: Entry) -> list[Part]:
        try:
            dataset = None if entry.shards is None else Dataset(entry.shards, path, self._cache, self._unify(entry))
            tasks: Mapping[str | None, float] = {**entry.tasks} if entry.tasks else {None: 1.0}
            parts = [
                Part(
                    name=path if task is None else f"{path}#{task}",
                    entry=entry,
                    share_of_dataset=share / sum(tasks.values()),
                    selection=Selection(task, entry.split, entry.where, entry.limit),
                    dataset=dataset,
                )
                for task, share in tasks.items()
            ]
            for part in parts:
                if not part.size:
                    left = f" with {part.selection}" if not part.selection.is_everything else ""
                    raise UserError(f"there are no samples in {entry.shards}{left}")
        except UserError as error:
            raise UserError(f"{self.where}: datasets.{path}: {error}") from error
        return parts

    def _unify(self, entry: Entry) -> Unify:
        return Unify(entry.focal_px or self.spec.focal_px, entry.align or self.spec.align)

    def _refuse_duplicates(self, parts: Sequence[Part]) -> None:
        """The same samples under two names would be seen more often than anybody asked for."""
        seen: dict[Any, str] = {}
        for part in parts:
            if part.dataset is None:
                continue
            key = (part.dataset.fingerprint, part.selection)
            if key in seen:
                raise UserError(
                    f"{self.where}: datasets.{part.name}: is the same data as {seen[key]} ({part.entry.shards}); "
                    "take one out, or raise the other's weight"
                )
            seen[key] = part.name

    def shares(self, weights: Mapping[str, float] | None = None) -> list[float]:
        """Return p of every part, in order, adding up to 1; `weights` by path stand in for the file's."""
        of_leaf = self._shares(self.spec.datasets, self.spec.weighting, self.samples, weights or {}, "")
        return [of_leaf[part.name.partition("#")[0]] * part.share_of_dataset for part in self.parts]

    def shares_over_run(self, samples: int | None = None) -> list[float]:
        """Return the same as means over `samples` positions (None: the planned ones), where they may change."""
        total = samples or self.samples
        return (self.course.drawn(total) / total).tolist() if total else self.shares()

    def _shares(
        self,
        entries: Mapping[str, Entry],
        weighting: Mapping[str, Any],
        planned: float | None,
        weights: Mapping[str, float],
        above: str,
        *,
        drawn: bool = True,
    ) -> dict[str, float]:
        """Return the shares in one level and below; in a group that is not `drawn` all its weights may be zero."""
        where = f"{self.where}: " + (f"datasets.{above.rstrip('/')}.weighting" if above else "weighting")
        members = [self.member(f"{above}{name}", entry, weights, weighting, planned) for name, entry in entries.items()]
        options = dict(weighting)
        name = options.pop("scheme", "explicit")
        try:
            scheme = registry.load("weighting", str(name)).check(options, "options")
            raw = scheme.shares(members, None if planned is None else round(planned))
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
        if sum(raw) <= 0 and drawn:
            raise UserError(f"{where}: the weights of a mixture must not all be zero")
        shares: dict[str, float] = {}
        for (name, entry), value in zip(entries.items(), raw, strict=True):
            share = value / (sum(raw) or 1.0)
            if entry.datasets is None:
                shares[f"{above}{name}"] = share
                continue
            below = None if planned is None else planned * share
            inside, prefix = entry.weighting or weighting, f"{above}{name}/"
            inner = self._shares(entry.datasets, inside, below, weights, prefix, drawn=drawn and share > 0)
            shares |= {path: share * part for path, part in inner.items()}
        return shares

    def member(
        self,
        path: str,
        entry: Entry,
        weights: Mapping[str, float],
        weighting: Mapping[str, Any],
        planned: float | None,
    ) -> Member:
        """Return what a weighting scheme knows of the dataset or group at `path`; `weights` stand in for the file's.

        `weighting` and `planned` length are those of the level it stands in.
        """
        under = [part for part in self.parts if part.name.partition("#")[0] == path or part.name.startswith(f"{path}/")]
        samples = sum(part.size for part in under) if entry.tasks is None else max(part.size for part in under)
        name, weight = path.rpartition("/")[2], weights.get(path, entry.weight)
        chars = partial(self._answer_chars, path, entry, under, weights, weighting, planned)
        return Member(name, weight, entry.repeat, samples, chars)

    def _answer_chars(
        self,
        path: str,
        entry: Entry,
        under: Sequence[Part],
        weights: Mapping[str, float],
        weighting: Mapping[str, Any],
        planned: float | None,
    ) -> float | None:
        """Return the characters in the answers of a draw from the parts `under` a path, each as often as it is drawn.

        How a scheme that looks at the planned length shares out a group is taken as if the run were of it alone.
        """
        if any(part.answer_chars is None for part in under):
            return None
        inside = {path: 1.0}
        if entry.datasets is not None:
            inside = self._shares(
                entry.datasets, entry.weighting or weighting, planned, weights, f"{path}/", drawn=False
            )
        drawn = [inside[part.name.partition("#")[0]] * part.share_of_dataset for part in under]
        return sum(share * (part.answer_chars or 0.0) for share, part in zip(drawn, under, strict=True))

    @cached_property
    def course(self) -> Course:
        """Return the shares over the run: one stretch for ever, or those of the `schedule`."""
        before, stretches, begin = self.shares(), [], 0
        for stage in self.spec.schedule:
            try:
                after = self.shares(stage.weights)
            except UserError as error:
                raise UserError(f"{error}, in the stage of `schedule` until {stage.until:g}") from error
            end = round(stage.until * (self.samples or 0))
            stretches.append(Stretch(begin, tuple(before if stage.ramp else after), tuple(after), end - begin))
            before, begin = after, end
        return Course((*stretches, Stretch(begin, tuple(before), tuple(before), 1)))

    def schedule(self) -> Schedule:
        """Return the order of the stream; every part with a share needs shards."""
        leaves = []
        for part, ever in zip(self.parts, self.course.ever, strict=True):
            if ever and part.dataset is None:
                raise UserError(
                    f"{self.where}: datasets.{part.name}: has only a planned size; give `shards` to stream it"
                )
            leaves.append(part.leaf() if part.dataset is not None else Leaf(part.name, "planned", (part.size,)))
        return Schedule(self.seed, self.course, leaves)

    def lock(self) -> dict[str, Any]:
        """Return what the stream follows from, in plain JSON values: a run that is resumed needs the same."""
        return {
            "seed": self.seed,
            "course": [[begin, [*first], [*last], length] for begin, first, last, length in self.course.stretches],
            "datasets": {
                part.name: {
                    "fingerprint": part.dataset.fingerprint if part.dataset is not None else None,
                    "shards": len(part.dataset.about["shards"]) if part.dataset is not None else 0,
                    "samples": len(part.dataset) if part.dataset is not None else part.size,
                    "selection": str(part.selection),
                    "pixels": part.entry.pixels,
                }
                | part.seen
                for part in self.parts
            },
        }

    def changes_since(self, lock: Mapping[str, Any]) -> list[str]:
        """Return in words what of the stream differs from what an earlier `lock` had; nothing where it is the same."""
        return changes(lock, self.lock())

    def plan(self, samples: int | None = None) -> list[dict[str, Any]]:
        """Return, per part, share, samples drawn, size, epochs, answer text and bytes over `samples` positions."""
        total = samples or self.samples
        rows = []
        for part, share in zip(self.parts, self.shares_over_run(samples), strict=True):
            drawn = None if total is None else share * total
            held = part.dataset
            rows.append(
                {
                    "dataset": part.name,
                    "weight": part.entry.weight,
                    "share": share,
                    "size": part.size,
                    "samples": drawn,
                    "epochs": None if drawn is None or not part.size else drawn / part.size,
                    "answer_chars": None if drawn is None or held is None else drawn * (part.answer_chars or 0.0),
                    "bytes": None if drawn is None or held is None else drawn * held.about["bytes"] / len(held),
                    "shards": part.entry.shards,
                }
            )
        return rows
