"""From a study's runs to a better mixture: a regression of the score on the shares, as in RegMix (Liu et al., 2024).

The score is fitted by a ridge regression on what each share brings. That grows slower the larger a share is already:
the logarithm of the share, softened by a small one, so that the best mixture lies inside the simplex and not in a
corner; or the share and its square, for a score that falls again beyond some share. Which of these, how softened and
how strongly smoothed is chosen by leaving one run out. Uncertainty comes from fitting again to runs drawn with
replacement. What is proposed stays among mixtures like those that were tried.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from vlm3data.randomness import rng_for
from vlm3data.types import Float64Array, UserError

PENALTIES = np.logspace(-6, 2, 17)
SOFTENINGS = (0.0, 0.01, 0.03, 0.1, 0.3)
"""Shares from which on more of a dataset brings less; 0 stands for the share and its square."""
CANDIDATES = 20_000
DRAWS = 200


@dataclass(frozen=True)
class Proposal:
    """The mixture that the fit likes best, and how far to trust it."""

    shares: dict[str, float]
    score: float
    """Predicted."""
    sigma: float
    """One standard deviation of that prediction over fits to resampled runs."""
    best_run: str
    best_run_score: float
    left_out_correlation: float
    """Between each run's score and its prediction from all the others: near 0 or below, the fit says nothing."""
    runs: int


def propose(rows: Sequence[Mapping[str, Any]], seed: int = 0) -> Proposal:
    """Return the proposal from runs of one model and budget. Raises UserError where there are too few of them."""
    names = list(rows[0]["shares"])
    if any(row["shares"].keys() != rows[0]["shares"].keys() for row in rows):
        raise UserError("a fit needs runs over the same datasets")
    needed = len(names) + 2
    if len(rows) < needed:
        raise UserError(f"a fit over {len(names)} datasets needs at least {needed} runs, there are {len(rows)}")
    shares = np.array([[row["shares"][name] for name in names] for row in rows])
    scores = np.array([row["score"] for row in rows])
    softening, penalty = _chosen(shares, scores)
    features = _features(shares, softening)

    rng = rng_for(seed, "propose")
    candidates = _like(shares, rng)
    wanted = _features(candidates, softening)
    predicted = _predict(features, scores, penalty, wanted)
    best = int(predicted.argmax())
    again = []
    for _ in range(DRAWS):
        drawn = rng.integers(len(rows), size=len(rows))
        again.append(_predict(features[drawn], scores[drawn], penalty, wanted[best : best + 1])[0])
    top = int(scores.argmax())
    foretold = _foretold(shares, scores)
    constant = np.ptp(scores) < 1e-12 or np.ptp(foretold) < 1e-12
    return Proposal(
        shares=dict(zip(names, candidates[best].tolist(), strict=True)),
        score=float(predicted[best]),
        sigma=float(np.std(again)),
        best_run=rows[top]["run"],
        best_run_score=float(scores[top]),
        left_out_correlation=0.0 if constant else float(np.corrcoef(scores, foretold)[0, 1]),
        runs=len(rows),
    )


def _features(shares: Float64Array, softening: float) -> Float64Array:
    return np.log(shares + softening) if softening else np.concatenate([shares, shares**2], axis=1)


def _like(shares: Float64Array, rng: np.random.Generator) -> Float64Array:
    """Return the runs' mixtures and many between them: averages of a few, weighted at random."""
    weights = rng.dirichlet(np.full(len(shares), 0.2), size=CANDIDATES)
    return np.concatenate([shares, weights @ shares])


def _solve(features: Float64Array, scores: Float64Array, penalty: float) -> tuple[Float64Array, Float64Array, float]:
    """Return mean features, weights and mean score of a ridge regression whose intercept is not penalised."""
    mean = features.mean(axis=0)
    centred = features - mean
    gram = centred.T @ centred + penalty * np.eye(features.shape[1])
    return mean, np.linalg.solve(gram, centred.T @ (scores - scores.mean())), float(scores.mean())


def _predict(features: Float64Array, scores: Float64Array, penalty: float, at: Float64Array) -> Float64Array:
    mean, weights, middle = _solve(features, scores, penalty)
    return (at - mean) @ weights + middle


def _chosen(shares: Float64Array, scores: Float64Array) -> tuple[float, float]:
    """Return the softening and the penalty with which runs are foretold best by the others."""

    def error(softening: float, penalty: float) -> float:
        return float((_left_out(_features(shares, softening), scores, penalty) ** 2).sum())

    return min(product(SOFTENINGS, PENALTIES), key=lambda pair: error(*pair))


def _left_out(features: Float64Array, scores: Float64Array, penalty: float) -> Float64Array:
    """Return, a run, its score minus what all the others predict for it.

    From one fit to them all, whose residuals are too small by the runs' leverages (Allen's PRESS, 1974).
    """
    centred = features - features.mean(axis=0)
    gram = centred.T @ centred + penalty * np.eye(features.shape[1])
    leverage = 1 / len(scores) + np.einsum("ij,ji->i", centred, np.linalg.solve(gram, centred.T))
    return (scores - _predict(features, scores, penalty, features)) / (1 - leverage)


def _foretold(shares: Float64Array, scores: Float64Array) -> Float64Array:
    """Return, a run, what all the others predict for it.

    They also choose how: of many ways to fit, some foretell by chance the very runs that they were chosen by.
    """
    foretold = []
    for run in range(len(scores)):
        others = np.arange(len(scores)) != run
        softening, penalty = _chosen(shares[others], scores[others])
        at = _features(shares[[run]], softening)
        foretold.append(_predict(_features(shares[others], softening), scores[others], penalty, at)[0])
    return np.array(foretold)
