"""Confidence intervals by the bootstrap over images: questions about one image are not independent of each other.

Samples (an image, or a pair of images) are drawn with replacement, with all their questions; the interval is that of
the percentiles (Efron and Tibshirani, An Introduction to the Bootstrap, chapter 13). The same seed gives the same
interval.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from vlm3data.types import Float64Array, Int64Array

RESAMPLES = 1000
LEVEL = 0.95
_AT_ONCE = 1 << 22
"""Numbers held at a time."""

Interval = tuple[float, float]


class Bootstrap:
    """Resamples of `groups`, the image (0, 1, ...) of every question."""

    def __init__(self, groups: Sequence[int], seed: int = 0, resamples: int = RESAMPLES) -> None:
        self.groups = np.asarray(groups, np.int64)
        self.size = int(self.groups.max()) + 1
        rng = np.random.default_rng(seed)
        self._counts = np.empty((resamples, self.size), np.uint8)
        for row in self._counts:  # one at a time: the draws themselves would not fit into memory for large sets
            row[:] = np.minimum(np.bincount(rng.integers(self.size, size=self.size), minlength=self.size), 255)

    def means(self, values: Mapping[str, Float64Array]) -> dict[str, Interval]:
        """Return the interval of each mean over questions; NaN counts as missing, as in `metrics.mean_of_each`."""
        found = {}
        for name, of_question in values.items():
            known = np.isfinite(of_question)
            sums = np.bincount(self.groups[known], of_question[known], self.size)
            counts = np.bincount(self.groups[known], minlength=self.size)
            with np.errstate(invalid="ignore", divide="ignore"):
                resampled = self._times(sums) / self._times(counts)
            found[name] = interval(resampled)
        return found

    def medians(self, values: Mapping[str, Float64Array]) -> dict[str, Interval]:
        """Return the interval of each median over the questions that have a value."""
        return {name: interval(self._medians(of_question)) for name, of_question in values.items()}

    def over_samples(self, statistic: Callable[[Int64Array], Mapping[str, float]]) -> dict[str, Interval]:
        """Return the interval of what `statistic` makes of the drawn images' numbers, repeated as they were drawn."""
        rows = [statistic(np.repeat(np.arange(self.size), counts)) for counts in self._counts]
        return {name: interval(np.array([row.get(name, np.nan) for row in rows])) for name in rows[0]}

    def _times(self, of_group: Float64Array | Int64Array) -> Float64Array:
        step = max(1, _AT_ONCE // self.size)
        weights = of_group.astype(np.float64)
        starts = range(0, len(self._counts), step)
        return np.concatenate([self._counts[i : i + step].astype(np.float64) @ weights for i in starts])

    def _medians(self, of_question: Float64Array) -> Float64Array:
        known = np.flatnonzero(np.isfinite(of_question))
        if not len(known):
            return np.full(len(self._counts), np.nan)
        order = known[np.argsort(of_question[known])]
        values, groups = of_question[order], self.groups[order]
        step = max(1, _AT_ONCE // len(order))
        medians = []
        for i in range(0, len(self._counts), step):
            places = np.cumsum(self._counts[i : i + step, groups], axis=1, dtype=np.int64)
            total = places[:, -1:]
            # of an even number the two in the middle
            low, high = ((places > k).argmax(axis=1) for k in ((total - 1) // 2, total // 2))
            medians.append(np.where(total[:, 0] > 0, (values[low] + values[high]) / 2, np.nan))
        return np.concatenate(medians)


def interval(resampled: Float64Array) -> Interval:
    """Return the middle `LEVEL` of the values; NaN where there is none."""
    known = resampled[np.isfinite(resampled)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
