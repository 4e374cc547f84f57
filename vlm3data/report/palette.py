"""The colours of everything we draw: the same dataset has the same one in every plot and page."""

from __future__ import annotations

from collections.abc import Iterable

DATASETS = (
    "#4477aa", "#ee7733", "#228833", "#cc3377", "#66b8dd", "#b39a1d",
    "#7755bb", "#ee6677", "#009988", "#8c5a3c", "#8899aa", "#9fb83a",
)  # fmt: skip
"""In the order of the mixture's file; chosen to differ in hue and in lightness, on white and on near-black."""
ROUND, PART = 0.35, 0.22
"""Where there are more datasets than colours the next round is lighter by this share, and so is each further task."""
DEPTH = (
    "#fde725", "#b8de29", "#74d055", "#3cbc75", "#20a386", "#238a8d",
    "#2d718e", "#39558c", "#453781", "#481568", "#440154",
)  # fmt: skip
"""Anchors from near to far: viridis (S. van der Walt, N. Smith; CC0), whose lightness falls evenly."""


def dataset_colours(names: Iterable[str]) -> dict[str, str]:
    """Return the colour of each name, `#rrggbb`, by its place in the order given.

    `dataset#task`, as the parts of a mixture are named, is a shade of the dataset's colour.
    """
    places: dict[str, int] = {}
    seen: dict[str, int] = {}
    colours = {}
    for name in dict.fromkeys(names):
        dataset, _, task = name.partition("#")
        place = places.setdefault(dataset, len(places))
        part = seen[dataset] = seen.get(dataset, -1) + 1
        paler = ROUND * (place // len(DATASETS)) + (PART * part if task else 0)
        colours[name] = _lighter(DATASETS[place % len(DATASETS)], min(paler, 0.75))
    return colours


def _lighter(colour: str, share: float) -> str:
    """Return `colour` moved by `share` of the way to white."""
    return "#" + "".join(f"{round(value + (255 - value) * share):02x}" for value in bytes.fromhex(colour[1:]))
