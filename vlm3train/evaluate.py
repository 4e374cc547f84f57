"""Evaluation: ask a model every question by itself, parse and score with the task's own code, beside controls."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from vlm3data import registry
from vlm3data.shards import read_samples
from vlm3data.types import Question, Sample, UserError
from vlm3train.controls import DepthControls, with_swapped_images

Asked = tuple[Sample, Question]
Answer = Callable[[Sequence[Asked]], list[str]]
"""What is evaluated: questions go in, each beside the sample whose images it is put to; texts come out."""


@dataclass(frozen=True)
class Row:
    """Scores of one task on one dataset. A control that could not be had is None."""

    model: str
    dataset: str
    task: str
    questions: int
    unparsed: int
    """Answers that the task's parser found no prediction in; they count as wrong."""
    scores: dict[str, float]
    swapped_images: dict[str, float] | None
    """The same model, every question put to another sample's images."""
    median: dict[str, float] | None
    location: dict[str, float] | None
    examples: list[dict[str, str]] = field(default_factory=list)
    """The first few questions with the true and the given answer."""


def evaluate(
    answer: Answer, of: tuple[str, str], samples: Sequence[Sample], per_image: int, controls: DepthControls | None
) -> list[Row]:
    """Return one row per task for the first `per_image` stored questions of every sample.

    `of` names the model and the dataset, for the rows.
    """
    asked = [(sample, question) for sample in samples for question in sample.questions[:per_image]]
    if not asked:
        raise UserError(f"{of[1]}: there are no questions in it")
    answers = answer(asked)
    swapped = with_swapped_images(samples)
    swapped_answers = None
    if swapped:
        other = {id(sample): stranger for sample, stranger in zip(samples, swapped, strict=True)}
        swapped_answers = answer([(other[id(sample)], question) for sample, question in asked])

    places: dict[str, list[int]] = defaultdict(list)
    for place, (_, question) in enumerate(asked):
        places[question.task].append(place)
    return [
        _row(
            of,
            [asked[i][1] for i in here],
            [answers[i] for i in here],
            swapped_answers and [swapped_answers[i] for i in here],
            controls,
        )
        for here in places.values()
    ]


def read_for_evaluation(url: str, limit: int | None) -> list[Sample]:
    """Return the first `limit` samples of a dataset of shards (None: all)."""
    return list(islice(read_samples(url), limit))


def write_json(path: str, about: dict[str, Any], rows: Sequence[Row]) -> None:
    """Write the rows, with what they are of, to `path`."""
    import orjson

    data = orjson.dumps(about | {"rows": [asdict(row) for row in rows]}, option=orjson.OPT_INDENT_2)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(data + b"\n")


def _row(
    of: tuple[str, str],
    questions: list[Question],
    answers: list[str],
    swapped_answers: list[str] | None,
    controls: DepthControls | None,
) -> Row:
    task = _task(questions[0].task)
    predictions = [task.parse(text) for text in answers]
    known = controls if task.name == "depth" else None
    return Row(
        model=of[0],
        dataset=of[1],
        task=task.name,
        questions=len(questions),
        unparsed=sum(prediction is None for prediction in predictions),
        scores=_score(task, predictions, questions),
        swapped_images=_score(task, map(task.parse, swapped_answers), questions) if swapped_answers else None,
        median=_score(task, [known.median(q.truth) for q in questions], questions) if known else None,
        location=_score(task, [known.location(q.truth) for q in questions], questions) if known else None,
        examples=[
            {"question": question.question, "truth": question.answer, "answer": text}
            for question, text in islice(zip(questions, answers, strict=True), 5)
        ],
    )


def _score(task: Any, predictions: Iterable[Any], questions: Sequence[Question]) -> dict[str, float]:
    """Return each metric's mean over all questions, those without a prediction included."""
    scores: list[Mapping[str, float]] = [
        task.score(prediction, question.truth) for prediction, question in zip(predictions, questions, strict=True)
    ]
    return {metric: float(np.mean([score[metric] for score in scores])) for metric in scores[0]}


@cache
def _task(name: str) -> Any:
    kind = registry.load("task", name)
    return kind(kind.Options())
