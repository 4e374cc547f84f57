"""Objects in space, as SpatialRGPT-Bench asks about them: left or right, wider or thinner, how far, at which hour.

Regions are named as text, `bounding box region (x1, y1, x2, y2)` on a grid of 1000. The modules
`_objects.comparing` and `_objects.lengths` say what is measured and when a question is clear enough to be asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from vlm3data.config import Config
from vlm3data.geometry.boxes import level_from_cam, up_in_camera
from vlm3data.geometry.outline import project_box
from vlm3data.metrics import mean_of_each, relative_success
from vlm3data.randomness import split_off
from vlm3data.tasks._objects.categories import CATEGORIES, Category
from vlm3data.tasks._objects.choosing import Asked, choose, outcome_of
from vlm3data.tasks._objects.measures import measure
from vlm3data.tasks._objects.published import published_truth
from vlm3data.tasks._objects.regions import GRID, Region, TextBox, regions_of, text_of
from vlm3data.tasks._objects.saying import EXAMPLES, FACTS, check, read, say_length, sentence, values_for
from vlm3data.types import Answered, Camera, Cut, DepthKind, Drop, Float64Array, Held, Question, SourceFacts, View
from vlm3data.wording import WordingPack, pack_path


class ObjectsTask:
    """Truth of a question.

    `category` and `kind` (predicate, choice, length, direction); `regions`, A and B of the wording, each with
    `box` (text coordinates), `label`, `cam_from_box` (3 x 4) and `size_m`; `up_cam`, up in camera axes; and the answer:
    `yes`, `chosen` (0 or 1), `length_m` or `hour`. A benchmark's own question is `published`: its regions have a box
    alone.
    """

    name = "objects"
    num_views = 1

    class Options(Config):
        """What a user may set for this task."""

        questions: Annotated[int, Field(gt=0)] = 24
        """Questions stored per image at most; every epoch draws some of them."""
        wordings: str = ""
        """Wording pack in place of our own."""

    def __init__(self, options: Options) -> None:
        self.options = options
        path = pack_path(options.wordings, "objects")
        self.pack = WordingPack.open(path, EXAMPLES, FACTS)
        check(self.pack, path)
        self._wordings = {name: self.pack.fitting(category=name) for name in CATEGORIES}

    def about(self) -> dict[str, Any]:
        """Return what shapes the questions: the options, with the wordings' digest in place of their path."""
        return self.options.model_dump() | {"wordings": self.pack.digest}

    def ask(
        self, views: Sequence[View], facts: SourceFacts, depth_kind: str, rng: np.random.Generator
    ) -> list[Question]:
        """Return the questions that the dataset brings along, and up to `questions` about the view's boxes.

        Raises Drop: not_metric, no_gravity, Cut: no_objects, no_clear_question, and what `published_truth` raises.
        """
        (view,) = views
        if not facts.metric:
            raise Drop("not_metric")
        published = [Question(self.name, *published_truth(asked, view)) for asked in view.box_questions]
        if published and view.boxes is None:
            return published
        regions = regions_of(view)
        if not regions:
            raise Cut("no_objects")
        up_cam = np.round(up_in_camera(view.world_from_cam, facts.world_up), 9)
        level = level_from_cam(up_cam)
        saying_rng = split_off(rng)
        asked = choose([measure(region, level) for region in regions], self.options.questions, rng)
        if not asked:
            raise Cut("no_clear_question")
        return published + [self._said(_truth(question, up_cam), saying_rng) for question in asked]

    def missing_from(self, held: Mapping[str, Mapping[str, Any]]) -> str | None:
        """Return what is missing of these options in shards with the tasks `held`; None where they hold enough."""
        if self.name not in held:
            return "boxes of objects are in no other task's numbers"
        if self.options.questions > held[self.name]["questions"]:
            most = held[self.name]["questions"]
            return f"{self.options.questions} questions an image are more than the {most} that they hold"
        return None

    def ask_again(self, held: Held, depth_kind: DepthKind, rng: np.random.Generator) -> list[Question]:
        """Return the first `questions` of the stored ones, worded anew; a benchmark's own as they are."""
        stored = held.stored.get(self.name, ())
        published = [Question(**question) for question in stored if question["truth"].get("published")]
        ours = [truth for truth in held.truths(self.name) if not truth.get("published")]
        saying_rng = split_off(rng)
        return published + [self._said(truth, saying_rng) for truth in ours[: self.options.questions]]

    def _said(self, truth: Mapping[str, Any], rng: np.random.Generator) -> Question:
        """Return the question with this truth."""
        said = {"length": say_length(truth["length_m"], rng)} if truth["kind"] == "length" else truth
        boxes: list[TextBox] = [(x1, y1, x2, y2) for x1, y1, x2, y2 in (region["box"] for region in truth["regions"])]
        values = values_for(boxes, [region["label"] for region in truth["regions"]], said)
        wordings = self._wordings[truth["category"]]
        wording = wordings[int(rng.integers(len(wordings)))]
        return Question(self.name, sentence(wording.question, values), sentence(wording.answer, values), truth)

    @classmethod
    def problem_with(cls, question: Question, record: Mapping[str, Any]) -> str | None:
        """Return what is wrong with a stored question, or None: the answer follows from the boxes, and says so."""
        truth = question.truth
        category = CATEGORIES.get(truth["category"])
        if category is None:
            return f"unknown category {truth['category']!r}"
        for region in truth["regions"]:
            x1, y1, x2, y2 = region["box"]
            if not (0 <= x1 < x2 <= GRID and 0 <= y1 < y2 <= GRID):
                return f"box {region['box']} is no box on the grid"
            if text_of((x1, y1, x2, y2)).lower() not in question.question.lower():
                return f"the question does not name box {region['box']}"
        if not truth.get("published") and (problem := _geometry_problem(category, truth, record)):
            return problem
        if not _right(cls._read(question.answer, truth), truth, tolerance=0.02):
            return f"answer {question.answer!r} does not say {_outcome(truth)}"
        if category.kind == "length" and not record["metric"]:
            return "a length in an answer about a source without metric scale"
        return None

    def parse(self, answer: str, truth: Mapping[str, Any]) -> Any:
        """Return what `answer` says: a bool, a region's index, metres or an hour; None where it says nothing."""
        return self._read(answer, truth)

    @staticmethod
    def _read(answer: str, truth: Mapping[str, Any]) -> Any:
        regions = truth["regions"]
        boxes, labels = [region["box"] for region in regions], [region["label"] for region in regions]
        return read(CATEGORIES[truth["category"]], answer, boxes, labels)

    def score(self, prediction: Any, truth: Mapping[str, Any]) -> dict[str, float]:
        """Return SpatialRGPT-Bench's metrics of one answer.

        `success`, the same under its group and under `qualitative` or `quantitative`: exact; lengths within 25 %;
        hours within one. Of lengths `abs_rel` |p - g| / (g + 1e-4), of hours `direction_deg`, 30 a clock hour.
        """
        category = CATEGORIES[truth["category"]]
        overall = "qualitative" if category.kind in ("predicate", "choice") else "quantitative"
        success = float(_right(prediction, truth))
        scores = {"success": success, overall: success, category.group: success}
        value = float("nan") if prediction is None else prediction
        if category.kind == "length":
            abs_rel = abs(value - truth["length_m"]) / (truth["length_m"] + 1e-4)
            scores |= {"abs_rel": abs_rel, f"{category.group}_abs_rel": abs_rel}
        elif category.kind == "direction":
            scores["direction_deg"] = 30.0 * _hours_apart(value, truth["hour"])
        return scores

    def summary(self, answered: Sequence[Answered]) -> dict[str, float]:
        """Return each metric's mean over all answers; one that did not parse has failed, and has no error."""
        return mean_of_each(self.score(prediction, truth) for _, truth, prediction in answered)


def _truth(asked: Asked, up_cam: Float64Array) -> dict[str, Any]:
    return {
        "category": asked.category.name,
        "kind": asked.category.kind,
        "regions": [measures.region.record() for measures in asked.measured],
        "up_cam": up_cam.tolist(),
        **asked.outcome,
    }


def _right(prediction: Any, truth: Mapping[str, Any], tolerance: float = 0.25) -> bool:
    """Tell whether a prediction is right: a length within `tolerance`, an hour within one."""
    if prediction is None:
        return False
    if truth["kind"] == "length":
        return relative_success([prediction], [truth["length_m"]], tolerance) == 1.0
    if truth["kind"] == "direction":
        return _hours_apart(prediction, truth["hour"]) <= 1
    return prediction == _outcome(truth)


def _hours_apart(hour: float, other: float) -> float:
    apart = abs(hour - other)
    return min(apart, 12 - apart)


def _outcome(truth: Mapping[str, Any]) -> Any:
    return next(truth[name] for name in ("yes", "chosen", "length_m", "hour") if name in truth)


def _geometry_problem(category: Category, truth: Mapping[str, Any], record: Mapping[str, Any]) -> str | None:
    """Return what is wrong between a truth's 3D boxes, their text coordinates and the outcome."""
    regions = [Region.of(region) for region in truth["regions"]]
    camera = Camera(**(record["views"][0]["camera"] | {"distortion": None}))
    for region in regions:
        seen = project_box(region.cam_from_box, region.size_m, camera)
        size_px = np.array([camera.width_px, camera.height_px] * 2)
        if seen is None or _overlap(np.array(seen.box_px) / size_px, np.array(region.box) / GRID) < 0.5:
            return f"box {region.box} is not where its object is seen"
    try:
        level = level_from_cam(truth["up_cam"])
    except Drop as drop:
        return f"up_cam {truth['up_cam']}: {drop}"
    outcome = outcome_of(category, [measure(region, level) for region in regions])
    if outcome is None:
        return "the boxes do not answer the question clearly"
    ((name, value),) = outcome.items()
    same = abs(truth[name] - value) <= 1e-6 * value if name == "length_m" else truth[name] == value
    return None if same else f"{name} {truth[name]} is not what the boxes say: {value}"


def _overlap(box: Float64Array, other: Float64Array) -> float:
    """Return the intersection over union of two boxes (x1, y1, x2, y2)."""
    low, high = np.maximum(box[:2], other[:2]), np.minimum(box[2:], other[2:])
    shared = float(np.prod(np.clip(high - low, 0, None)))
    return shared / float(np.prod(box[2:] - box[:2]) + np.prod(other[2:] - other[:2]) - shared)
