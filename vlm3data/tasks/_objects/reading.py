"""Reading answers: yes or no, one of two regions, a length, an hour; for models and for a benchmark's truth alike."""

from __future__ import annotations

import re
from collections.abc import Sequence

from vlm3data.answers import parse_length_m, without_tags

_POLARITY = re.compile(
    r"\b(?:(yes|correct|affirmative|true|right|indeed)|no|incorrect|wrong|false|not|\w+n['’]t)\b", re.IGNORECASE
)
"""The words that VLM3's notebook looks for, and contractions of `not`; the first group is affirmative."""
_RIGHT_SIDE = re.compile(
    r"\b(?:(?:the|to|more|further|farther|its|your|far)\s+right|right(?=\s*(?:-|of\b|side|hand|most)))", re.IGNORECASE
)
"""`right` as a side, which says neither yes nor no."""
_CORRECTION = re.compile(r"\A\W*(?:in fact|actually)\b", re.IGNORECASE)
"""How SpatialRGPT's data begins a denial that has no other negative word."""
_BOX = re.compile(r"[(\[]\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*[)\]]")
_REGION = re.compile(r"\bregion\s*\[?(\d+)\]?", re.IGNORECASE)
_ASSERTS = {
    word: re.compile(rf"\A(?!.*(?:\bnot\b|n['’]t\b)).*\b(?:{words})", re.IGNORECASE | re.DOTALL)
    for word, words in {
        "left": "left",
        "right": "right",
        "above": "above|higher",
        "below": "below|lower|under",
        "tall": "tall|higher",
        "short": "short",
    }.items()
}
"""What must stand between two regions, without a negation, for the first to be the answer."""
_ORDINAL = re.compile(r"\b(?:(first|former)|second|latter)\b", re.IGNORECASE)
_Named = tuple[int, int, int]
"""Which region is named, and where in the text the name begins and ends."""
_HOURS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_HOUR = rf"(\d{{1,2}}(?![\d.]\d)|{'|'.join(_HOURS)})"
_CLOCK = re.compile(rf"\b{_HOUR}\s*(?::00|o\s*['’`]?\s*clock)", re.IGNORECASE)
_BARE_HOUR = re.compile(rf"(?<![\d.,-])\b{_HOUR}\b(?!\s*[:.]\d)", re.IGNORECASE)


def read_yes(answer: str) -> bool | None:
    """Return whether the earliest word of polarity is affirmative; None where there is none."""
    text = _RIGHT_SIDE.sub(" ", without_tags(answer))
    if found := _POLARITY.search(text):
        return found[1] is not None
    return False if _CORRECTION.search(text) else None


def read_choice(answer: str, boxes: Sequence[Sequence[int]], labels: Sequence[str], word: str) -> int | None:
    """Return which of two regions `answer` names: by its coordinates, `Region [N]`, first or second, or its label.

    `word` is what was asked for, `left` for instance. Where both are named it must stand between them, and no
    negation, as in "A is left of B": the answer is then A. None for any other answer that names both, or neither.
    """
    text = without_tags(answer)
    for named in (_named_boxes(text, boxes), _named_numbers(text), _named_labels(text, labels)):
        if not named:
            continue
        (first, _, end), *others = named
        other = next((start for region, start, _ in others if region != first), None)
        if other is None or (len(named) == 2 and _ASSERTS[word].search(text[end:other])):
            return first
        return None
    return None


def read_length_m(answer: str) -> float | None:
    """Return the one length that `answer` names, in metres; the numbers of regions are none."""
    return parse_length_m(_without_regions(answer))


def read_hour(answer: str) -> int | None:
    """Return the one clock hour that `answer` names, 1 to 12; None where there is none or several."""
    text = _without_regions(answer)
    named = {_hour(word) for word in _CLOCK.findall(text) or _BARE_HOUR.findall(text)}
    (hour,) = named if len(named) == 1 else (0,)
    return hour if 1 <= hour <= 12 else None


def _hour(word: str) -> int:
    return int(word) if word.isdigit() else _HOURS.index(word.lower()) + 1


def _without_regions(answer: str) -> str:
    return _REGION.sub(" ", _BOX.sub(" ", without_tags(answer)))


def _named_boxes(text: str, boxes: Sequence[Sequence[int]]) -> list[_Named]:
    wanted = [list(box) for box in boxes]
    found = [([int(number) for number in match.groups()], *match.span()) for match in _BOX.finditer(text)]
    return [(wanted.index(box), start, end) for box, start, end in found if box in wanted]


def _named_numbers(text: str) -> list[_Named]:
    numbered = [(int(match[1]), *match.span()) for match in _REGION.finditer(text) if int(match[1]) < 2]
    return numbered or [(0 if match[1] else 1, *match.span()) for match in _ORDINAL.finditer(text)]


def _named_labels(text: str, labels: Sequence[str]) -> list[_Named]:
    """Return the labels in the order in which they are named; none where one is part of the other."""
    first, second = (label.lower() for label in labels)
    if first in second or second in first:
        return []
    found = re.finditer(rf"\b(?:({re.escape(first)})|{re.escape(second)})\b", text, re.IGNORECASE)
    return [(0 if match[1] else 1, *match.span()) for match in found]
