"""What a score is worth: predictors that do not look at the image, and images that do not fit the question."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import simplejpeg

from vlm3data.shards import read_samples
from vlm3data.types import Float64Array, Sample

CELLS = 20
"""The location prior's cells along each axis."""


@dataclass(frozen=True)
class DepthControls:
    """Two guesses of depth from training data alone: its median, and its median where the pixel lies."""

    median_m: float
    cell_median_m: Float64Array
    """(CELLS, CELLS), row first; cells that no training pixel fell in hold the median."""

    def median(self, truth: Mapping[str, Any]) -> float:
        """Return the one depth that is guessed everywhere."""
        return self.median_m

    def location(self, truth: Mapping[str, Any]) -> float:
        """Return the depth that is usual where the question's pixel lies."""
        column, row = _cell(truth)
        return float(self.cell_median_m[row, column])


def fit_depth(samples: Iterable[Sample]) -> DepthControls | None:
    """Return the controls fitted on every depth question of `samples`; None if there is none."""
    by_cell: dict[tuple[int, int], list[float]] = defaultdict(list)
    for sample in samples:
        for question in sample.questions:
            if question.task == "depth":
                by_cell[_cell(question.truth)].append(question.truth["depth_m"])
    if not by_cell:
        return None
    median_m = float(np.median(np.concatenate([np.asarray(depths) for depths in by_cell.values()])))
    cells = np.full((CELLS, CELLS), median_m)
    for (column, row), depths in by_cell.items():
        cells[row, column] = np.median(depths)
    return DepthControls(median_m, cells)


def fit_depth_on(urls: Iterable[str]) -> DepthControls | None:
    """Return the controls fitted on whole datasets of shards."""
    return fit_depth(sample for url in urls for sample in read_samples(url))


def with_swapped_images(samples: Sequence[Sample]) -> list[Sample] | None:
    """Return `samples`, each with the images of another one; None where there is only one.

    The other one has the same image size where any has. It lies half a group away rather than next to it:
    neighbours are often views of one scene, and their images would still fit.
    """
    groups: dict[Any, list[int]] = defaultdict(list)
    for index, sample in enumerate(samples):
        groups[tuple(simplejpeg.decode_jpeg_header(image)[:2] for image in sample.images)].append(index)
    lone = [group[0] for group in groups.values() if len(group) == 1]
    shared = [group for group in groups.values() if len(group) > 1]
    if len(lone) == 1:
        if not shared:
            return None
        shared[0] = shared[0] + lone
    elif lone:
        shared.append(lone)
    donor = {
        index: group[(place + len(group) // 2) % len(group)] for group in shared for place, index in enumerate(group)
    }
    return [replace(sample, images=samples[donor[i]].images) for i, sample in enumerate(samples)]


def _cell(truth: Mapping[str, Any]) -> tuple[int, int]:
    (x, y), grid = truth["grid_xy"], truth.get("grid", 2000)
    return x * CELLS // grid, y * CELLS // grid
