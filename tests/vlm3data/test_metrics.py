"""Scores at their edges: strict or closed, and what an unparsed answer costs."""

import math
import warnings
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm3data.metrics import auc, auc_at_30, auc_trapezoid, delta1, epe, relative_success

positive = st.floats(0.01, 1000)
angles = st.floats(0, 180)


@given(positive, positive)
def test_delta1_is_symmetric_and_ignores_scale(pred, truth):
    assert delta1([pred], [truth]) == delta1([truth], [pred]) == delta1([pred * 4], [truth * 4])


def test_delta1_is_strict_at_a_quarter():
    assert delta1([1.25, 0.8], [1.0, 1.0]) == 0.0
    assert delta1([1.2499999, 0.8000001], [1.0, 1.0]) == 1.0


def test_whatever_is_not_a_positive_number_is_wrong():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert delta1([1.0, None, math.nan, 0.0, -1.0, math.inf, 5e-324], [1.0] * 7) == pytest.approx(1 / 7)
    assert relative_success([1.0, None, math.nan], [1.0] * 3) == pytest.approx(1 / 3)


def test_relative_success_is_closed_and_not_symmetric():
    assert relative_success([0.75, 1.25], [1.0, 1.0]) == 1.0
    assert relative_success([0.7499, 1.2501], [1.0, 1.0]) == 0.0
    assert relative_success([1.0], [1.3]) == 1.0
    assert relative_success([1.3], [1.0]) == 0.0
    assert relative_success([1.3], [1.0], tolerance=0.3) == 1.0


def test_epe_is_the_mean_distance_of_what_parsed():
    assert epe([[3, 4], [0, 0]], [[0, 0], [0, 1]]) == 3.0
    assert epe([[3, 4], [None, None]], [[0, 0], [0, 1]]) == 5.0
    assert math.isnan(epe([[math.nan, 0]], [[0, 0]]))


@given(st.lists(st.tuples(angles, angles), min_size=1, max_size=30))
def test_auc_counts_for_each_whole_degree_the_pairs_below_it(errors):
    worst = [max(pair) for pair in errors]
    below = [np.mean([e < degree or (degree == 30 and e == 30) for e in worst]) for degree in range(1, 31)]
    assert auc_at_30(*zip(*errors, strict=True)) == pytest.approx(np.mean(below))


def test_auc_known_values():
    assert auc_at_30([0.0], [0.0]) == 1.0
    assert auc_at_30([0.0], [29.5]) == pytest.approx(1 / 30)
    assert auc_at_30([30.0], [0.0]) == pytest.approx(1 / 30)
    assert auc_at_30([30.01], [0.0]) == 0.0
    assert auc_at_30([0.0, math.nan, 1.0], [0.0, 0.0, None]) == pytest.approx(1 / 3)


def test_nothing_has_no_score():
    assert all(math.isnan(score([], [])) for score in (delta1, relative_success, auc_at_30))


@given(st.lists(st.tuples(angles, angles), min_size=1, max_size=30), st.integers(1, 40))
def test_auc_of_any_limit_counts_the_pairs_below_each_degree(errors, limit):
    worst = [max(pair) for pair in errors]
    below = [np.mean([e < degree or (degree == limit and e == limit) for e in worst]) for degree in range(1, limit + 1)]
    assert auc(*zip(*errors, strict=True), limit) == pytest.approx(np.mean(below))


@given(st.lists(st.tuples(angles, angles), min_size=1, max_size=30), st.sampled_from([5, 10, 20]))
def test_the_trapezoid_is_the_area_under_recall(errors, limit):
    worst = np.sort([max(pair) for pair in errors])
    points = [(0.0, 0.0), *((error, (i + 1) / len(worst)) for i, error in enumerate(worst) if error < limit)]
    points.append((limit, points[-1][1]))
    area = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(points))
    assert auc_trapezoid(*zip(*errors, strict=True), limit) == pytest.approx(area / limit)


def test_trapezoid_known_values():
    assert auc_trapezoid([0.0], [0.0], 5) == 1.0
    assert auc_trapezoid([0.0], [1.0], 5) == pytest.approx(0.9)
    assert auc_trapezoid([5.0], [1.0], 5) == 0.0
    assert auc_trapezoid([1.0, math.nan], [0.0, 0.0], 10) == pytest.approx(0.475)
    assert math.isnan(auc_trapezoid([], [], 5))
    assert math.isnan(auc([], [], 5))
