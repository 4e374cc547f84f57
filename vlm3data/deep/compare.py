"""How a stored sample differs from the same one built again."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from vlm3data.images import decode_rgb
from vlm3data.types import Sample

EQUAL = 1e-6
"""Numbers this near each other, relative to the larger one, count as equal: processors differ in the last digits."""


def sample_problems(stored: Sample, again: Sample) -> Iterator[str]:
    """Yield every difference between record and images of two samples, each in a line."""
    for where, old, new in differences(stored.record, again.record):
        yield f"{where} is {_short(old)}, the source gives {_short(new)}"
    for number, (old, new) in enumerate(zip(stored.images, again.images, strict=False)):
        one, other = decode_rgb(old).astype(np.int16), decode_rgb(new).astype(np.int16)
        if one.shape != other.shape:
            yield f"image {number} is {one.shape[1]}x{one.shape[0]}, the source gives {other.shape[1]}x{other.shape[0]}"
        elif (apart := np.abs(one - other)).max():
            hint = "; another version of the JPEG codec or of OpenCV can do that" if apart.max() <= 4 else ""
            yield (
                f"image {number} is not the source's: {np.mean(apart.any(-1)):.1%} of the pixels differ, "
                f"by {apart.max()} of 255 at most{hint}"
            )


def differences(one: Any, other: Any, where: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (where, value in one, value in the other) wherever two JSON values differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in [*one, *(key for key in other if key not in one)]:
            yield from differences(one.get(key), other.get(key), f"{where}.{key}" if where else key)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, (left, right) in enumerate(zip(one, other, strict=True)):
            yield from differences(left, right, f"{where}[{number}]")
    elif deviation(one, other) > EQUAL:
        yield where, one, other


def worst(one: Any, other: Any) -> float:
    """Return the largest relative deviation of two JSON values; inf where they differ in anything but a number."""
    return max((deviation(old, new) for _, old, new in _pairs(one, other)), default=0.0)


def deviation(one: Any, other: Any) -> float:
    """Return how far two single values are apart, relative to the larger; inf where they are not both numbers."""
    if one == other:
        return 0.0
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in (one, other)):
        return math.inf
    return abs(one - other) / max(abs(one), abs(other), 1e-3)


def _pairs(one: Any, other: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for key in one:
            yield from _pairs(one[key], other[key])
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for left, right in zip(one, other, strict=True):
            yield from _pairs(left, right)
    else:
        yield "", one, other


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
