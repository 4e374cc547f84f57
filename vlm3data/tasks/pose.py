"""Camera pose of two views: how far the camera turned, about which axes, where it moved and how far."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vlm3data.config import Config
from vlm3data.geometry import rotation_angle_deg, rotation_from_yaw_pitch_roll_deg
from vlm3data.metrics import auc, auc_trapezoid, mean_of_each, relative_success
from vlm3data.tasks._pose.measure import measure, measure_held, supported
from vlm3data.tasks._pose.saying import FACTS, FIELDS, check, read, says, values_for, words_of
from vlm3data.types import Answered, Cut, DepthKind, Float64Array, Held, Move, Question, SourceFacts, View
from vlm3data.wording import WordingPack, pack_path

TURNS = ("yaw_deg", "pitch_deg", "roll_deg")
NAN = float("nan")


class PoseTask:
    """Truth: camera 2 as camera 1 sees it, in camera 1's axes (x right, y down, z forward).

    `kind` (rotation_angle, euler, direction, distance) says what is asked. All four hold `rotation` (3 x 3, cam1 from
    cam2), `rotation_angle_deg`, `yaw_deg`, `pitch_deg`, `roll_deg`, `translation_direction` (a unit vector, or None
    where the camera hardly moved) and `distance_m` (None for a source without metric scale).
    """

    name = "pose"
    num_views = 2

    class Options(Config):
        """What a user may set for this task."""

        wordings: str = ""
        """Wording pack in place of our own, for instance the one a released checkpoint was trained with."""

    def __init__(self, options: Options) -> None:
        self.options = options
        path = pack_path(options.wordings, "pose")
        self.pack = WordingPack.open(path, FIELDS, FACTS)
        check(self.pack, path)

    def about(self) -> dict[str, Any]:
        """Return what shapes the questions: the wordings' digest in place of their path."""
        return {"wordings": self.pack.digest}

    def ask(
        self, views: Sequence[View], facts: SourceFacts, depth_kind: str, rng: np.random.Generator
    ) -> list[Question]:
        """Return up to four questions about two views, those that have a clear answer.

        Raises Cut: no_pose.
        """
        for view in views:
            if view.world_from_cam is None:
                raise Cut("no_pose", view.frame)
        return self._questions(measure(views, facts), rng)

    def missing_from(self, held: Mapping[str, Mapping[str, Any]]) -> str | None:
        """Return what is missing in shards with the tasks `held`: poses are with pairs, by pose or correspondence."""
        if not {self.name, "correspondence"} & set(held):
            return "poses come with pairs of views, and they hold none"
        return None

    def ask_again(self, held: Held, depth_kind: DepthKind, rng: np.random.Generator) -> list[Question]:
        """Return the questions about the stored numbers; where there are none, about the views' poses and matches.

        Raises Cut: no_pose.
        """
        if truths := held.truths(self.name):
            return self._questions({key: value for key, value in truths[0].items() if key != "kind"}, rng)
        return self._questions(measure_held(held), rng)

    def why_not_moved(self) -> str | None:
        """Return None: where cameras stand is no matter of pixels."""
        return None

    def to_source(self, asked: Sequence[Question], views: Sequence[View]) -> list[Question]:
        """Return the questions as they are."""
        return list(asked)

    def to_view(self, stored: Sequence[Question], moves: Sequence[Move], cut: Counter[str]) -> list[Question]:
        """Return the questions as they are."""
        return list(stored)

    def _questions(self, numbers: Mapping[str, Any], rng: np.random.Generator) -> list[Question]:
        values = values_for(numbers)
        questions = []
        for kind in supported(numbers):
            wordings = self.pack.fitting(kind=kind)
            wording = wordings[int(rng.integers(len(wordings)))]
            answer = wording.answer.format_map(values)
            truth = {"kind": kind, **numbers}
            questions.append(Question(self.name, wording.question.format_map(values), answer, truth))
        return questions

    @classmethod
    def problem_with(cls, question: Question, record: Mapping[str, Any]) -> str | None:
        """Return what is wrong with a stored question, or None: its numbers must fit each other and the answer."""
        truth = question.truth
        rotation, direction = np.array(truth["rotation"], float), truth["translation_direction"]
        if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-5) or np.linalg.det(rotation) < 0:
            return "rotation is not a rotation"
        if not np.allclose(rotation_from_yaw_pitch_roll_deg(*(truth[turn] for turn in TURNS)), rotation, atol=1e-5):
            return "yaw, pitch and roll are not those of the rotation"
        if abs(rotation_angle_deg(rotation) - truth["rotation_angle_deg"]) > 1e-3:
            return "rotation_angle_deg is not that of the rotation"
        if direction is not None and abs(np.linalg.norm(direction) - 1) > 1e-6:
            return "translation_direction is not a unit vector"
        if truth["distance_m"] is not None and not record["metric"]:
            return "a length about a source without metric scale"
        if truth["kind"] not in supported(truth):
            return f"the numbers give no clear answer to {truth['kind']}"
        if not says(question.answer, truth):
            return f"answer {question.answer!r} does not say the {truth['kind']} that the numbers do"
        return None

    def parse(self, answer: str, truth: Mapping[str, Any]) -> Any:
        """Return what `answer` says to a question of this kind, or None.

        rotation_angle: degrees; euler: [yaw, pitch, roll]; direction: {"direction", "words"}; distance: metres.
        """
        return read(answer, truth["kind"])

    def score(self, prediction: Any, truth: Mapping[str, Any]) -> dict[str, float]:
        """Return the metrics of one answer, by the question's kind; errors of no answer are NaN, its shares 0.

        rotation_angle: `angle_deg`, `angle@5`. euler: `yaw_deg`, `pitch_deg`, `roll_deg`, `rotation_deg` (the
        angle between the two rotations), `rra@5`, `rra@15` (its share below). direction: `direction_deg` (0 to
        180), `direction_words` (exactly the right ones), `rta@5`, `rta@15` (of the angle between the two lines,
        which does not tell forward from backward, as relative translation accuracy is commonly counted).
        distance: `distance_success` (within 25 %), `distance_abs_rel`.
        """
        return _SCORES[truth["kind"]](prediction, truth)

    def summary(self, answered: Sequence[Answered]) -> dict[str, float]:
        """Return the mean of each metric, and the areas under the curves over pairs of views.

        A pair's error is the larger one of its rotation (from the answer in yaw, pitch and roll) and its
        direction. `auc@5` to `auc@30` are VGGT's histogram with the direction's sign left open, as there;
        `auc_signed@30` wants the sign too; `auc_trapezoid@5` to `@20` are LoFTR's. They are over the pairs that were
        asked both; where either answer did not parse the pair is a miss.
        """
        means = mean_of_each(self.score(prediction, truth) for _, truth, prediction in answered)
        of_pair: dict[str, list[Answered]] = defaultdict(list)
        for one in answered:
            of_pair[one.sample].append(one)
        pairs = [errors for group in of_pair.values() if (errors := self.of_sample(group)) is not None]
        return means | self.over_samples(np.array(pairs, float).reshape(-1, 2))

    def of_sample(self, answered: Sequence[Answered]) -> tuple[float, float] | None:
        """Return a pair's errors of rotation and direction, degrees; None where it was not asked both."""
        errors: dict[str, float] = {}
        for _, truth, prediction in answered:
            if truth["kind"] == "euler":
                errors["rotation"] = _euler(prediction, truth)["rotation_deg"]
            elif truth["kind"] == "direction":
                errors["direction"] = _direction(prediction, truth)["direction_deg"]
        return (errors["rotation"], errors["direction"]) if len(errors) == 2 else None

    def over_samples(self, values: Float64Array) -> dict[str, float]:
        """Return the areas under the curves over the errors (n, 2) of n pairs; nothing of none."""
        if not len(values):
            return {}
        rotation_deg, direction_deg = values.T
        line_deg = np.minimum(direction_deg, 180 - direction_deg)
        return (
            {f"auc@{limit}": auc(rotation_deg, line_deg, limit) for limit in (5, 10, 20, 30)}
            | {"auc_signed@30": auc(rotation_deg, direction_deg, 30)}
            | {f"auc_trapezoid@{limit}": auc_trapezoid(rotation_deg, line_deg, limit) for limit in (5, 10, 20)}
        )


def _rotation_angle(prediction: float | None, truth: Mapping[str, Any]) -> dict[str, float]:
    error_deg = NAN if prediction is None else abs(prediction - truth["rotation_angle_deg"])
    return {"angle_deg": error_deg, "angle@5": float(error_deg < 5)}


def _euler(prediction: Sequence[float] | None, truth: Mapping[str, Any]) -> dict[str, float]:
    if prediction is None:
        errors, rotation_deg = dict.fromkeys(TURNS, NAN), NAN
    else:
        errors = {
            turn: abs((told - truth[turn] + 180) % 360 - 180) for turn, told in zip(TURNS, prediction, strict=True)
        }
        rotation = rotation_from_yaw_pitch_roll_deg(*prediction)
        rotation_deg = rotation_angle_deg(rotation @ np.transpose(truth["rotation"]))
    return errors | {"rotation_deg": rotation_deg, "rra@5": float(rotation_deg < 5), "rra@15": float(rotation_deg < 15)}


def _direction(prediction: Mapping[str, Any] | None, truth: Mapping[str, Any]) -> dict[str, float]:
    true, words, error_deg = np.array(truth["translation_direction"]), False, NAN
    if prediction is not None:
        told = np.array(prediction["direction"])
        error_deg = float(np.degrees(np.arctan2(np.linalg.norm(np.cross(told, true)), told @ true)))
        words = set(prediction["words"]) == set(words_of(true))
    line_deg = min(error_deg, 180 - error_deg)
    shares = {"direction_words": float(words), "rta@5": float(line_deg < 5), "rta@15": float(line_deg < 15)}
    return {"direction_deg": error_deg} | shares


def _distance(prediction: float | None, truth: Mapping[str, Any]) -> dict[str, float]:
    told, true = NAN if prediction is None else prediction, truth["distance_m"]
    return {"distance_success": relative_success([told], [true]), "distance_abs_rel": abs(told - true) / true}


_SCORES = {"rotation_angle": _rotation_angle, "euler": _euler, "direction": _direction, "distance": _distance}
