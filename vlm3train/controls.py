"""What a score is worth: predictors that do not look at the image, and images that do not fit the question."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import simplejpeg

from vlm3data import registry
from vlm3data.contracts import Task
from vlm3data.metrics import mean_of_each
from vlm3data.randomness import rng_for
from vlm3data.shards import read_samples
from vlm3data.types import Float64Array, Question, Sample

CELLS = 20
"""The location prior's cells along each axis."""
CONSTANT_CANDIDATES, CONSTANT_TRIALS = 30, 200
"""The constant is the best of so many answers, judged on so many questions of each kind."""
ERRORS = ("_px", "_deg", "_grid", "_m", "abs_rel")
"""How metrics end that are errors; all others are shares of right answers."""

Guess = Callable[[Mapping[str, Any]], Any]
"""A prediction, in the form that the task's parser has, from what a question tells: its truth without the answer."""


def is_error(metric: str) -> bool:
    """Tell whether less of a metric is better."""
    return metric.endswith(ERRORS)


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


@dataclass(frozen=True)
class Controls:
    """What could be guessed from training data alone, of every task."""

    depth: DepthControls | None
    constant: Mapping[tuple[str, str], Any]
    """By task and kind of question: the one prediction that does best on training questions of this kind."""

    def of(self, task: Task) -> dict[str, Guess]:
        """Return the guesses by name; each makes a prediction from what a question says."""
        if task.name == "depth":
            return {"median": self.depth.median, "location": self.depth.location} if self.depth else {}
        if not any(name == task.name for name, _ in self.constant):
            return {}
        return {"constant": lambda truth: self.constant.get((task.name, _kind(truth)))}


def fit(samples: Iterable[Sample]) -> Controls | None:
    """Return the controls fitted on every question of `samples`; None if there is none."""
    by_cell: dict[tuple[int, int], list[float]] = defaultdict(list)
    others: dict[tuple[str, str], list[Question]] = defaultdict(list)
    for sample in samples:
        for question in sample.questions:
            if question.task == "depth":
                by_cell[_cell(question.truth)].append(question.truth["depth_m"])
            else:
                others[question.task, _kind(question.truth)].append(question)
    if not by_cell and not others:
        return None
    return Controls(_depth(by_cell), {name: _constant(name, questions) for name, questions in others.items()})


def fit_on(urls: Iterable[str]) -> Controls | None:
    """Return the controls fitted on whole datasets of shards."""
    return fit(sample for url in urls for sample in read_samples(url))


def guesses_without_training(task: str) -> dict[str, Guess]:
    """Return the guesses that need no training data: a correspondence at the very pixel that was asked about."""
    return {"same_place": lambda truth: tuple(truth["grid_xy"])} if task == "correspondence" else {}


def _depth(by_cell: Mapping[tuple[int, int], list[float]]) -> DepthControls | None:
    if not by_cell:
        return None
    median_m = float(np.median(np.concatenate([np.asarray(depths) for depths in by_cell.values()])))
    cells = np.full((CELLS, CELLS), median_m)
    for (column, row), depths in by_cell.items():
        cells[row, column] = np.median(depths)
    return DepthControls(median_m, cells)


def _constant(name: tuple[str, str], questions: Sequence[Question]) -> Any:
    """Return, of some true answers, the one that scores best on some training questions of its kind."""
    kind = registry.load("task", name[0])
    task = kind(kind.Options())
    rng = rng_for(0, "constant", *name)
    drawn = [questions[i] for i in rng.permutation(len(questions))[:CONSTANT_TRIALS]]
    candidates = [task.parse(question.answer, question.truth) for question in drawn[:CONSTANT_CANDIDATES]]

    def worth(candidate: Any) -> tuple[float, float]:
        scores = mean_of_each(task.score(candidate, question.truth) for question in drawn)
        shares = [value for metric, value in scores.items() if not is_error(metric)]
        return sum(shares), -sum(value for metric, value in scores.items() if is_error(metric))

    return max((candidate for candidate in candidates if candidate is not None), key=worth, default=None)


def _kind(truth: Mapping[str, Any]) -> str:
    """Return the kind of question, within its task, that is answered in one form."""
    return str(truth.get("category", truth.get("kind", "")))


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
            away = (place + len(group) // 2) % len(group)
            donors = chain(group[away:], group[:away], as_many[len(samples[index].images)], range(len(samples)))
            donor = next((other for other in donors if scenes[other] != scenes[index]), None)
            if donor is None:
                return None
            swapped.append((index, replace(samples[index], images=samples[donor].images)))
    return [sample for _, sample in sorted(swapped, key=lambda pair: pair[0])]


def _cell(truth: Mapping[str, Any]) -> tuple[int, int]:
    (x, y), grid = truth["grid_xy"], truth.get("grid", 2000)
    return x * CELLS // grid, y * CELLS // grid
