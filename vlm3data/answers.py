"""Reading numbers out of free text: what every task's parser has in common."""

from __future__ import annotations

import math
import re

METRES = {
    "m": 1.0, "meter": 1.0, "meters": 1.0, "metre": 1.0, "metres": 1.0,
    "cm": 0.01, "centimeter": 0.01, "centimeters": 0.01, "centimetre": 0.01, "centimetres": 0.01,
    "mm": 0.001, "millimeter": 0.001, "millimeters": 0.001, "millimetre": 0.001, "millimetres": 0.001,
    "km": 1000.0, "kilometer": 1000.0, "kilometers": 1000.0, "kilometre": 1000.0, "kilometres": 1000.0,
    "ft": 0.3048, "foot": 0.3048, "feet": 0.3048, "inch": 0.0254, "inches": 0.0254,
    "yd": 0.9144, "yard": 0.9144, "yards": 0.9144, "mile": 1609.344, "miles": 1609.344,
}  # fmt: skip
"""Length units by their names in text; foot, inch, yard and mile are exact by definition."""

_NUMBER = re.compile(
    r"(?<![\w.,])([-+]?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?!\d)(?![.,]\d)"
    r"[\s-]*([a-zA-Z]+)?"
)
_THINK = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
_PREFILLED = re.compile(r"\A.*</think>", re.DOTALL)
"""A template may write the opening tag itself, so that the answer holds the closing one alone."""
_ANSWER = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.DOTALL)


def without_tags(text: str) -> str:
    """Return `text` without its thinking, and of an `<answer>` only what stands inside it."""
    text = _PREFILLED.sub(" ", _THINK.sub(" ", text))
    tagged = _ANSWER.search(text)
    return tagged[1] if tagged else text


def parse_length_m(text: str) -> float | None:
    """Return the one length that `text` names, in metres, or None.

    A number with a unit of length beats one without, which counts as metres. Where several different
    lengths are named, none is taken: a guess would be scored as if it were an answer.
    """
    text = without_tags(text).replace("\u2212", "-")
    found = [(float(number.replace(",", "")), unit.lower()) for number, unit in _NUMBER.findall(text)]
    with_unit = {value * METRES[unit] for value, unit in found if unit in METRES}
    candidates = with_unit or {value for value, _ in found}
    if len(candidates) != 1:
        return None
    (length_m,) = candidates
    return length_m if math.isfinite(length_m) else None


_ONE = r"[-+\u2212]?(?:\d+\.?\d*|\.\d+)"
_LIST = re.compile(rf"(?<![\w.]){_ONE}(?:\s*,\s*{_ONE})+(?![\w])")


def find_tuples(text: str, length: int) -> list[tuple[float, ...]]:
    """Return the different lists of `length` numbers in `text`, as in (12, 34), in their order.

    Those in brackets beat those without.
    """
    text = without_tags(text)
    found: dict[bool, list[tuple[float, ...]]] = {True: [], False: []}
    for listed in _LIST.finditer(text):
        numbers = tuple(float(number.replace("\u2212", "-")) for number in listed[0].split(","))
        bracketed = text[: listed.start()].rstrip()[-1:] in ("(", "[") and text[listed.end() :].lstrip()[:1] in (
            ")",
            "]",
        )
        if len(numbers) == length and numbers not in found[bracketed]:
            found[bracketed].append(numbers)
    return found[True] or found[False]
