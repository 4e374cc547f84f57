"""Which questions are put to which images, and their answers, taken from a file of predictions where they are there."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from vlm3data.shards import read_samples
from vlm3data.types import Question, Sample, UserError
from vlm3train.controls import with_swapped_images
from vlm3train.predictions import SWAPPED, Prediction, PredictionFile

Asked = tuple[Sample, Question]
Answer = Callable[[Sequence[Asked]], list[str]]
"""What is evaluated: questions go in, each beside the sample whose images it is put to; texts come out."""
AT_ONCE = 512
"""Questions handed to the model, and answers written down, at a time: as much as a kill can cost."""


class Ask(NamedTuple):
    """One question, and the images it is put to."""

    control: str
    """Empty, or SWAPPED where the images are another sample's."""
    images_of: str
    """The key of the sample whose images they are."""
    number: int
    """The question's number among all those that the sample stores."""
    sample: Sample
    """The question's own sample; with the images of another one for a control."""
    question: Question


def ask_all(
    answer: Answer, of: tuple[str, str], samples: Sequence[Sample], per_image: int, kept: PredictionFile | None = None
) -> list[Prediction]:
    """Return the answers to the first `per_image` questions of each task in every sample, and to the swapped ones.

    `of` names the model and the dataset. What `kept` knows is not asked again; what it does not is added to it.
    """
    asks = asks_of(samples, per_image)
    if not asks:
        raise UserError(f"{of[1]}: there are no questions in it")
    predictions = []
    for part in _parts(asks):
        known = [
            kept.answer(of, ask.sample.key, ask.number, ask.images_of) if kept is not None else None for ask in part
        ]
        todo = [ask for ask, text in zip(part, known, strict=True) if text is None]
        told = iter(answer([(ask.sample, ask.question) for ask in todo]) if todo else ())
        made = [
            _prediction(of, ask, next(told) if text is None else text) for ask, text in zip(part, known, strict=True)
        ]
        if kept is not None:
            kept.append([prediction for prediction, text in zip(made, known, strict=True) if text is None])
        predictions += made
    return predictions


def asks_of(samples: Sequence[Sample], per_image: int) -> list[Ask]:
    """Return what is asked, in an order in which the questions to the same images stand side by side."""
    borrowers: dict[int, list[Sample]] = defaultdict(list)
    for sample in with_swapped_images(samples) or ():
        borrowers[id(sample.images)].append(sample)
    asks = []
    for owner in samples:
        for control, shown in [("", owner), *((SWAPPED, borrower) for borrower in borrowers.pop(id(owner.images), ()))]:
            first = first_of_each_task(shown, per_image)
            asks += [Ask(control, owner.key, number, shown, question) for number, question in first]
    return asks


def first_of_each_task(sample: Sample, count: int) -> list[tuple[int, Question]]:
    """Return the first `count` questions of each task in `sample`, with their numbers."""
    taken: Counter[str] = Counter()
    first: list[tuple[int, Question]] = []
    for index, question in enumerate(sample.questions):
        taken[question.task] += 1
        if taken[question.task] <= count:
            first.append((index, question))
    return first


def read_for_evaluation(url: str, limit: int | None) -> list[Sample]:
    """Return the first `limit` samples of a dataset of shards (None: all)."""
    return list(islice(read_samples(url), limit))


def _parts(asks: Sequence[Ask]) -> Iterator[list[Ask]]:
    """Yield the asks, `AT_ONCE` or a few more at a time; those about the same images stay together."""
    part: list[Ask] = []
    for ask in asks:
        if len(part) >= AT_ONCE and ask.sample.images is not part[-1].sample.images:
            yield part
            part = []
        part.append(ask)
    yield part


def _prediction(of: tuple[str, str], ask: Ask, answer: str) -> Prediction:
    question = ask.question
    return Prediction(
        model=of[0],
        dataset=of[1],
        source=ask.sample.record["source"],
        key=ask.sample.key,
        index=ask.number,
        task=question.task,
        control=ask.control,
        images_of=ask.images_of,
        question=question.question,
        expected=question.answer,
        truth=question.truth,
        answer=answer,
    )
