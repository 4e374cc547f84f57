"""Counts in fixed bins: any number of values in little memory, whatever their order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vlm3data.types import Float64Array

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

LEAST_SHOWN = 9
"""Where fewer bins have anything, some beside them are shown: one value is a bar, not a block."""


class Histogram:
    """How many values fell between each two of `edges` (n + 1, ascending); the smallest and largest are exact.

    A value beyond the edges is counted in the outermost bin, so that nothing is lost.
    """

    def __init__(self, edges: Float64Array) -> None:
        self.edges, self.counts = edges, np.zeros(len(edges) - 1, np.int64)
        self.low, self.high = math.inf, -math.inf

    @property
    def total(self) -> int:
        """Return how many values were counted."""
        return int(self.counts.sum())

    def add(self, values: npt.ArrayLike) -> None:
        """Count `values` (any shape); NaN is unknown and not counted."""
        known = np.asarray(values, float).ravel()
        known = known[~np.isnan(known)]
        if known.size:
            place = np.clip(np.searchsorted(self.edges, known, side="right") - 1, 0, len(self.counts) - 1)
            self.counts += np.bincount(place, minlength=len(self.counts))
            self.low, self.high = min(self.low, float(known.min())), max(self.high, float(known.max()))

    def quantile(self, share: float) -> float | None:
        """Return the value that `share` of all lie below, to within a bin; None of nothing."""
        if not self.total:
            return None
        ends = np.cumsum(self.counts)
        rank = share * self.total
        place = int(np.searchsorted(ends, rank, side="left"))
        place = min(max(place, int(np.flatnonzero(self.counts)[0])), len(self.counts) - 1)
        inside = (rank - (ends[place] - self.counts[place])) / max(1, self.counts[place])
        value = self.edges[place] + min(max(inside, 0.0), 1.0) * (self.edges[place + 1] - self.edges[place])
        return float(min(max(value, self.low), self.high))

    def summary(self) -> dict[str, Any]:
        """Return count, smallest, largest and the quantiles `p5` to `p95`, None where nothing was counted."""
        some = self.total > 0
        quantiles = {f"p{round(100 * share)}": self.quantile(share) for share in QUANTILES}
        return {"count": self.total, "min": self.low if some else None, "max": self.high if some else None} | quantiles


def log_edges(low: float, high: float, per_decade: int) -> Float64Array:
    """Return edges that are evenly spaced in the logarithm."""
    return np.geomspace(low, high, round(per_decade * math.log10(high / low)) + 1)


def shown_together(histograms: Sequence[Histogram], bins: int) -> tuple[list[float], list[list[int]]]:
    """Return common edges around what was counted, at most `bins` of them, and each one's counts between them."""
    counts = np.array([histogram.counts for histogram in histograms])
    edges, used = histograms[0].edges, np.flatnonzero(counts.sum(axis=0))
    if not used.size:
        return [], [[] for _ in histograms]
    first, last = int(used[0]), int(used[-1]) + 1
    spare = max(0, LEAST_SHOWN - (last - first))
    first, last = max(0, first - spare // 2), min(len(edges) - 1, last + spare - spare // 2)
    width = -(-(last - first) // bins)
    last = min(len(edges) - 1, first + width * -(-(last - first) // width))
    starts = np.arange(first, last, width)
    merged = np.add.reduceat(counts[:, :last], starts, axis=1)
    return [*edges[starts].tolist(), float(edges[last])], merged.tolist()
