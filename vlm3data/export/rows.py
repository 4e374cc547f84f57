"""What the text formats share: a file of rows beside image files, and where image placeholders stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlm3data.export.drawn import Item
from vlm3data.types import UserError

IMAGE = "<image>"
PLACEHOLDERS = (IMAGE, "<video>", "<audio>")
"""What other trainers replace wherever it stands in a text."""

Row = Callable[[Item, Sequence[str]], dict[str, Any]]


@dataclass(frozen=True)
class RowFormat:
    """A format of one file with a row a sample."""

    file: str
    """A name in .jsonl has a row a line, one in .json an array."""
    row: Row
    """From a sample and the paths of its images, relative to the export's directory."""
    beside: Mapping[str, Any]
    """Further JSON files by name."""


def turns(item: Item, between: str) -> list[tuple[str, str]]:
    """Return (question, answer) a turn; a placeholder for every image opens the first, `between` behind each.

    Raises UserError where a text holds a placeholder itself: the trainer would look for an image there.
    """
    asked = [(question.question, question.answer) for question in item.sample.questions]
    for text in (text for turn in asked for text in turn):
        if found := [word for word in PLACEHOLDERS if word in text]:
            raise UserError(f"{item.id}: {found[0]} in {text!r} would be taken for an image; change the wording pack")
    (first, answer), *others = asked
    return [((IMAGE + between) * len(item.sample.images) + first, answer), *others]


def provenance(item: Item) -> dict[str, str]:
    """Return the columns that say where a row comes from; trainers ignore them."""
    record = item.sample.record
    return {"id": item.id, "source": record["source"], "split": record["split"], "licence": record["licence"]}
