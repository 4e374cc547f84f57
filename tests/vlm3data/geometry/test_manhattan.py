"""Focal lengths from segments made exactly: known camera, known noise."""

from __future__ import annotations

import numpy as np
import pytest

from vlm3data.geometry import manhattan, rotation_from_yaw_pitch_roll_deg
from vlm3data.geometry.manhattan import Manhattan, focal_from_segments
from vlm3data.randomness import rng_for

CENTRE, HALF = (320.0, 240.0), 400.0


def edges(focal_px: float, yaw_pitch_roll_deg: tuple[float, float, float], *, clutter: float = 0.0, count: int = 90):
    """Return segments of edges along three axes seen by a turned camera, ends good to a third of a pixel."""
    rng = rng_for(3, "edges", focal_px)
    rotation = rotation_from_yaw_pitch_roll_deg(*yaw_pitch_roll_deg)
    made = []
    while len(made) < count:
        middle = rng.uniform((-300, -220), (300, 220))
        if rng.random() < clutter:
            angle = rng.uniform(0, np.pi)
            along = np.array([np.cos(angle), np.sin(angle)])
        else:
            toward = rotation.T[:, rng.integers(3)]
            along = focal_px * toward[:2] - toward[2] * middle
            along = along / np.linalg.norm(along)
        reach = along * rng.uniform(20, 60)
        ends = np.stack([middle - reach, middle + reach]) + rng.normal(0, 0.3, (2, 2))
        made.append((ends + CENTRE).ravel())
    return np.array(made)


def told(segments) -> Manhattan:
    found = focal_from_segments(segments, CENTRE, HALF, rng_for(0))
    assert found is not None
    return found


@pytest.mark.parametrize("focal_px", [260.0, 400.0, 800.0])
@pytest.mark.parametrize("pose", [(35.0, 15.0, 3.0), (-25.0, -20.0, 0.0)])
def test_the_focal_length_comes_back_within_its_uncertainty(focal_px, pose):
    found = told(edges(focal_px, pose))
    assert found.focal_px == pytest.approx(focal_px, rel=0.05)
    assert abs(found.focal_px / focal_px - 1) < 3 * found.focal_sigma_rel < 0.3
    assert found.share > 0.95
    assert min(found.counts) > 10


def test_clutter_is_left_aside():
    found = told(edges(400.0, (35.0, 15.0, 3.0), clutter=0.35, count=150))
    assert found.focal_px == pytest.approx(400, rel=0.06)
    assert found.share < 0.9


def test_a_wall_seen_head_on_does_not_tell():
    """All three vanishing points at infinity or in the middle: any focal length fits."""
    assert told(edges(400.0, (0.0, 0.0, 0.0))).focal_sigma_rel > 0.2


def test_directions_at_random_explain_little():
    assert told(edges(400.0, (35.0, 15.0, 3.0), clutter=1.0, count=120)).share < 0.6


def test_too_few_segments_are_no_hypothesis():
    assert focal_from_segments(edges(400.0, (35.0, 15.0, 3.0))[:3], CENTRE, HALF, rng_for(0)) is None
    assert focal_from_segments(np.empty((0, 4)), CENTRE, HALF, rng_for(0)) is None


def test_four_segments_are_the_fewest_that_tell():
    found = told(edges(400.0, (35.0, 15.0, 3.0), count=4))
    assert np.isfinite(found.focal_sigma_rel)


def test_refinement_makes_much_of_a_few_crude_hypotheses(monkeypatch):
    monkeypatch.setattr(manhattan, "HYPOTHESES", 40)
    assert told(edges(400.0, (35.0, 15.0, 3.0))).focal_px == pytest.approx(400, rel=0.02)


@pytest.mark.parametrize("noise_px", [0.6, 0.8])
def test_the_uncertainty_is_how_far_the_focal_length_scatters(noise_px):
    """Of ends a third and two thirds worse than is taken for granted."""
    off = []
    for number in range(40):
        segments = edges(400.0, (35.0, 15.0, 3.0)) + rng_for(5, "noise", number).normal(0, noise_px, (90, 4))
        _, log_focal, sigma = refined(segments)
        off.append((log_focal - np.log(400.0 / HALF)) / sigma)
    assert 0.7 < np.std(off) < 1.3


def test_the_uncertainty_told_is_twice_the_scatter_and_what_the_middle_may_be_off():
    segments = edges(400.0, (35.0, 15.0, 3.0))
    assert told(segments).focal_sigma_rel == pytest.approx(np.hypot(2 * refined(segments)[2], 0.02), rel=0.01)


def test_segments_that_point_elsewhere_leave_the_uncertainty_as_it_is():
    ends = edges(400.0, (35.0, 15.0, 3.0)).reshape(90, 2, 2)
    longer = ends + 2 * (ends - ends.mean(axis=1, keepdims=True))  # so that a scatter of 3 px is more than expected
    segments = longer.reshape(90, 4) + rng_for(5, "noise").normal(0, 3.0, (90, 4))
    beside = edges(400.0, (35.0, 15.0, 45.0), count=60)  # the scene turned about the line of sight
    rotation, log_focal, sigma = refined(segments)
    lines = manhattan._Lines.of((np.concatenate([segments, beside]).reshape(-1, 2, 2) - CENTRE) / HALF, 0.5 / HALF)
    off = lines.beside(rotation[None], np.exp([log_focal]))[0, 90:].min(axis=1)
    kept = np.concatenate([np.ones(90, bool), off > manhattan.TOLERANCE])
    assert kept.sum() > 110
    assert refined(np.concatenate([segments, beside])[kept])[2] == pytest.approx(sigma, rel=1e-6)


@pytest.mark.parametrize(("number", "free_once", "free_twice"), [(1, 5 - 4, 10 - 4), (2, 1, 8 - 4)])
def test_the_same_segments_twice_have_as_much_more_freedom_as_there_are_more(number, free_once, free_twice):
    """Of five segments, which say little about the focal length and much about their scatter; in one case of four."""
    ends = edges(400.0, (35.0, 15.0, 3.0), count=5).reshape(5, 2, 2)
    longer = ends + 3 * (ends - ends.mean(axis=1, keepdims=True))
    segments = longer.reshape(5, 4) + rng_for(number, "five").normal(0, 3.0, (5, 4))
    once, twice = refined(segments)[2], refined(np.concatenate([segments, segments]))[2]
    assert (once / twice) ** 2 == pytest.approx(free_twice / (2 * free_once), rel=1e-6)


def refined(segments) -> tuple[np.ndarray, float, float]:
    """Refine from the true camera."""
    lines = manhattan._Lines.of((segments.reshape(-1, 2, 2) - CENTRE) / HALF, 0.5 / HALF)
    rotation = rotation_from_yaw_pitch_roll_deg(35.0, 15.0, 3.0).T
    return manhattan._refined(lines, rotation, float(np.log(400.0 / HALF)))
