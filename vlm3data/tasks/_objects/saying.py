"""Saying it: lengths as people give them, and the wordings' placeholders filled in."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from vlm3data.answers import METRES
from vlm3data.tasks._objects.categories import CATEGORIES, Category
from vlm3data.tasks._objects.reading import read_choice, read_hour, read_length_m, read_yes
from vlm3data.tasks._objects.regions import TextBox, text_of
from vlm3data.types import UserError
from vlm3data.wording import WordingPack

EXAMPLES = (
    ("a", "bounding box region (10, 20, 300, 400)"),
    ("b", "bounding box region (500, 60, 700, 480)"),
    ("label_a", "car"),
    ("label_b", "person"),
    ("chosen", "bounding box region (10, 20, 300, 400)"),
    ("label_chosen", "car"),
    ("ordinal", "first"),
    ("grid", 1000),
    ("yes", "Yes"),
    ("is", "is"),
    ("does", "does"),
    ("length", "2.41 meters"),
    ("hour", 3),
)
"""What a wording may use, with an example each."""
IN_QUESTIONS = {"a", "b", "label_a", "label_b", "grid"}
"""The placeholders that give nothing away."""
FACTS = (("category", tuple(CATEGORIES)),)
_UNITS: tuple[tuple[float, tuple[tuple[str, float], ...]], ...] = (
    (1.0, (("centimeters", 0.2), ("inches", 0.8))),
    (3.0, (("meters", 0.5), ("feet", 0.5))),
    (math.inf, (("meters", 0.7), ("feet", 0.3))),
)
"""Up to which length (exclusive), in metres, which units are used how often: SpatialRGPT's probabilities."""


def say_length(length_m: float, rng: np.random.Generator) -> str:
    """Return a length in a unit drawn as SpatialRGPT draws it, with three significant digits: at most 0.5 % off."""
    units = next(units for below_m, units in _UNITS if length_m < below_m)
    unit = units[int(rng.choice(len(units), p=[share for _, share in units]))][0]
    value = length_m / METRES[unit]
    decimals = max(0, 2 - math.floor(math.log10(value)))
    return f"{value:.{decimals}f} {unit}"


def values_for(boxes: Sequence[TextBox], labels: Sequence[str], outcome: Mapping[str, Any]) -> dict[str, Any]:
    """Return the placeholders' values; `outcome` holds `yes`, `chosen`, `length` (said) or `hour`."""
    values: dict[str, Any] = {"grid": 1000}
    for name, box, label in zip("ab", boxes, labels, strict=False):
        values |= {name: text_of(box), f"label_{name}": label or "object"}
    if "yes" in outcome:
        yes = outcome["yes"]
        values |= {
            "yes": "Yes" if yes else "No",
            "is": "is" if yes else "is not",
            "does": "does" if yes else "does not",
        }
    if "chosen" in outcome:
        name = "ab"[outcome["chosen"]]
        values |= {"chosen": values[name], "label_chosen": values[f"label_{name}"]}
        values |= {"ordinal": ("first", "second")[outcome["chosen"]]}
    return values | {key: outcome[key] for key in ("length", "hour") if key in outcome}


def sentence(template: str, values: Mapping[str, Any]) -> str:
    """Return a template filled in, with a capital at its beginning."""
    text = template.format_map(values)
    return text[:1].upper() + text[1:]


def read(category: Category, answer: str, boxes: Sequence[Sequence[int]], labels: Sequence[str]) -> Any:
    """Return what `answer` says about a question of this category, or None."""
    if category.kind == "predicate":
        return read_yes(answer)
    if category.kind == "choice":
        return read_choice(answer, boxes, labels, category.name.removesuffix("_choice"))
    return read_hour(answer) if category.kind == "direction" else read_length_m(answer)


def check(pack: WordingPack, path: str) -> None:
    """Raise UserError for a wording whose question leaves out a region or whose answer is read as something else."""
    for number, wording in enumerate(pack.wordings):
        where = f"{path}: wordings.{number}"
        name = wording.when.get("category")
        if name is None:
            raise UserError(f"{where}.when: needs a category; known: {', '.join(CATEGORIES)}")
        category = CATEGORIES[name]
        for boxes, labels, outcome, expected in _trials(category):
            values = values_for(boxes, labels, outcome)
            try:
                question = sentence(wording.question, {key: values[key] for key in IN_QUESTIONS & values.keys()})
                answer = sentence(wording.answer, values)
            except KeyError as error:
                raise UserError(f"{where}: {{{error.args[0]}}} has no place in this part of {name}") from error
            for box in boxes:
                if text_of(box).lower() not in question.lower():
                    raise UserError(f"{where}.question: does not name both regions, as {{a}} and {{b}}")
            if (found := read(category, answer, boxes, labels)) is None or abs(found - expected) > 0.02 * expected:
                raise UserError(f"{where}.answer: {answer!r} does not say {expected}")


def _trials(category: Category) -> Iterator[tuple[list[TextBox], list[str], dict[str, Any], Any]]:
    """Yield regions, labels, an outcome and what reading the answer must give."""
    boxes: list[TextBox] = [(10, 20, 300, 400), (500, 60, 700, 480)][: category.regions]
    outcomes: dict[str, list[tuple[dict[str, Any], Any]]] = {
        "predicate": [({"yes": yes}, yes) for yes in (True, False)],
        "choice": [({"chosen": chosen}, chosen) for chosen in (0, 1)],
        "length": [({"length": "24.1 inches"}, 0.61214), ({"length": "2.41 meters"}, 2.41)],
        "direction": [({"hour": hour}, hour) for hour in (1, 12)],
    }
    for labels in (["car", "person"], ["chair", "chair"]):
        for outcome, expected in outcomes[category.kind]:
            yield boxes, labels[: category.regions], outcome, expected
