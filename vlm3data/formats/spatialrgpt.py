"""One record of `SpatialRGPT-Bench_v1.json`: a question about 2D boxes in one image.

`{id, image_info {file_path, height, width}, qa_info {type, category, class}, conversations [{from: human, value},
{from: gpt, value}], bbox [[x1, y1, x2, y2], ...], ...}`. In a question each `<mask>` (and `<mask> <depth>`) stands for
the next box, in an answer `Region [N]` for box N.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Literal

from pydantic import Field

from vlm3data.config import Config
from vlm3data.types import BoxQuestion

_MASK = re.compile(r"(?:\bregion\s*\[\d+\]\s*)?<mask>(?:\s*<depth>)?", re.IGNORECASE)
_REGION = re.compile(r"\bregion\s*\[(\d+)\]", re.IGNORECASE)


class ImageInfo(Config, extra="ignore"):
    """Where an image lies and how large it is."""

    file_path: Annotated[str, Field(min_length=1)]
    height: Annotated[int, Field(gt=0)]
    width: Annotated[int, Field(gt=0)]


class QaInfo(Config, extra="ignore"):
    """What kind of question it is."""

    category: str


class Turn(Config, extra="ignore"):
    """A question or an answer."""

    speaker: Annotated[Literal["human", "gpt"], Field(alias="from")]
    value: str


class BenchRecord(Config, extra="ignore"):
    """One record; masks and further keys are left alone."""

    id: Annotated[str, Field(min_length=1)]
    image_info: ImageInfo
    qa_info: QaInfo
    conversations: Annotated[list[Turn], Field(min_length=2, max_length=2)]
    bbox: Annotated[list[tuple[float, float, float, float]], Field(min_length=1)]


def box_question(record: BenchRecord) -> BoxQuestion:
    """Return the record's question with `{0}`, `{1}` for its boxes. Raises ValueError for a box that is none."""
    asked, answered = record.conversations
    if (asked.speaker, answered.speaker) != ("human", "gpt"):
        raise ValueError("conversations: a question and an answer are expected")
    for x1, y1, x2, y2 in record.bbox:
        if not (math.isfinite(x1 + y1 + x2 + y2) and x1 < x2 and y1 < y2):
            raise ValueError(f"bbox: {[x1, y1, x2, y2]} is no box")
    question = _literal(asked.value.replace("<image>", ""))
    count = len(_MASK.findall(question))
    if count != len(record.bbox):
        raise ValueError(f"{count} times <mask> in the question, but {len(record.bbox)} boxes")
    numbers = iter(range(count))
    question = _MASK.sub(lambda _: f"{{{next(numbers)}}}", question).strip()
    answer = _REGION.sub(lambda named: f"{{{named[1]}}}", _literal(answered.value)).strip()
    return BoxQuestion(record.qa_info.category, question, answer, tuple(record.bbox))


def _literal(text: str) -> str:
    """Return text in which no braces can be taken for the place of a box."""
    return text.replace("{", "(").replace("}", ")")
