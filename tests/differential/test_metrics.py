"""Scores against other ways of computing them: loops, histograms of numpy, integrals by fine steps."""

from __future__ import annotations

import numpy as np
import pytest

from tests.differential.record import agree, cases
from vlm3data.metrics import auc, auc_at_30, auc_trapezoid, delta1, epe, relative_success

SETS = cases(1000)


def error_sets():
    """Yield pairs of errors in degrees, with ties, whole numbers (the edges of bins), misses and large ones."""
    rng = np.random.default_rng(0)
    for number in range(SETS):
        size = int(rng.integers(1, 60))
        errors = rng.exponential(10, (2, size)) if number % 2 else rng.integers(0, 40, (2, size)).astype(float)
        errors[rng.random((2, size)) < 0.05] = np.nan
        yield errors


def test_auc_as_a_histogram_over_degrees():
    off = []
    for rotation_deg, direction_deg in error_sets():
        for limit in (5, 30):
            total = 0
            for a, b in zip(rotation_deg.tolist(), direction_deg.tolist(), strict=True):
                if a == a and b == b and max(a, b) <= limit:  # the mean over limits of 1, 2, ... degrees
                    worse = max(a, b)
                    total += limit - int(worse) if worse < limit else 1
            off.append(auc(rotation_deg, direction_deg, limit) - total / limit / len(rotation_deg))
        assert auc_at_30(rotation_deg, direction_deg) == auc(rotation_deg, direction_deg, 30)
    agree("AUC of a histogram", "loops", len(off), off, 1e-12, "")


def test_auc_under_the_broken_line():
    off = []
    for rotation_deg, direction_deg in error_sets():
        worse = np.sort(np.maximum(rotation_deg, direction_deg))  # NaN last
        limit, area, before, recall = 20.0, 0.0, 0.0, 0.0
        for rank, error in enumerate(worse.tolist(), start=1):
            if not error < limit:
                break
            area += (error - before) * (recall + rank / len(worse)) / 2
            before, recall = error, rank / len(worse)
        area += (limit - before) * recall
        off.append(auc_trapezoid(rotation_deg, direction_deg, limit) - area / limit)
    agree("AUC by trapezoids", "loops", len(off), off, 1e-12, "")


def test_shares_of_right_depths_and_mean_distances():
    rng = np.random.default_rng(1)
    off = []
    for _ in range(SETS):
        size = int(rng.integers(1, 40))
        truth = rng.integers(1, 20, size) / 4
        pred = truth * rng.choice([0.75, 0.7999, 0.8001, 1.0, 1.2499, 1.25, 1.3, 2.0, -1.0, 0.0, np.nan], size)
        pairs = list(zip(pred.tolist(), truth.tolist(), strict=True))
        near = [p == p and p > 0 and p < 1.25 * t and t < 1.25 * p for p, t in pairs]
        within = [p == p and abs(p - t) <= 0.25 * t for p, t in pairs]
        given = [p if p == p else None for p in pred.tolist()]
        off += [delta1(given, truth) - sum(near) / size, relative_success(given, truth) - sum(within) / size]
        xy = rng.normal(0, 9, (2, size, 2))
        xy[0][rng.random(size) < 0.2] = np.nan
        known = [np.hypot(*(a - b)) for a, b in zip(*xy, strict=True) if a[0] == a[0]]
        mean = epe(*xy)
        off.append(0.0 if not known and np.isnan(mean) else mean - sum(known) / max(len(known), 1))
    agree("delta1, relative success, end-point error", "loops", len(off), off, 1e-12, "")


@pytest.mark.parametrize("score", [delta1, relative_success, auc_at_30])
def test_of_nothing_there_is_no_score(score):
    assert np.isnan(score([], []))
