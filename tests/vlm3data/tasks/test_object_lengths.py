"""Clock hours and lengths by hand: where they are clear, and that neither object counts more than the other."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vlm3data.tasks._objects.categories import CATEGORIES
from vlm3data.tasks._objects.comparing import _larger
from vlm3data.tasks._objects.lengths import LENGTHS, hour_of
from vlm3data.tasks._objects.measures import Measures, measure
from vlm3data.tasks._objects.regions import Region, text_of
from vlm3data.tasks.objects import ObjectsTask
from vlm3data.types import Question


def box(centre_m: tuple[float, float, float], size_m: tuple[float, float, float] = (0.2, 0.2, 0.2)) -> Measures:
    pose = np.eye(4)
    pose[:3, 3] = centre_m
    return measure(Region((0, 0, 10, 10), "thing", pose, size_m), np.eye(4))


@pytest.mark.parametrize("hour", range(1, 13))
@pytest.mark.parametrize("off_deg", [-14, 0, 14])
def test_the_hour_is_the_nearest_one_wherever_the_first_stands(hour, off_deg):
    angle = math.radians(30 * hour + off_deg)
    for x_m, z_m in ((0, 0), (3, 7), (-8, 2)):
        there = (x_m + 2 * math.sin(angle), 0.7, z_m + 2 * math.cos(angle))
        assert hour_of(box((x_m, -0.2, z_m)), box(there)) == hour


def test_there_is_no_hour_between_objects_on_the_same_spot():
    wide = (3.0, 1.0, 4.0)  # 2.5 m from its centre to a corner, seen from above; one without extent has none
    for towards in ((0.6, 0.8), (1.0, 0.0)):
        near, far = (box((towards[0] * by_m, 0, towards[1] * by_m)) for by_m in (1.30, 1.34))
        small = math.hypot(0.2, 0.2) / 2
        assert 1.30 < 0.5 * (2.5 + small) < 1.34
        for one, other, clear in ((box((0, 0, 0), wide), near, False), (box((0, 0, 0), wide), far, True)):
            assert (hour_of(one, other) is not None) == clear
            assert (hour_of(other, one) is not None) == clear


@pytest.mark.parametrize(("kind", "axis"), [("horizontal", 0), ("vertical", 1)])
def test_a_distance_is_clear_by_the_farther_of_the_two(kind, axis):
    """One in a hundred of how far away it is: 0.3 m at 20 m, not at 40."""
    for far_m, clear in ((20.0, True), (40.0, False)):
        centre_m = [0.0, 0.0, far_m]
        centre_m[axis] = 0.3
        near, far = box((0, 0, 2)), box(tuple(centre_m))
        for length in (LENGTHS[kind](near, far), LENGTHS[kind](far, near)):
            assert length.length_m == pytest.approx(0.3)
            assert length.clear == clear


@pytest.mark.parametrize(("kind", "axis"), [("width", 0), ("height", 1)])
def test_sizes_are_asked_from_5_cm_on_and_from_a_hundredth_of_the_range(kind, axis):
    for size_m, away_m, clear in ((0.049, 1, False), (0.051, 1, True), (0.35, 40, False), (0.45, 40, True)):
        sides_m = [0.3, 0.3, 0.3]
        sides_m[axis] = size_m
        length = LENGTHS[kind](box((0, 0, away_m), tuple(sides_m)))
        assert length.length_m == pytest.approx(size_m)
        assert length.clear == clear


def test_every_word_has_an_opposite_that_says_the_other_sign():
    for one, other in (("left", "right"), ("above", "below"), ("wide", "thin"), ("big", "small"), ("behind", "front"),
                       ("tall", "short")):  # fmt: skip
        first, second = (CATEGORIES[f"{word}_predicate"] for word in (one, other))
        assert first.quantity == second.quantity
        assert {first.sign, second.sign} == {1, -1}
    signs = {"left": -1, "above": 1, "wide": 1, "big": 1, "behind": 1, "tall": 1}
    assert {word: CATEGORIES[f"{word}_predicate"].sign for word in signs} == signs


def test_larger_is_larger_by_both():
    assert _larger(1.0, 0.5, 0.1, 1.2) == 1
    assert _larger(0.5, 1.0, 0.1, 1.2) == -1
    assert _larger(1.15, 1.0, 0.1, 1.2) == _larger(1.0, 1.15, 0.1, 1.2) == 0, "more by 0.1, not by a fifth"
    assert _larger(0.15, 0.1, 0.1, 1.2) == _larger(0.1, 0.15, 0.1, 1.2) == 0, "more by a fifth, not by 0.1"


@pytest.mark.parametrize(
    ("answer", "box_", "problem"),
    [
        ("It is 2.41 meters wide.", [0, 0, 1000, 1000], None),
        ("It is 2.45 meters wide.", [0, 0, 1000, 1000], None),
        ("It is 2.37 meters wide.", [0, 0, 1000, 1000], None),
        ("It is 2.50 meters wide.", [0, 0, 1000, 1000], "does not say"),
        ("It is 2.32 meters wide.", [0, 0, 1000, 1000], "does not say"),
        ("It is 2.41 meters wide.", [-1, 0, 1000, 1000], "no box"),
        ("It is 2.41 meters wide.", [0, -1, 1000, 1000], "no box"),
        ("It is 2.41 meters wide.", [0, 0, 1001, 1000], "no box"),
        ("It is 2.41 meters wide.", [0, 0, 1000, 1001], "no box"),
        ("It is 2.41 meters wide.", [7, 0, 7, 1000], "no box"),
        ("It is 2.41 meters wide.", [0, 7, 1000, 7], "no box"),
    ],
)
def test_a_box_may_touch_every_edge_and_an_answer_is_rounded_by_two_percent_at_most(answer, box_, problem):
    region = {"box": box_, "label": "wall"}
    truth = {"category": "width_data", "kind": "length", "regions": [region], "length_m": 2.41, "published": True}
    question = Question("objects", f"How wide is {text_of(tuple(box_))}?", answer, truth)
    found = ObjectsTask.problem_with(question, {"metric": True})
    assert found is None if problem is None else problem in found
    if problem is None:
        assert "without metric scale" in ObjectsTask.problem_with(question, {"metric": False})
