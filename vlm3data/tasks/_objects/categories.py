"""The 24 categories of SpatialRGPT-Bench: what each asks about, and under which heading it is scored."""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["predicate", "choice", "length", "direction"]


class Category(NamedTuple):
    """One category of questions."""

    name: str
    kind: Kind
    group: str
    """The column of SpatialRGPT's table."""
    quantity: str
    """What is compared or measured: a name in `comparing.COMPARE` or `lengths.LENGTHS`."""
    sign: int = 1
    """1 where the word asks for more of the quantity, -1 for less."""
    regions: int = 2


_WORDS: dict[str, tuple[str, str, int]] = {
    "left": ("left/right", "side", -1),
    "right": ("left/right", "side", 1),
    "above": ("below/above", "elevation", 1),
    "below": ("below/above", "elevation", -1),
    "wide": ("wide/thin", "width", 1),
    "thin": ("wide/thin", "width", -1),
    "big": ("big/small", "volume", 1),
    "small": ("big/small", "volume", -1),
    "behind": ("behind/front", "depth", 1),
    "front": ("behind/front", "depth", -1),
    "tall": ("tall/short", "height", 1),
    "short": ("tall/short", "height", -1),
}
_CHOICES = ("left", "right", "above", "below", "tall", "short")

_ALL = (
    *(Category(f"{word}_predicate", "predicate", *about) for word, about in _WORDS.items()),
    *(Category(f"{word}_choice", "choice", *_WORDS[word]) for word in _CHOICES),
    Category("direction", "direction", "direction", "direction"),
    Category("vertical_distance_data", "length", "vertical", "vertical"),
    Category("horizontal_distance_data", "length", "horizontal", "horizontal"),
    Category("distance_data", "length", "direct", "gap"),
    Category("width_data", "length", "width", "width", regions=1),
    Category("height_data", "length", "height", "height", regions=1),
)
CATEGORIES: dict[str, Category] = {category.name: category for category in _ALL}
