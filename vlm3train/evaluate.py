"""Evaluation: ask a model every question by itself, parse and score with the task's own code, beside controls."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from vlm3data import registry
from vlm3data.shards import read_samples
from vlm3data.types import Answered, Question, Sample, UserError
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
    """Return one row per task for the first `per_image` stored questions of the task in every sample.

    `of` names the model and the dataset, for the rows.
    """
    asked = [(sample, question) for sample in samples for question in first_of_each_task(sample, per_image)]
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
            [asked[i] for i in here],
            [answers[i] for i in here],
            swapped_answers and [swapped_answers[i] for i in here],
            controls,
        )
        for here in places.values()
    ]


def first_of_each_task(sample: Sample, count: int) -> list[Question]:
    """Return the first `count` questions of each task in `sample`."""
    taken: Counter[str] = Counter()
    first: list[Question] = []
    for question in sample.questions:
        taken[question.task] += 1
        if taken[question.task] <= count:
            first.append(question)
    return first


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
    asked: list[Asked],
    answers: list[str],
    swapped_answers: list[str] | None,
    controls: DepthControls | None,
) -> Row:
    task = _task(asked[0][1].task)
    predictions = _parsed(task, asked, answers)
    known = controls if task.name == "depth" else None
    return Row(
        model=of[0],
        dataset=of[1],
        task=task.name,
        questions=len(asked),
        unparsed=sum(prediction is None for prediction in predictions),
        scores=_summary(task, predictions, asked),
        swapped_images=_summary(task, _parsed(task, asked, swapped_answers), asked) if swapped_answers else None,
        median=_summary(task, [known.median(q.truth) for _, q in asked], asked) if known else None,
        location=_summary(task, [known.location(q.truth) for _, q in asked], asked) if known else None,
        examples=[
            {"question": question.question, "truth": question.answer, "answer": text}
            for (_, question), text in islice(zip(asked, answers, strict=True), 5)
        ],
    )


def _parsed(task: Any, asked: Sequence[Asked], answers: Sequence[str]) -> list[Any]:
    return [task.parse(text, question.truth) for (_, question), text in zip(asked, answers, strict=True)]


def _summary(task: Any, predictions: Iterable[Any], asked: Sequence[Asked]) -> dict[str, float]:
    """Return the task's metrics over all questions, those without a prediction included."""
    return task.summary(
        [
            Answered(sample.key, question.truth, prediction)
            for (sample, question), prediction in zip(asked, predictions, strict=True)
        ]
    )


@cache
def _task(name: str) -> Any:
    kind = registry.load("task", name)
    return kind(kind.Options())
