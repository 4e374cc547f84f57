"""Which questions are asked about an image: spread over the categories, none that another one answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from vlm3data.tasks._objects.categories import CATEGORIES, Category
from vlm3data.tasks._objects.comparing import COMPARE
from vlm3data.tasks._objects.lengths import LENGTHS, hour_of
from vlm3data.tasks._objects.measures import Measures

Group = tuple[int, ...]
"""The indices of one or two regions."""


class Asked(NamedTuple):
    """One question: its category, its regions in the order in which they are named, and its answer."""

    category: Category
    measured: tuple[Measures, ...]
    outcome: dict[str, Any]
    """`yes`, `chosen` (0 or 1), `length_m` or `hour`."""


def choose(measured: Sequence[Measures], count: int, rng: np.random.Generator) -> list[Asked]:
    """Return up to `count` questions about measured regions, the first of which are those of a smaller `count`.

    Every category gets one before any gets a second, in random order. The same regions are compared or measured once
    for each quantity: "is A left of B?" would answer "is A right of B?" in the same conversation.
    """
    drawn = {category.name: _draw(category, measured, rng) for category in CATEGORIES.values()}
    used: set[tuple[str, Group]] = set()
    asked: list[Asked] = []
    while drawn and len(asked) < count:
        for name in rng.permutation(sorted(drawn)).tolist():
            for group, question in drawn[name]:
                if (question.category.quantity, group) not in used:
                    used.add((question.category.quantity, group))
                    asked.append(question)
                    break
            else:
                del drawn[name]
            if len(asked) == count:
                break
    return asked


def _draw(category: Category, measured: Sequence[Measures], rng: np.random.Generator) -> Iterator[tuple[Group, Asked]]:
    """Yield this category's clear questions, each group of regions once, in random order."""
    groups = list(combinations(range(len(measured)), category.regions))
    for index in rng.permutation(len(groups)).tolist():
        group = groups[index]
        question = _question(category, tuple(measured[member] for member in group), rng)
        if question is not None:
            yield group, question


def _question(category: Category, members: tuple[Measures, ...], rng: np.random.Generator) -> Asked | None:
    """Return the question about these regions in random order; None where its answer is not clear.

    Of a pair one order is answered by yes (or by the first region) and the other by no (or the second). A fair coin
    for the order is thus one for the answer: nothing that is seen or said tells which it is.
    """
    ordered = members[::-1] if rng.integers(2) else members
    outcome = outcome_of(category, ordered)
    return None if outcome is None else Asked(category, ordered, outcome)


def outcome_of(category: Category, measured: Sequence[Measures]) -> dict[str, Any] | None:
    """Return the outcome of a question about regions in this order; None where it is not clear."""
    if category.kind in ("predicate", "choice"):
        more = COMPARE[category.quantity](*measured) * category.sign
        outcome = {"yes": more > 0} if category.kind == "predicate" else {"chosen": int(more < 0)}
        return outcome if more else None
    if category.kind == "direction":
        hour = hour_of(*measured)
        return None if hour is None else {"hour": hour}
    length = LENGTHS[category.quantity](*measured)
    return {"length_m": length.length_m} if length.clear else None
