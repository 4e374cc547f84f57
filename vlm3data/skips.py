"""Damaged samples: what stands in for them, what is told of them, and when there are too many.

Only bytes that are not those the build wrote count as damage. Whatever fails behind a right checksum, such as an image
that does not decode, is a mistake of the build or of ours, and stops the run by name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from vlm3data.types import UserError

A_FEW = 8
"""Damaged samples a dataset may have besides `max_bad`: so that chance among hundreds of processes, each of which sees
its own part, ends no run."""


class Skip(NamedTuple):
    """A damaged sample, and what a position got in its place."""

    position: int
    dataset: str
    key: str
    """Of the damaged sample, as its shard's manifest has it."""
    shard: str
    offset: int
    """In bytes."""
    epoch: int
    replaced_by: str
    """The key of the sample that stood in: the next sound one of what is used of the dataset."""


class Skips:
    """What a stream had to replace; `listed` has every occasion in order."""

    def __init__(self, max_bad: float) -> None:
        self.max_bad = max_bad
        self.listed: list[Skip] = []
        self._bad: dict[str, set[int]] = {}

    def __len__(self) -> int:
        return len(self.listed)

    @property
    def counts(self) -> Mapping[str, int]:
        """Return how many positions were served by another sample than their own, by dataset."""
        positions = {(skip.dataset, skip.position) for skip in self.listed}
        return Counter(dataset for dataset, _ in positions)

    def note(self, name: str, sample: int, drawn: int, size: int, what: str) -> None:
        """Count a damaged sample of a dataset of which `drawn` were drawn; raises UserError where there are too many.

        A sample counts once, however often it is drawn. `what` says which it is and what is wrong with it.
        """
        bad = self._bad.setdefault(name, set())
        bad.add(sample)
        allowed = self.max_bad if self.max_bad >= 1 or not self.max_bad else A_FEW + self.max_bad * min(drawn, size)
        if len(bad) > allowed:
            read = max(min(drawn, size), len(bad))  # stand-ins that are damaged too were not drawn
            raise UserError(
                f"{what}; with it {len(bad)} of the {read:,} samples of {name} read here are damaged, and "
                f"max_bad is {self.max_bad:g}: mend the dataset (`vlm3data verify` lists what is wrong), or raise it"
            )
