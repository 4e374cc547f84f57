"""Scores of predicted numbers; an answer that did not parse is None or NaN and counts as wrong.

How many did not parse is for the caller to report beside the score.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from vlm3data.types import Float64Array

Numbers = Sequence[float | None] | npt.NDArray[np.floating] | float


def _numbers(values: Numbers) -> Float64Array:
    return np.asarray(values, dtype=float)  # None becomes NaN


def _fraction(right: npt.NDArray[np.bool_]) -> float:
    return float(np.mean(right)) if right.size else float("nan")


def delta1(pred: Numbers, truth: Numbers) -> float:
    """Return the fraction with max(pred/truth, truth/pred) < 1.25, strictly; NaN of nothing.

    A prediction <= 0 is wrong.
    """
    p, g = _numbers(pred), _numbers(truth)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return _fraction((p > 0) & (np.maximum(p / g, g / p) < 1.25))


def relative_success(pred: Numbers, truth: Numbers, tolerance: float = 0.25) -> float:
    """Return the fraction with (1 - tolerance)·truth <= pred <= (1 + tolerance)·truth; NaN of nothing.

    The success rate of SpatialRGPT's benchmark.
    """
    p, g = _numbers(pred), _numbers(truth)
    return _fraction(((1 - tolerance) * g <= p) & (p <= (1 + tolerance) * g))


def epe(pred_xy: npt.ArrayLike, truth_xy: npt.ArrayLike) -> float:
    """Return the mean distance of points (n, 2), in their own unit, over those that parsed; NaN of none.

    A missing point has no distance, so it cannot lower or raise this score: report how many there were.
    """
    error = np.linalg.norm(np.asarray(pred_xy, float) - np.asarray(truth_xy, float), axis=-1)
    known = error[np.isfinite(error)]
    return float(np.mean(known)) if known.size else float("nan")


def auc_at_30(rot_err_deg: Numbers, trans_err_deg: Numbers) -> float:
    """Return `auc` up to 30 degrees."""
    return auc(rot_err_deg, trans_err_deg, 30)


def auc(rot_err_deg: Numbers, trans_err_deg: Numbers, up_to_deg: int) -> float:
    """Return the AUC, 0 to 1, up to `up_to_deg` of max(rotation, direction error); NaN of nothing.

    The mean of the cumulative histogram over bins of 1 degree, as VGGT and Depth Anything 3 compute it; not
    the trapezoid. The last bin is closed: at 30, an error of 30.0 is inside. A NaN error is a miss.
    """
    error_deg = _pose_errors(rot_err_deg, trans_err_deg)
    if not error_deg.size:
        return float("nan")
    counts, _ = np.histogram(error_deg[np.isfinite(error_deg)], bins=np.arange(up_to_deg + 1))
    return float(np.mean(np.cumsum(counts) / error_deg.size))


def auc_trapezoid(rot_err_deg: Numbers, trans_err_deg: Numbers, up_to_deg: float) -> float:
    """Return the AUC, 0 to 1, under recall over max(rotation, direction error) up to `up_to_deg`; NaN of nothing.

    Recall rises linearly from one error to the next, from 0 at 0 degrees, and stays level after the last one below
    the limit, as LoFTR computes it. A NaN error is a miss.
    """
    error_deg = _pose_errors(rot_err_deg, trans_err_deg)
    if not error_deg.size:
        return float("nan")
    below = np.sort(error_deg[error_deg < up_to_deg])
    recall = np.arange(len(below) + 1) / error_deg.size
    x, y = np.concatenate([[0.0], below, [up_to_deg]]), np.append(recall, recall[-1])
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2) / up_to_deg)


def _pose_errors(rot_err_deg: Numbers, trans_err_deg: Numbers) -> Float64Array:
    return np.atleast_1d(np.maximum(_numbers(rot_err_deg), _numbers(trans_err_deg)))


def mean_of_each(scores: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return each metric's mean over the answers that have it, in the order in which metrics first appear.

    NaN values count as missing: an error that an unparsed answer does not have cannot lower or raise the mean.
    """
    values: dict[str, list[float]] = defaultdict(list)
    for score in scores:
        for metric, value in score.items():
            if value == value:
                values[metric].append(value)
    return {metric: float(np.mean(known)) for metric, known in values.items()}
