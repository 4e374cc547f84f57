"""From answers to numbers: parsed and scored by the task's own code, with intervals, beside what could be guessed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby, islice
from typing import Any

import numpy as np

from vlm3data import registry
from vlm3data.contracts import ScoresSamples
from vlm3data.types import Answered, Float64Array
from vlm3train.bootstrap import Bootstrap, Interval
from vlm3train.controls import Controls, guesses_without_training, is_error
from vlm3train.predictions import SWAPPED, Prediction

MEDIAN, PARSED = "median_", "_of_parsed"
MODEL = "model"

Scores = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Row:
    """Scores of one task on one dataset. A control that could not be had is None."""

    model: str
    dataset: str
    source: str
    """Which kind of dataset it is."""
    task: str
    questions: int
    images: int
    """Samples that the questions are about: single images, or pairs."""
    unparsed: int
    """Answers that the task's parser found no prediction in; they count as wrong."""
    scores: Scores
    swapped_images: Scores | None
    """The same model, every question put to another sample's images."""
    median: Scores | None = None
    location: Scores | None = None
    controls: dict[str, Scores] = field(default_factory=dict)
    """Further guesses that look at no image."""
    more: Scores = field(default_factory=dict)
    """Of the model alone: medians of the errors, and shares among the answers that parsed."""
    intervals: dict[str, dict[str, Interval]] = field(default_factory=dict)
    """95 %, by metric, of "model", "swapped_images", "median", ...; none where there is one image only."""
    examples: list[dict[str, str]] = field(default_factory=list)
    """The first few questions with the true and the given answer."""


def rows_of(predictions: Sequence[Prediction], controls: Controls | None = None, seed: int = 0) -> list[Row]:
    """Return one row per model, dataset and task, in the order in which they first come."""
    groups: dict[tuple[str, str, str], list[Prediction]] = {}
    for prediction in predictions:
        groups.setdefault((prediction.model, prediction.dataset, prediction.task), []).append(prediction)
    return [_row(group, controls, seed) for group in groups.values()]


def parsed(task: Any, predictions: Sequence[Prediction]) -> list[Any]:
    """Return what the task's parser makes of each answer; None where it finds nothing."""
    return [task.parse(one.answer, one.truth) for one in predictions]


@cache
def task_named(name: str) -> Any:
    """Return the task, with its defaults."""
    kind = registry.load("task", name)
    return kind(kind.Options())


def _row(group: Sequence[Prediction], controls: Controls | None, seed: int) -> Row:
    own = [one for one in group if not one.control]
    swapped = [one for one in group if one.control == SWAPPED]
    task, truths = task_named(group[0].task), [one.truth for one in own]
    keys = list(dict.fromkeys(one.key for one in own))
    number = {key: place for place, key in enumerate(keys)}
    bootstrap = Bootstrap([number[one.key] for one in own], seed) if len(keys) > 1 else None

    said = parsed(task, own)
    judge = _Judge(task, own, bootstrap)
    guessed = {
        name: judge.judged([guess(truth) for truth in truths])
        for name, guess in {**guesses_without_training(task.name), **(controls.of(task) if controls else {})}.items()
    }
    place = {(one.key, one.index): answer for one, answer in zip(swapped, parsed(task, swapped), strict=True)}
    if place.keys() == {(one.key, one.index) for one in own}:
        guessed[SWAPPED] = judge.judged([place[one.key, one.index] for one in own])
    model, more = judge.judged(said), judge.more(said)
    intervals = {MODEL: {**model[1], **more[1]}} | {name: found[1] for name, found in guessed.items()}
    return Row(
        model=own[0].model,
        dataset=own[0].dataset,
        source=own[0].source,
        task=task.name,
        questions=len(own),
        images=len(keys),
        unparsed=sum(prediction is None for prediction in said),
        scores=model[0],
        swapped_images=guessed.pop(SWAPPED, (None, {}))[0],
        median=guessed.pop("median", (None, {}))[0],
        location=guessed.pop("location", (None, {}))[0],
        controls={name: found[0] for name, found in guessed.items()},
        more=more[0],
        intervals=intervals if bootstrap else {},
        examples=[{"question": one.question, "truth": one.expected, "answer": one.answer} for one in islice(own, 5)],
    )


class _Judge:
    """Scores of any predictions for the same questions, their intervals over the same resamples."""

    def __init__(self, task: Any, asked: Sequence[Prediction], bootstrap: Bootstrap | None) -> None:
        self.task, self.asked, self.bootstrap = task, asked, bootstrap

    def judged(self, predictions: Sequence[Any]) -> tuple[Scores, dict[str, Interval]]:
        """Return the task's metrics over all questions, those without a prediction included, and their intervals."""
        answered = [
            Answered(one.key, one.truth, prediction) for one, prediction in zip(self.asked, predictions, strict=True)
        ]
        scores = self.task.summary(answered)
        if self.bootstrap is None:
            return scores, {}
        intervals = self.bootstrap.means(_columns(self._each(predictions)))
        if isinstance(self.task, ScoresSamples):
            intervals |= self._of_samples(self.task, answered, self.bootstrap)
        return scores, {name: found for name, found in intervals.items() if name in scores}

    def more(self, predictions: Sequence[Any]) -> tuple[Scores, dict[str, Interval]]:
        """Return the medians of the errors, and the shares among the answers that parsed, with their intervals."""
        each = self._each(predictions)
        if self.task.name == "depth":
            each = [
                score | {"abs_rel": np.nan if p is None else abs(p - one.truth["depth_m"]) / one.truth["depth_m"]}
                for score, p, one in zip(each, predictions, self.asked, strict=True)
            ]
        there = np.array([prediction is not None for prediction in predictions])
        columns = _columns(each)
        errors = {name: values for name, values in columns.items() if is_error(name)}
        medians = {MEDIAN + name: values for name, values in errors.items()}
        shares = {name + PARSED: np.where(there, columns[name], np.nan) for name in columns if not is_error(name)}
        means = shares | {name: values for name, values in errors.items() if self.task.name == "depth"}
        scores = {name: _over(np.mean, values) for name, values in means.items()}
        scores |= {name: _over(np.median, values) for name, values in medians.items()}
        found = self.bootstrap.means(means) | self.bootstrap.medians(medians) if self.bootstrap else {}
        return {name: value for name, value in scores.items() if value == value}, found

    def _each(self, predictions: Sequence[Any]) -> list[Scores]:
        return [self.task.score(p, one.truth) for p, one in zip(predictions, self.asked, strict=True)]

    def _of_samples(
        self, task: ScoresSamples, answered: Sequence[Answered], bootstrap: Bootstrap
    ) -> dict[str, Interval]:
        by_sample = groupby(
            sorted(zip(bootstrap.groups.tolist(), answered, strict=True), key=lambda one: one[0]), lambda one: one[0]
        )
        values = [task.of_sample([one for _, one in group]) for _, group in by_sample]
        there = np.array([value is not None for value in values])
        if not there.any():
            return {}
        width = next(len(value) for value in values if value is not None)
        table = np.array([[np.nan] * width if value is None else value for value in values], float)
        return bootstrap.over_samples(lambda drawn: task.over_samples(table[drawn[there[drawn]]]))


def _columns(scores: Sequence[Mapping[str, float]]) -> dict[str, Float64Array]:
    """Return an array a metric over all questions; NaN where a question has none."""
    names = dict.fromkeys(name for score in scores for name in score)
    return {name: np.array([score.get(name, np.nan) for score in scores], float) for name in names}


def _over(statistic: Any, values: Float64Array) -> float:
    known = values[np.isfinite(values)]
    return float(statistic(known)) if len(known) else float("nan")
