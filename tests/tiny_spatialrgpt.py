"""A few records in SpatialRGPT-Bench's own JSON form, with sentences of our own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.conftest import HEIGHT, WIDTH, photo

FILE = "SpatialRGPT-Bench_v1.json"
LEFT, RIGHT = [12.0, 30.0, 60.0, 90.0], [70.0, 40.0, 140.0, 111.0]
"""Two boxes in a picture of 160 x 120."""
BENCH: tuple[tuple[str, str, str], ...] = (
    ("left_predicate", "Would you say <mask> is left of <mask>?", "Yes, Region [0] is left of Region [1]."),
    (
        "right_predicate",
        "Is Region [0] <mask> to the right of Region [1] <mask>?",
        "In fact, Region [0] is to the left.",
    ),
    ("behind_predicate", "Is <mask> <depth> behind <mask> <depth>?", "No, Region [0] is in front of Region [1]."),
    ("tall_choice", "Which one is taller, <mask> or <mask>?", "Region [1] is taller."),
    ("below_choice", "Which of <mask> and <mask> is lower?", "Region [0] is lower than Region [1]."),
    ("distance_data", "How far is <mask> from <mask>?", "Region [0] is 2.5 meters away from Region [1]."),
    ("horizontal_distance_data", "And sideways, from <mask> to <mask>?", "It is 31.5 inches."),
    ("width_data", "How wide is <mask>?", "Region [0] has a width of 4.0 feet."),
    ("direction", "Standing at <mask>, where is <mask>?", "Region [1] is near 10 o'clock from Region [0]."),
)
"""Category, question, answer."""


def bench_record(number: int, **changes: Any) -> dict[str, Any]:
    """Return record `number` of `BENCH`, with `changes` of its top-level keys."""
    category, question, answer = BENCH[number % len(BENCH)]
    kind = "qualitative" if category.endswith(("predicate", "choice")) else "quantitative"
    record = {
        "id": f"{kind}_{number}",
        "image_info": {"file_path": f"images/{number % 3}.jpg", "height": HEIGHT, "width": WIDTH},
        "text_q": question.replace("<mask>", "the region"),
        "qa_info": {"type": kind, "category": category, "class": ["chair", "lamp"]},
        "conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": answer}],
        "bbox": [LEFT, RIGHT][: question.count("<mask>")],
        "rle": [],
    }
    return record | changes


def write_bench(root: Path, records: list[Any] | None = None) -> Path:
    """Write a benchmark with `records` (all of `BENCH` without any) and its images; return `root`."""
    (root / "images").mkdir(parents=True, exist_ok=True)
    for number in range(3):
        (root / "images" / f"{number}.jpg").write_bytes(photo(number))
    records = [bench_record(number) for number in range(len(BENCH))] if records is None else records
    (root / FILE).write_text(json.dumps(records))
    return root
