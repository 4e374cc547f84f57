"""How the pose task's answers are written and read: the same numbers, there and back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from vlm3data.answers import find_tuples, parse_length_m, without_tags
from vlm3data.geometry import rotation_from_yaw_pitch_roll_deg
from vlm3data.tasks._pose.measure import KINDS
from vlm3data.types import UserError
from vlm3data.wording import WordingPack

FIELDS: tuple[tuple[str, Any], ...] = (
    ("angle_deg", 89.65), ("yaw_deg", 89.6), ("pitch_deg", 2.6), ("roll_deg", -6.1),
    ("words", "left, forward"), ("x", -0.69), ("y", 0.02), ("z", 0.72), ("distance_m", 1.98),
)  # fmt: skip
"""What a wording may use, with an example each."""
FACTS = (("kind", KINDS),)
WORDS = (("left", "right"), ("up", "down"), ("backward", "forward"))
"""The names of the negative and the positive direction of each camera axis."""
MIN_COMPONENT = 0.1
"""A direction is named in words where the unit vector, as it is said with two decimals, goes this far along it."""

_NUMBER = r"([-+]?(?:\d+\.?\d*|\.\d+))"
_DEGREES = re.compile(rf"(?<![\w.]){_NUMBER}\s*(?:degrees?\b|deg\b|°)", re.IGNORECASE)
_BARE = re.compile(rf"(?<![\w.]){_NUMBER}(?![\w.])")
_TURNS = [
    re.compile(rf"\b{turn}\b\s*(?:angle)?\s*[=:]?\s*{_NUMBER}", re.IGNORECASE) for turn in ("yaw", "pitch", "roll")
]
_WORDS = re.compile(r"\b(left|right|up|down|forward|backward)(?:wards?|s)?\b", re.IGNORECASE)


def words_of(direction: Any) -> list[str]:
    """Return the words for a unit vector (3,) in camera axes, in the order x, y, z."""
    return [
        WORDS[axis][int(value > 0)] for axis, value in enumerate(direction) if abs(round(value, 2)) >= MIN_COMPONENT
    ]


def values_for(truth: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a wording may say of a truth; direction and distance only where there are any."""
    values: dict[str, Any] = {key: truth[key] for key in ("yaw_deg", "pitch_deg", "roll_deg", "distance_m")}
    values["angle_deg"] = truth["rotation_angle_deg"]
    if truth["translation_direction"] is not None:
        values |= dict(zip("xyz", truth["translation_direction"], strict=True))
        values["words"] = ", ".join(words_of(truth["translation_direction"]))
    return values


def read(answer: str, kind: str) -> Any:
    """Return what `answer` says, or None: an angle, [yaw, pitch, roll], {"direction", "words"}, or metres.

    Of several different values none is taken: a guess would be scored as if it were an answer.
    """
    text = without_tags(answer).replace("\u2212", "-")
    if kind == "rotation_angle":
        return _only(_DEGREES.findall(text) or _BARE.findall(text))
    if kind == "euler":
        turns = [_only(turn.findall(text)) for turn in _TURNS]
        return None if None in turns else turns
    if kind == "direction":
        vectors = find_tuples(text, 3)
        if len(vectors) != 1 or not any(vectors[0]):
            return None
        return {"direction": list(vectors[0]), "words": {word.lower() for word in _WORDS.findall(text)}}
    return parse_length_m(answer)


def says(answer: str, truth: Mapping[str, Any]) -> bool:
    """Tell whether `answer` says what is true, to the decimals that answers have."""
    told, kind = read(answer, truth["kind"]), truth["kind"]
    if told is None:
        return False
    if kind == "rotation_angle":
        return abs(told - truth["rotation_angle_deg"]) < 0.051
    if kind == "euler":
        return all(abs(told[i] - truth[key]) < 0.051 for i, key in enumerate(("yaw_deg", "pitch_deg", "roll_deg")))
    if kind == "direction":
        direction = truth["translation_direction"]
        return np.allclose(told["direction"], direction, rtol=0, atol=0.0051) and told["words"] == set(
            words_of(direction)
        )
    return abs(told - truth["distance_m"]) <= max(0.00501, 0.02 * truth["distance_m"])


def check(pack: WordingPack, path: str) -> None:
    """Refuse a pack in which some answer does not say the numbers it is given."""
    for number, wording in enumerate(pack.wordings):
        for kind in [wording.when["kind"]] if "kind" in wording.when else KINDS:
            for truth in _EXAMPLES:
                answer = wording.answer.format_map(values_for(truth))
                if not says(answer, truth | {"kind": kind}):
                    raise UserError(f"{path}: wordings.{number}.answer: {answer!r} does not say the {kind} of {truth}")


def _only(numbers: list[str]) -> float | None:
    values = {float(number) for number in numbers}
    return values.pop() if len(values) == 1 else None


def _example(turns_deg: tuple[float, float, float], angle_deg: float, direction: list[float], distance_m: float) -> Any:
    return {
        "rotation": rotation_from_yaw_pitch_roll_deg(*turns_deg).tolist(),
        "rotation_angle_deg": angle_deg,
        **dict(zip(("yaw_deg", "pitch_deg", "roll_deg"), turns_deg, strict=True)),
        "translation_direction": direction,
        "distance_m": distance_m,
    }


_EXAMPLES = (
    _example((89.6, 2.6, -6.1), 89.7, [-0.6906, 0.0211, 0.7229], 1.98),
    _example((-170.2, -40.4, 12.3), 168.1, [0.36, -0.48, -0.8], 12.5),
)
