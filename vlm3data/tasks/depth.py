"""Metric depth of single pixels: the question names a pixel as text, the answer is metres with two decimals."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from vlm3data.answers import parse_length_m
from vlm3data.config import Config
from vlm3data.geometry import convert_depth, to_grid
from vlm3data.labels import moved, spread
from vlm3data.metrics import delta1, mean_of_each
from vlm3data.randomness import split_off
from vlm3data.tasks._marker import marked
from vlm3data.types import (
    Answered,
    DepthKind,
    DepthPoints,
    Drop,
    Held,
    Int64Array,
    Move,
    Question,
    SourceFacts,
    UserError,
    View,
)
from vlm3data.wording import WordingPack, pack_path

FIELDS = (("x", 1023), ("y", 7), ("grid", 2000), ("depth_m", 3.21), ("depth_cm", 321.0), ("depth_ft", 10.5315))
"""What a wording may use, with an example each."""
FACTS = (("depth_kind", ("z", "euclidean")),)


class DepthTask:
    """Truth of a question: `pixel_px` [u, v] in the stored image, `grid_xy`, `grid`, `depth_m`, `depth_kind`."""

    name = "depth"
    num_views = 1

    class Options(Config):
        """What a user may set for this task."""

        pixels: Annotated[int, Field(gt=0)] = 64
        """Labelled pixels stored per image; every epoch draws some of them."""
        grid: Annotated[int, Field(gt=1)] = 2000
        """Text coordinates are integers in [0, grid) (the paper: 2000)."""
        wordings: str = ""
        """Wording pack in place of our own: a file, for instance of what a released checkpoint was trained with, or
        the name of another of ours (depth_short)."""
        reference: Literal["text", "marker"] = "text"
        """How a question says which pixel: by its coordinates, or by strokes drawn around it (with one pixel alone)."""

        @model_validator(mode="after")
        def _has_one_mark(self) -> Self:
            if self.reference == "marker" and self.pixels != 1:
                raise ValueError("`reference: marker` marks one pixel in an image: say `pixels: 1`")
            return self

    def __init__(self, options: Options) -> None:
        self.options = options
        own = {"text": "depth", "marker": "depth_marker"}[options.reference]
        path = pack_path(options.wordings, own)
        self.pack = WordingPack.open(path, FIELDS, FACTS)
        self._words = {
            kind: [
                (wording.question.format_map, wording.answer.format_map)
                for wording in self.pack.fitting(depth_kind=kind)
            ]
            for kind in dict(FACTS)["depth_kind"]
        }
        for number, wording in enumerate(self.pack.wordings):
            for depth_m in (0.5, 3.21, 45.67):
                answer = wording.answer.format_map(dict(FIELDS) | _lengths(depth_m))
                if not _says(answer, depth_m):
                    raise UserError(f"{path}: wordings.{number}.answer: {answer!r} does not say {depth_m} m")

    def about(self) -> dict[str, Any]:
        """Return what shapes the questions: the options, with the wordings' digest in place of their path."""
        # Left out where it is text, so that shards from before there were marks are the same build.
        options = self.options.model_dump(exclude={"reference"} if self.options.reference == "text" else None)
        return options | {"wordings": self.pack.digest}

    def ask(
        self, views: Sequence[View], facts: SourceFacts, depth_kind: str, rng: np.random.Generator
    ) -> list[Question]:
        """Return up to `pixels` questions about one view, spread over the image and over log-depth.

        Raises Drop: not_metric, no_depth.
        """
        (view,) = views
        if not facts.metric:
            raise Drop("not_metric")
        if view.points is None or not len(view.points.depth_m):
            raise Drop("no_depth")
        wording_rng = split_off(rng)
        size = (view.camera.width_px, view.camera.height_px)
        chosen = spread(view.points, size, self.options.pixels, rng)
        pixels, depths = view.points.pixel_px[chosen], view.points.depth_m[chosen].tolist()
        return self._questions(pixels, depths, size, depth_kind, wording_rng)

    def drawn(self, views: Sequence[View], questions: Sequence[Question]) -> Sequence[View]:
        """Return the views as the questions mean them to be seen: with a mark, where marks are the reference.

        Raises UserError where another task asks about the same image.
        """
        if self.options.reference == "text":
            return views
        if any(question.task != self.name for question in questions):
            raise UserError("task depth: `reference: marker` changes the image: build it without other tasks")
        (view,), (question,) = views, questions
        return [replace(view, image=marked(view.image, question.truth["pixel_px"]))]

    def missing_from(self, held: Mapping[str, Mapping[str, Any]]) -> str | None:
        """Return what is missing of these options in shards with the tasks `held`; None where they hold enough."""
        if self.name not in held:
            return "depths are in no other task's numbers"
        if self.options.reference != held[self.name].get("reference", "text"):
            return "marks are drawn into the images, or taken out of them, by a build alone"
        if self.options.pixels > held[self.name]["pixels"]:
            return f"{self.options.pixels} pixels an image are more than the {held[self.name]['pixels']} that they hold"
        return None

    def ask_again(self, held: Held, depth_kind: DepthKind, rng: np.random.Generator) -> list[Question]:
        """Return the questions about the first `pixels` of the stored pixels, in their order.

        A depth of the other kind is told by the ray through the stored pixel's centre.
        """
        (camera,) = held.cameras
        truths = held.truths(self.name)[: self.options.pixels]
        pixels = np.array([truth["pixel_px"] for truth in truths], np.int64).reshape(-1, 2)
        depths = [truth["depth_m"] for truth in truths]
        if truths and truths[0]["depth_kind"] != depth_kind:
            depths = convert_depth(depths, camera, pixels + 0.5, truths[0]["depth_kind"], depth_kind).tolist()
        size = (camera.width_px, camera.height_px)
        return self._questions(pixels, depths, size, depth_kind, split_off(rng))

    def why_not_moved(self) -> str | None:
        """Return why these options cannot be asked of images that are unified when they are read."""
        return None if self.options.reference == "text" else "marks are drawn into the unified image"

    def to_source(self, asked: Sequence[Question], views: Sequence[View]) -> list[Question]:
        """Return the questions with `pixel_px` in the source image."""
        (view,) = views
        if view.points is None or view.source_points is None:
            return []
        at = dict(zip(map(tuple, view.points.pixel_px.tolist()), view.source_points.pixel_px.tolist(), strict=True))
        return [_at_pixel(question, at[tuple(question.truth["pixel_px"])]) for question in asked]

    def to_view(self, stored: Sequence[Question], moves: Sequence[Move], cut: Counter[str]) -> list[Question]:
        """Return the questions with `pixel_px` in the moved image, as labels are moved in the build."""
        (move,) = moves
        pixels = np.array([question.truth["pixel_px"] for question in stored], np.int64)
        points = DepthPoints(pixels, np.array([question.truth["depth_m"] for question in stored], np.float64))
        there, kept = moved(points, move, cut)
        return [_at_pixel(stored[i], pixel) for i, pixel in zip(kept.tolist(), there.pixel_px.tolist(), strict=True)]

    def _questions(
        self,
        pixel_px: Int64Array,
        depths_m: list[float],
        size_px: tuple[int, int],
        depth_kind: str,
        rng: np.random.Generator,
    ) -> list[Question]:
        words, grid = self._words[depth_kind], self.options.grid
        reference = {} if self.options.reference == "text" else {"reference": self.options.reference}
        questions = []
        for pixel, xy, depth_m, number in zip(
            pixel_px.tolist(),
            to_grid(pixel_px, size_px, grid).tolist(),
            depths_m,
            rng.integers(len(words), size=len(depths_m)).tolist(),
            strict=True,
        ):
            values = {"x": xy[0], "y": xy[1], "grid": grid, **_lengths(depth_m)}
            truth = {"pixel_px": pixel, "grid_xy": xy, "grid": grid, "depth_m": depth_m, "depth_kind": depth_kind}
            truth |= reference
            question, answer = words[number]
            questions.append(Question(self.name, question(values), answer(values), truth))
        return questions

    @classmethod
    def problem_with(cls, question: Question, record: Mapping[str, Any]) -> str | None:
        """Return what is wrong with a stored question, or None: truth must fit image, and answer truth."""
        truth, camera = question.truth, record["views"][0]["camera"]
        size = (camera["width_px"], camera["height_px"])
        if not all(0 <= value < bound for value, bound in zip(truth["pixel_px"], size, strict=True)):
            return f"pixel {truth['pixel_px']} is outside the image {size}"
        if to_grid([truth["pixel_px"]], size, truth["grid"]).tolist() != [truth["grid_xy"]]:
            return f"grid_xy {truth['grid_xy']} is not where pixel {truth['pixel_px']} lies"
        x, y = truth["grid_xy"]
        by_name = truth.get("reference", "text") == "text"
        if by_name and not re.search(rf"\b{x}\b.*?\b{y}\b", question.question, re.DOTALL):
            return f"the question does not name grid_xy {truth['grid_xy']} in this order"
        if not _says(question.answer, truth["depth_m"]):
            return f"answer {question.answer!r} does not say {truth['depth_m']} m"
        if not record["metric"]:
            return "a length in an answer about a source without metric scale"
        return None

    def parse(self, answer: str, truth: Mapping[str, Any]) -> float | None:
        """Return the metres that `answer` names, or None."""
        return parse_length_m(answer)

    def score(self, prediction: float | None, truth: Mapping[str, Any]) -> dict[str, float]:
        """Return `delta1`: 1.0 where prediction and truth differ by a factor under 1.25, else 0.0."""
        value = float("nan") if prediction is None else prediction
        return {"delta1": delta1([value], [truth["depth_m"]])}

    def summary(self, answered: Sequence[Answered]) -> dict[str, float]:
        """Return `delta1`: the share of the answers that are right."""
        return mean_of_each(self.score(prediction, truth) for _, truth, prediction in answered)


def _at_pixel(question: Question, pixel_px: list[int]) -> Question:
    return Question(question.task, "", "", {**question.truth, "pixel_px": pixel_px})


def _lengths(depth_m: float) -> dict[str, float]:
    """Return the depth under the names that a wording may use; a foot is 0.3048 m by definition."""
    return {"depth_m": depth_m, "depth_cm": depth_m * 100, "depth_ft": depth_m / 0.3048}


def _says(answer: str, depth_m: float) -> bool:
    """Tell whether `answer` names `depth_m`, rounded as it may be: to the centimetre, or to 2 %, never to a miss."""
    answer_m = parse_length_m(answer)
    if answer_m is None or abs(answer_m - depth_m) > max(0.00501, 0.02 * depth_m):
        return False
    return delta1([answer_m], [depth_m]) == 1.0
