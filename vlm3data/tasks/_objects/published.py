"""Questions that a benchmark brings along (`View.box_questions`): its regions as text, its answer as the truth."""

from __future__ import annotations

import re
from typing import Any

from vlm3data.tasks._objects.categories import CATEGORIES
from vlm3data.tasks._objects.regions import TextBox, text_box, text_of
from vlm3data.tasks._objects.saying import read
from vlm3data.types import BoxQuestion, Cut, Drop, View

_OUTCOME = {"predicate": "yes", "choice": "chosen", "length": "length_m", "direction": "hour"}
_PLACE = re.compile(r"\{(\d+)\}")


def published_truth(asked: BoxQuestion, view: View) -> tuple[str, str, dict[str, Any]]:
    """Return question, answer and truth of a benchmark's question, its regions in text coordinates.

    Raises Drop: unknown_category, wrong_number_of_regions, region_too_small, regions_alike, truth_unreadable, and where
    too little of a region stays in view Cut("region_out_of_view").
    """
    if asked.category not in CATEGORIES:
        raise Drop("unknown_category", asked.category)
    category = CATEGORIES[asked.category]
    places = {int(number) for number in _PLACE.findall(asked.question)}
    if places != set(range(category.regions)) or len(asked.boxes_px) != category.regions:
        raise Drop("wrong_number_of_regions", f"{category.name}: {asked.question!r}, {len(asked.boxes_px)} boxes")
    if not {int(number) for number in _PLACE.findall(asked.answer)} <= places:
        raise Drop("wrong_number_of_regions", f"{category.name}: {asked.answer!r}")
    boxes: list[TextBox] = []
    for box_px in asked.boxes_px:
        box = text_box(box_px, view)
        if box is None:
            raise Cut("region_out_of_view")
        if box[0] == box[2] or box[1] == box[3]:
            raise Drop("region_too_small", str(box))
        boxes.append(box)
    if len(set(boxes)) < len(boxes):
        raise Drop("regions_alike", str(boxes))
    question, answer = (_with_regions(text, boxes) for text in (asked.question, asked.answer))
    value = read(category, answer, boxes, [""] * len(boxes))
    if value is None or (category.kind == "length" and value < 0):
        raise Drop("truth_unreadable", f"{category.name}: {asked.answer!r}")
    truth = {
        "category": category.name,
        "kind": category.kind,
        "regions": [{"box": list(box), "label": ""} for box in boxes],
        "published": True,
        _OUTCOME[category.kind]: value,
    }
    return question, answer, truth


def _with_regions(text: str, boxes: list[TextBox]) -> str:
    return _PLACE.sub(lambda place: text_of(boxes[int(place[1])]), text)
