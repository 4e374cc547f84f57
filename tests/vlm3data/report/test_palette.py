"""One colour a dataset, by its place in the file."""

from __future__ import annotations

import colorsys
from itertools import pairwise

from vlm3data.report.palette import DATASETS, DEPTH, dataset_colours


def test_a_name_has_its_colour_by_place_and_names_differ():
    names = [f"d{i}" for i in range(24)]
    colours = dataset_colours(names)
    assert list(colours) == names
    assert len(set(colours.values())) == 24
    assert [colours[name] for name in names[:12]] == list(DATASETS)
    assert dataset_colours(names[:3]) == {name: colours[name] for name in names[:3]}


def test_the_tasks_of_a_dataset_are_shades_of_it_and_move_no_other_colour():
    colours = dataset_colours(["a", "b#depth", "b#pose", "c"])
    assert colours["c"] == DATASETS[2]
    assert colours["b#depth"] == DATASETS[1] != colours["b#pose"]
    hue = [
        colorsys.rgb_to_hsv(*(v / 255 for v in bytes.fromhex(c[1:])))[0]
        for c in (colours["b#depth"], colours["b#pose"])
    ]
    assert abs(hue[0] - hue[1]) < 0.02


def test_depth_darkens_evenly_from_near_to_far():
    def lightness(colour: str) -> float:  # CIE L*
        linear = [((v / 255 + 0.055) / 1.055) ** 2.4 if v > 10 else v / 255 / 12.92 for v in bytes.fromhex(colour[1:])]
        return 116 * (0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]) ** (1 / 3) - 16

    steps = [lightness(a) - lightness(b) for a, b in pairwise(DEPTH)]
    assert min(steps) > 3
    assert max(steps) < 12
