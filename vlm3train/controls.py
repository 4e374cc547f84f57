"""What a score is worth: predictors that do not look at the image, and images that do not fit the question."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
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

    The other one shows another scene, because views of one scene would still fit; it has as many images and of the
    same sizes where any such has, else as many. None where all samples show one scene.
    """
    scenes = [(sample.record["source"], sample.record["scene"]) for sample in samples]
    groups: dict[Any, list[int]] = defaultdict(list)
    as_many: dict[int, list[int]] = defaultdict(list)
    for index, sample in enumerate(samples):
        as_many[len(sample.images)].append(index)
        groups[tuple(simplejpeg.decode_jpeg_header(image)[:2] for image in sample.images)].append(index)
    swapped = []
    for group in groups.values():
        for place, index in enumerate(group):
            # Half a group away, so that not one donor serves all; then, where need be, any sample at all.
            same_size = (group[place + len(group) // 2 :], group[: place + len(group) // 2])
            donors = chain(*same_size, as_many[len(samples[index].images)], range(len(samples)))
            donor = next((other for other in donors if scenes[other] != scenes[index]), None)
            if donor is None:
                return None
            swapped.append((index, replace(samples[index], images=samples[donor].images)))
    return [sample for _, sample in sorted(swapped, key=lambda pair: pair[0])]


def _cell(truth: Mapping[str, Any]) -> tuple[int, int]:
    (x, y), grid = truth["grid_xy"], truth.get("grid", 2000)
    return x * CELLS // grid, y * CELLS // grid
