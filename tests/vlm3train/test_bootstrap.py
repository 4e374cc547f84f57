"""Intervals against resampling by hand, and against how often they hold the truth."""

from __future__ import annotations

import numpy as np
import pytest

from vlm3train.bootstrap import Bootstrap, interval

GROUPS = [0, 0, 0, 1, 2, 2, 3, 4, 4, 4, 4, 5]


@pytest.fixture
def values():
    values = np.random.default_rng(1).gamma(2.0, 3.0, len(GROUPS))
    values[[3, 8]] = np.nan
    return values


def by_hand(bootstrap, values, statistic):
    """Return a statistic of the questions in each resample, where each is there as often as its image was drawn."""
    told = []
    for counts in bootstrap._counts:
        drawn = np.repeat(values, counts[GROUPS])
        drawn = drawn[np.isfinite(drawn)]
        told.append(statistic(drawn) if len(drawn) else np.nan)
    return np.array(told)


def test_means_and_medians_are_those_of_resampling_by_hand(values):
    bootstrap = Bootstrap(GROUPS, seed=3, resamples=150)
    assert bootstrap._counts.sum(1).tolist() == [6] * 150
    assert bootstrap.means({"m": values})["m"] == pytest.approx(interval(by_hand(bootstrap, values, np.mean)))
    medians = by_hand(bootstrap, values, np.median)
    np.testing.assert_allclose(bootstrap._medians(values), medians)  # each of them: few decide where an interval ends
    assert bootstrap.medians({"m": values})["m"] == interval(medians)


def test_what_is_drawn_of_samples_is_whole_images():
    bootstrap = Bootstrap(GROUPS, seed=3, resamples=50)
    found = bootstrap.over_samples(lambda drawn: {"drawn": len(drawn), "first": float((drawn == 0).sum())})
    assert found["drawn"] == (6, 6)
    assert found["first"] == interval(bootstrap._counts[:, 0].astype(float))


def test_an_interval_leaves_out_two_and_a_half_percent_on_either_side():
    assert interval(np.append(np.arange(1001.0), np.nan)) == pytest.approx((25, 975))


def test_the_same_seed_gives_the_same_interval(values):
    once, again, other = (Bootstrap(GROUPS, seed).means({"m": values}) for seed in (0, 0, 1))
    assert once == again != other


def test_what_nobody_has_has_no_interval():
    low, high = Bootstrap([0, 1]).medians({"m": np.array([np.nan, np.nan])})["m"]
    assert np.isnan([low, high]).all()


def test_the_interval_holds_the_truth_as_often_as_it_says_although_questions_of_an_image_agree():
    rng = np.random.default_rng(0)
    held = narrow = 0
    for trial in range(120):
        images, each = 60, 8
        right = (rng.random(images) < 0.6).astype(float)  # all questions of an image are right, or none
        values, groups = np.repeat(right, each), np.repeat(np.arange(images), each)
        low, high = Bootstrap(groups, trial, 200).means({"m": values})["m"]
        held += low <= 0.6 <= high
        low, high = Bootstrap(np.arange(images * each), trial, 200).means({"m": values})["m"]
        narrow += low <= 0.6 <= high
    assert 0.89 <= held / 120 <= 0.99
    assert narrow / 120 < 0.7  # what taking questions for independent would have claimed
