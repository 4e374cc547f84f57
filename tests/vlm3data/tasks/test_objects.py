"""The objects task: every answer follows from the boxes, reads as what it says, and gives nothing else away."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
from scipy.optimize import lsq_linear
from scipy.spatial.transform import Rotation

from tests.conftest import needs_realdata
from vlm3data.build import BuildConfig, open_source, samples
from vlm3data.geometry.boxes import level_from_cam
from vlm3data.randomness import rng_for
from vlm3data.tasks._objects.categories import CATEGORIES
from vlm3data.tasks._objects.choosing import outcome_of
from vlm3data.tasks._objects.measures import measure
from vlm3data.tasks._objects.reading import read_choice, read_hour, read_length_m, read_yes
from vlm3data.tasks._objects.regions import Region, regions_of
from vlm3data.tasks._objects.saying import say_length
from vlm3data.tasks.objects import ObjectsTask, _overlap
from vlm3data.types import (
    Answered,
    Box3D,
    Camera,
    Cut,
    Distortion,
    Drop,
    Question,
    Sample,
    SourceFacts,
    UserError,
    View,
)
from vlm3data.wording import PACKS

TASK = ObjectsTask(ObjectsTask.Options())
CONFIG = BuildConfig(
    source="synthetic",
    options={"domains": ["street", "room", "hall", "yard"], "views": 1, "width_px": 160, "height_px": 120},
    tasks={"objects": {}},
    focal_px=300.0,
    limit=100,
)
FACTS = SourceFacts(
    name="s",
    licence="x",
    metric=True,
    depth_kind="z",
    depth_range_m=(0, 200),
    pixel_centre="",
    splits=(),
    world_up=(0.0, -1.0, 0.0),
)
CAMERA = Camera(1000.0, 1000.0, 512.0, 384.0, 1024, 768)


@pytest.fixture(scope="module")
def asked() -> list[tuple[Sample, Question]]:
    return [(sample, question) for sample in samples(CONFIG) for question in sample.questions]


def view(*boxes: Box3D, world_from_cam: np.ndarray | None = None) -> View:
    return View(
        frame="f",
        image=np.zeros((768, 1024, 3), np.uint8),
        camera=CAMERA,
        source_camera=CAMERA,
        scale=(1.0, 1.0),
        crop_xy_px=(0, 0),
        world_from_cam=np.eye(4) if world_from_cam is None else world_from_cam,
        boxes=lambda: boxes,
    )


def box(label: str, centre, size=(1.0, 1.0, 1.0), yaw_deg: float = 0.0, visibility: float | None = None) -> Box3D:
    """A box in a world with camera axes: y down, z ahead; sizes across, down and ahead."""
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("y", yaw_deg, degrees=True).as_matrix()
    pose[:3, 3] = centre
    return Box3D(label, pose, size, visibility)


def questions_about(*boxes: Box3D, seeds: int = 30, **changes: Any) -> list[Question]:
    facts = replace(FACTS, **changes)
    return [question for seed in range(seeds) for question in TASK.ask([view(*boxes)], facts, "z", rng_for(seed, "t"))]


def test_an_oracle_scores_perfectly(asked):
    assert len(asked) > 1300
    assert {question.truth["category"] for _, question in asked} == set(CATEGORIES)
    for sample, question in asked:
        prediction = TASK.parse(question.answer, question.truth)
        scores = TASK.score(prediction, question.truth)
        assert TASK.problem_with(question, sample.record) is None
        assert orjson.loads(orjson.dumps(question.truth)) == question.truth
        for metric, value in scores.items():
            if metric.endswith("abs_rel"):
                assert value <= 0.02
            else:
                assert value == (0.0 if metric == "direction_deg" else 1.0)
        if question.truth["kind"] == "length":
            assert prediction == pytest.approx(question.truth["length_m"], rel=0.006)


def test_constants_score_at_chance(asked):
    def summary(kind: str, answer: str) -> dict[str, float]:
        chosen = [question.truth for _, question in asked if question.truth["kind"] == kind]
        return TASK.summary([Answered("k", truth, TASK.parse(answer, truth)) for truth in chosen])

    for answer in ("Yes.", "No."):
        scores = summary("predicate", answer)
        assert scores["success"] == pytest.approx(0.5, abs=0.05)
        assert all(abs(share - 0.5) < 0.13 for share in scores.values())
    for answer in ("The first one.", "The second one."):
        assert summary("choice", answer)["qualitative"] == pytest.approx(0.5, abs=0.06)
    assert summary("length", "2 meters")["success"] < 0.3
    assert summary("direction", "3 o'clock")["success"] < 0.45
    silent = summary("length", "I cannot tell.")
    assert silent["success"] == silent["quantitative"] == 0
    assert not any("abs_rel" in metric for metric in silent)


def test_the_answer_is_drawn_before_anything_that_is_seen(asked):
    """Yes and no, first and second come evenly whatever the wording, the pair of labels, or where the boxes lie."""
    shares: dict[tuple[str, Any], list[bool]] = defaultdict(list)
    for _, question in asked:
        truth = question.truth
        if truth["kind"] not in ("predicate", "choice"):
            continue
        yes = truth.get("yes", truth.get("chosen") == 0)
        a, b = (region["box"] for region in truth["regions"])
        wording = re.sub(r"the \S+ in |\(.*?\)", "", question.question)
        shares["wording", wording].append(yes)
        shares["labels", tuple(sorted(region["label"] for region in truth["regions"]))].append(yes)
        shares["category", truth["category"]].append(yes)
        shares["where", (a[0] + b[0] > 1000, a[1] + b[1] > 1000)].append(yes)
        if not truth["category"].startswith(("left", "right")):
            shares["order", a[0] < b[0]].append(yes)
    tested = 0
    for what, drawn in shares.items():
        if len(drawn) >= 30:
            tested += 1
            assert abs(np.mean(drawn) - 0.5) < 4 * 0.5 / math.sqrt(len(drawn)), what
    assert tested > 25


def test_every_wording_is_used_and_every_category_has_three(asked):
    used: dict[str, set[str]] = defaultdict(set)
    for _, question in asked:
        used[question.truth["category"]].add(re.sub(r"the [\w ]+? in bound|\(.*?\)", "", question.question))
    assert all(len(wordings) >= 3 for wordings in used.values())
    assert sum(map(len, used.values())) == len(TASK.pack.wordings)


def test_lengths_come_in_human_units(asked):
    units = Counter(
        (question.truth["length_m"] < 1, re.search(r"\d (\w+)", question.answer)[1])
        for _, question in asked
        if question.truth["kind"] == "length"
    )
    assert set(units) == {(True, "centimeters"), (True, "inches"), (False, "meters"), (False, "feet")}
    assert units[True, "inches"] / units[True, "centimeters"] == pytest.approx(4, rel=0.5)
    rng = np.random.default_rng(0)
    for length_m in np.exp(rng.uniform(np.log(0.05), np.log(120), 500)):
        assert read_length_m(say_length(length_m, rng)) == pytest.approx(length_m, rel=0.0055)


class Independent:
    """One box seen from a posed camera in a world with z up: everything from its eight corners in world axes."""

    def __init__(self, box: Box3D, world_from_cam: np.ndarray) -> None:
        ahead = world_from_cam[:3, 2] * (1, 1, 0)
        ahead = ahead / np.linalg.norm(ahead)
        right = np.cross(ahead, (0, 0, 1))
        signs = np.array([(x, y, z) for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
        self.pose, self.size = box.world_from_box, np.array(box.size_m)
        corners = (signs * self.size) @ self.pose[:3, :3].T + self.pose[:3, 3] - world_from_cam[:3, 3]
        self.corners = corners @ np.stack([right, (0, 0, 1), ahead], axis=1)
        self.right, self.up, self.ahead = self.corners.mean(axis=0)
        self.wide, self.tall, _ = np.ptp(self.corners, axis=0)

    def distance_m(self, other: Independent) -> float:
        matrix = np.hstack([self.pose[:3, :3], -other.pose[:3, :3]])
        bound = np.concatenate([self.size, other.size]) / 2
        return float(np.sqrt(2 * lsq_linear(matrix, other.pose[:3, 3] - self.pose[:3, 3], (-bound, bound)).cost))


def expected(name: str, a: Independent, b: Independent | None) -> Any:
    word = name.partition("_")[0]
    if b is None:
        return {"width": a.wide, "height": a.tall}[word]
    if name.endswith("_data"):
        return {
            "vertical_distance_data": abs(a.up - b.up),
            "horizontal_distance_data": abs(a.right - b.right),
        }.get(name) or a.distance_m(b)
    if name == "direction":
        clockwise = math.degrees(math.atan2(b.right - a.right, b.ahead - a.ahead)) % 360
        return min(range(1, 13), key=lambda hour: min(abs(clockwise - 30 * hour), abs(clockwise + 360 - 30 * hour)))
    more = {
        "left": a.right < b.right,
        "right": a.right > b.right,
        "above": a.up > b.up,
        "below": a.up < b.up,
        "wide": a.wide > b.wide,
        "thin": a.wide < b.wide,
        "big": np.prod(a.size) > np.prod(b.size),
        "small": np.prod(a.size) < np.prod(b.size),
        "behind": a.corners[:, 2].min() > b.corners[:, 2].min(),
        "front": a.corners[:, 2].min() < b.corners[:, 2].min(),
        "tall": a.tall > b.tall,
        "short": a.tall < b.tall,
    }[word]
    return bool(more) if name.endswith("_predicate") else int(not more)


def test_answers_follow_from_the_sources_boxes_by_other_code(asked):
    source = open_source(CONFIG)
    frames = {}
    for scene in source.scenes(None):
        frames |= {frame.key: frame for frame in source.frames(scene)}
        if len(frames) >= 60:
            break
    compared = Counter()
    for sample, question in asked:
        frame = frames.get(sample.record["frames"][0])
        if frame is None:
            continue
        assert frame.boxes is not None
        members = []
        for region in question.truth["regions"]:
            centre = np.array(region["cam_from_box"])[:, 3] @ frame.world_from_cam[:3, :3].T
            centre += frame.world_from_cam[:3, 3]
            near = [
                box
                for box in frame.boxes()
                if box.label == region["label"] and np.abs(box.world_from_box[:3, 3] - centre).max() < 1e-4
            ]
            assert len(near) == 1
            members.append(Independent(near[0], frame.world_from_cam))
        a, b = (*members, None)[:2]
        value = expected(question.truth["category"], a, b)
        assert TASK.score(value, question.truth)["success"] == 1
        if question.truth["kind"] == "length":
            assert value == pytest.approx(question.truth["length_m"], rel=1e-3)
        elif question.truth["kind"] == "direction":
            assert value == question.truth["hour"]
        compared[question.truth["category"]] += 1
    assert set(compared) == set(CATEGORIES)


def turned(question: Question, rotation: np.ndarray, mirror: bool = False) -> dict[str, Any] | None:
    """Return the outcome where everything is turned by `rotation` in camera axes, or mirrored left to right."""
    flip = np.diag([-1.0, 1.0, 1.0, 1.0]) if mirror else np.eye(4)
    turn = np.eye(4)
    turn[:3, :3] = rotation
    regions = []
    for record in question.truth["regions"]:
        region = Region.of(record)
        x1, y1, x2, y2 = region.box
        text = (1000 - x2, y1, 1000 - x1, y2) if mirror else region.box
        regions.append(replace(region, box=text, cam_from_box=turn @ flip @ region.cam_from_box @ flip))
    level = level_from_cam(rotation @ flip[:3, :3] @ np.array(question.truth["up_cam"]))
    return outcome_of(CATEGORIES[question.truth["category"]], [measure(region, level) for region in regions])


def test_a_mirror_swaps_left_and_right_and_nothing_else(asked):
    for _, question in asked:
        truth, mirrored = question.truth, turned(question, np.eye(3), mirror=True)
        assert mirrored is not None
        ((name, value),) = mirrored.items()
        if name == "length_m":
            assert value == pytest.approx(truth["length_m"], rel=1e-4)
        elif name == "hour":
            assert value == ((12 - truth["hour"]) % 12 or 12)
        else:
            swapped = truth["category"].startswith(("left", "right"))
            assert bool(value) == (bool(truth[name]) != swapped)


@pytest.mark.parametrize("angle_deg", [-30, 25])
def test_pitch_and_roll_change_no_answer(asked, angle_deg):
    """Turning the camera about its viewing axis, or up and down, leaves its heading and so every answer."""
    for _, question in asked[::3]:
        level = level_from_cam(question.truth["up_cam"])[:3, :3]
        pitch_deg = math.degrees(math.asin(question.truth["up_cam"][2]))
        roll = Rotation.from_euler("z", 3 * angle_deg, degrees=True).as_matrix()
        turns = [roll]
        if abs(pitch_deg) + abs(angle_deg) < 80:
            pitch = level.T @ Rotation.from_euler("x", angle_deg, degrees=True).as_matrix() @ level
            turns += [pitch, roll @ pitch]
        for turn in turns:
            outcome = turned(question, turn)
            assert outcome is not None
            assert outcome == pytest.approx({name: question.truth[name] for name in outcome}, rel=1e-4)


def test_what_is_hard_to_see_is_not_asked_about():
    def kept(*boxes: Box3D) -> list[str]:
        return [region.label for region in regions_of(view(*boxes))]

    clear = box("clear", (0, 0, 5))
    assert kept(clear, box("hidden", (2, 0, 5), visibility=0.3), box("seen", (-2, 0, 5), visibility=0.5)) == [
        "clear",
        "seen",
    ]
    assert kept(clear, box("behind", (0, 0, -5)), box("cut", (2.9, 0, 5)), box("tiny", (2, 0, 70))) == ["clear"]
    assert kept(clear, box("narrow", (2, 0, 5), (0.05, 2, 0.05)), box("flat", (-2, 0, 5), (2, 0.05, 0.05))) == ["clear"]
    assert kept(clear, box("in", (2.3, 0, 5)), box("far", (2, 0, 60))) == ["clear", "in", "far"]
    assert kept(clear, box("twin", (0, 0, 5)), box("other", (2, 0, 5))) == ["other"]
    assert kept(box("traffic_cone", (0, 0, 5))) == ["traffic cone"]
    around = replace(clear, label="around", size_m=(30.0, 30.0, 30.0))
    assert kept(clear, around) == ["clear"]


def test_what_is_not_clear_is_not_asked():
    def asked_of(*boxes: Box3D) -> set[str]:
        return {question.truth["category"] for question in questions_about(*boxes)}

    like = asked_of(box("a", (-1, 0, 5)), box("b", (1, 0, 5)))
    assert not {name for name in like if name.startswith(("tall", "short", "big", "wide", "thin", "above", "behind"))}
    assert {"left_predicate", "right_choice", "direction", "horizontal_distance_data"} <= like
    assert "vertical_distance_data" not in like
    assert "distance_data" in like
    # In space the far one lies more to the right, in the picture the near one.
    parallax = asked_of(box("near", (1.2, 0, 5)), box("far", (2.2, 0.7, 20)))
    assert not {name for name in parallax if name.startswith(("left", "right"))}
    assert {"behind_predicate", "front_predicate", "horizontal_distance_data"} <= parallax
    # In depth one lies in front, by straight distance the other.
    corner = asked_of(box("ahead", (0, 0, 5.95)), box("aside", (2.45, 1.75, 5.0), (0.2, 0.2, 0.2)))
    assert not {name for name in corner if name.startswith(("behind", "front"))}
    assert {"left_predicate", "big_predicate"} <= corner
    # What touches has no gap; what stands on the same spot no direction.
    stacked = asked_of(box("low", (0, 1, 8)), box("high", (0, 0, 8)))
    assert not {"distance_data", "direction", "horizontal_distance_data"} & stacked
    assert {"above_predicate", "below_choice", "vertical_distance_data"} <= stacked
    # Seen over its corner, a thing may be as wide as its box or, if it is round, a third less.
    assert "width_data" not in asked_of(box("corner", (0, 0, 6), yaw_deg=45))
    assert "width_data" in asked_of(box("front", (0, 0, 6)))
    assert "height_data" in asked_of(box("corner", (0, 0, 6), yaw_deg=45))


def test_a_scene_known_by_hand():
    table = box("table", (-1.5, 0.5, 6.0), (2.0, 0.8, 1.0))
    lamp = box("lamp", (1.5, -0.1, 9.0), (0.4, 2.0, 0.4))
    known = {
        "left_predicate": lambda a: {"yes": a == "table"},
        "above_choice": lambda a: {"chosen": int(a == "table")},
        "behind_predicate": lambda a: {"yes": a == "lamp"},
        "tall_predicate": lambda a: {"yes": a == "lamp"},
        "wide_predicate": lambda a: {"yes": a == "table"},
        "big_predicate": lambda a: {"yes": a == "table"},
        "direction": lambda a: {"hour": 2 if a == "table" else 8},
        "vertical_distance_data": lambda a: {"length_m": 0.6},
        "horizontal_distance_data": lambda a: {"length_m": 3.0},
        "distance_data": lambda a: {"length_m": math.hypot(3.0 - 1.0 - 0.2, 3.0 - 0.5 - 0.2)},
        "width_data": lambda a: {"length_m": {"table": 2.0, "lamp": 0.4}[a]},
        "height_data": lambda a: {"length_m": {"table": 0.8, "lamp": 2.0}[a]},
    }
    seen = set()
    for question in questions_about(table, lamp, seeds=60):
        truth = question.truth
        if truth["category"] in known:
            seen.add(truth["category"])
            for name, value in known[truth["category"]](truth["regions"][0]["label"]).items():
                assert truth[name] == pytest.approx(value, abs=1e-5)
    assert seen == set(known)
    # A door has less volume than a crate and a longer diagonal: which is bigger?
    door = box("door", (1.5, 0, 6), (0.9, 2.1, 0.1))
    crate = box("crate", (-1.5, 0, 6))
    names = {question.truth["category"] for question in questions_about(door, crate)}
    assert not {name for name in names if name.startswith(("big", "small"))}


def test_the_order_of_a_pair_is_a_fair_coin_whatever_the_sources_order():
    table = box("table", (-1.5, 0.5, 6.0), (2.0, 0.8, 1.0))
    lamp = box("lamp", (1.5, -0.1, 9.0), (0.4, 2.0, 0.4))
    firsts: dict[str, list[bool]] = defaultdict(list)
    for question in questions_about(table, lamp, seeds=150):
        if len(question.truth["regions"]) == 2:
            firsts[question.truth["category"]].append(question.truth["regions"][0]["label"] == "table")
    assert len(firsts) == 22
    for drawn in firsts.values():
        assert abs(np.mean(drawn) - 0.5) < 4 * 0.5 / math.sqrt(len(drawn))


def test_no_question_answers_another():
    boxes = [
        box(f"thing{i}", (1.3 * i - 2.6, 0.3 * i - 0.5, 6 + i), (0.5 + 0.2 * i, 0.6 + 0.3 * i, 0.5)) for i in range(5)
    ]
    questions = TASK.ask([view(*boxes)], FACTS, "z", rng_for(0, "t"))
    assert len(questions) == 24
    assert len({question.truth["category"] for question in questions}) == 24
    for number in (100, 1000):
        task = ObjectsTask(ObjectsTask.Options(questions=number))
        questions = task.ask([view(*boxes)], FACTS, "z", rng_for(0, "t"))
        keys = [
            (
                CATEGORIES[question.truth["category"]].quantity,
                frozenset(region["label"] for region in question.truth["regions"]),
            )
            for question in questions
        ]
        assert len(set(keys)) == len(keys)
        assert 60 < len(keys) < 1000


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"yes": None}, "is not what the boxes say"),
        ({"regions": "swapped"}, "is not what the boxes say"),
        ({"regions": "moved"}, "is not where its object is seen"),
        ({"regions": "off"}, "is no box on the grid"),
        ({"up_cam": [1.0, 0.0, 0.0]}, "boxes"),
        ({"category": "leftish"}, "unknown category"),
    ],
)
def test_a_damaged_truth_is_found(change, problem):
    pair = (box("a", (-1.5, 0.5, 6.0), (2.0, 0.8, 1.0)), box("b", (1.5, -0.1, 9.0), (0.4, 2.0, 0.4)))
    question = next(q for q in questions_about(*pair) if q.truth["category"] == "left_predicate")
    record = {"views": [{"camera": {**vars_of(CAMERA)}}], "metric": True}
    assert TASK.problem_with(question, record) is None
    truth = orjson.loads(orjson.dumps(question.truth))
    if "yes" in change:
        truth["yes"] = not truth["yes"]
    elif change.get("regions") == "swapped":
        truth["regions"].reverse()
    elif "regions" in change:
        damage = [0, 0, 30, 1001] if change["regions"] == "off" else [0, 0, 30, 40]
        text = question.question.replace(str(tuple(truth["regions"][0]["box"])), str(tuple(damage)))
        question = replace(question, question=text)
        truth["regions"][0]["box"] = damage
    else:
        truth |= change
    assert problem in str(TASK.problem_with(replace(question, truth=truth), record))


def test_boxes_in_a_distorted_image_are_found_where_they_are_seen():
    lens = replace(CAMERA, distortion=Distortion("opencv", (-0.25, 0.06, 0.0, 0.0)))
    boxes = [box(f"b{i}", (1.2 * i - 2.4, 0.5 - 0.3 * i, 6), (0.8, 0.5 + 0.2 * i, 0.6)) for i in range(5)]
    straight = {region.label: np.array(region.box) for region in regions_of(view(*boxes))}
    seen = regions_of(replace(view(*boxes), source_camera=lens))
    assert {region.label for region in seen} == set(straight)
    for region in seen:
        assert np.abs(np.array(region.box) - straight[region.label]).max() <= 25
    record = {"views": [{"camera": vars_of(CAMERA)}], "metric": True}
    for question in TASK.ask([replace(view(*boxes), source_camera=lens)], FACTS, "z", rng_for(0, "t")):
        assert TASK.problem_with(question, record) is None


def test_real_street_objects_have_the_sizes_they_have():
    root = needs_realdata("nuscenes")
    config = BuildConfig(source="nuscenes", root=str(root), tasks={"objects": {"questions": 200}}, focal_px=400.0)
    heights: dict[str, list[float]] = defaultdict(list)
    for sample in samples(config):
        for question in sample.questions:
            assert TASK.problem_with(question, sample.record) is None
            if question.truth["category"] == "height_data":
                heights[question.truth["regions"][0]["label"]].append(question.truth["length_m"])
    assert 1.5 < np.median(heights["pedestrian"]) < 1.9
    assert 1.3 < np.median(heights["car"]) < 1.9
    assert 0.5 < np.median(heights["traffic cone"]) < 1.2


def vars_of(camera: Camera) -> dict[str, Any]:
    return {name: getattr(camera, name) for name in camera.__dataclass_fields__}


def test_a_wrong_answer_or_question_is_found():
    pair = (box("a", (-1.5, 0.5, 6.0), (2.0, 0.8, 1.0)), box("b", (1.5, -0.1, 9.0), (0.4, 2.0, 0.4)))
    record = {"views": [{"camera": vars_of(CAMERA)}], "metric": True}
    for question in questions_about(*pair, seeds=5):
        wrong = {"predicate": "Maybe.", "choice": "Both.", "length": "9 miles", "direction": "13 o'clock"}
        problem = TASK.problem_with(replace(question, answer=wrong[question.truth["kind"]]), record)
        assert "does not say" in str(problem)
        assert "does not name" in str(TASK.problem_with(replace(question, question="Is it?"), record))
        if question.truth["kind"] == "length":
            assert "metric" in str(TASK.problem_with(question, record | {"metric": False}))


def test_frames_that_hold_nothing_are_cut_and_sources_without_what_is_needed_dropped():
    with pytest.raises(Cut, match="no_objects"):
        questions_about()
    with pytest.raises(Cut, match="no_objects"):
        questions_about(box("behind", (0, 0, -5)))
    with pytest.raises(Cut, match="no_clear_question"):
        questions_about(tilted())
    with pytest.raises(Drop, match="no_gravity"):
        questions_about(box("a", (0, 0, 5)), world_up=None)
    with pytest.raises(Drop, match="not_metric"):
        questions_about(box("a", (0, 0, 5)), metric=False)
    with pytest.raises(Cut, match="no_gravity"):
        questions_about(box("a", (0, 0, 5)), world_up=(0.0, 0.0, 1.0))


def tilted() -> Box3D:
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("zx", (45, 40), degrees=True).as_matrix()
    pose[:3, 3] = (0, 0, 5)
    return Box3D("tilted", pose, (1.0, 1.0, 1.0))


@pytest.mark.parametrize(
    ("answer", "yes"),
    [
        ("Yes.", True),
        ("No, it is not.", False),
        ("<think>no no</think> Indeed, A is behind B.", True),
        ("That is correct.", True),
        ("Incorrect, A is right of B.", False),
        ("In fact, A is to the right of B.", False),
        ("Right, it is.", True),
        ("It is on the right.", None),
        ("A is right of B, yes.", True),
        ("It isn't.", False),
        ("I cannot tell.", None),
        ("", None),
    ],
)
def test_reading_yes_and_no(answer, yes):
    assert read_yes(answer) is yes


@pytest.mark.parametrize(
    ("answer", "chosen"),
    [
        ("Bounding box region (1, 2, 30, 40) is taller.", 0),
        ("[5, 6, 70, 80]", 1),
        ("Region [1] is taller.", 1),
        ("The second one.", 1),
        ("The former.", 0),
        ("The lamp is.", 1),
        ("(1, 2, 30, 40) is taller than (5, 6, 70, 80).", 0),
        ("The lamp is taller than the table.", 1),
        ("[5, 6, 70, 80] is tall[1, 2, 30, 40]", 1),
        ("(1, 2, 30, 40) is not taller than (5, 6, 70, 80).", None),
        ("(1, 2, 30, 40) is shorter than (5, 6, 70, 80).", None),
        ("Between (1, 2, 30, 40) and (5, 6, 70, 80), it is hard to say.", None),
        ("(1, 2, 30, 41)", None),
        ("I cannot tell.", None),
    ],
)
def test_reading_a_choice(answer, chosen):
    assert read_choice(answer, [(1, 2, 30, 40), (5, 6, 70, 80)], ["table", "lamp"], "tall") == chosen


@pytest.mark.parametrize(
    ("answer", "hour"),
    [
        ("3 o'clock", 3),
        ("Bounding box region (1, 2, 30, 40) is near 11 o’clock from region [0].", 11),
        ("three", 3),
        ("12", 12),
        ("At 7:00.", 7),
        ("It is 2 m away, at ten o'clock.", 10),
        ("between 2 and 3 o'clock or so, 2 o'clock", None),
        ("13 o'clock", None),
        ("0", None),
        ("1.5", None),
        ("I cannot tell.", None),
    ],
)
def test_reading_an_hour(answer, hour):
    assert read_hour(answer) == hour


@pytest.mark.parametrize(
    ("prediction", "truth", "right"),
    [
        (11, {"hour": 12}, 1), (1, {"hour": 12}, 1), (2, {"hour": 12}, 0), (12, {"hour": 1}, 1),
        (0.75, {"length_m": 1.0}, 1), (1.25, {"length_m": 1.0}, 1), (1.26, {"length_m": 1.0}, 0),
        (0.74, {"length_m": 1.0}, 0),
    ],
)  # fmt: skip
def test_what_counts_as_success(prediction, truth, right):
    kind = ("direction", "direction") if "hour" in truth else ("distance_data", "length")
    scores = TASK.score(prediction, truth | {"category": kind[0], "kind": kind[1]})
    assert scores["success"] == scores["quantitative"] == right
    if "hour" in truth:
        assert scores["direction_deg"] == 30 * min(
            abs(prediction - truth["hour"]), 12 - abs(prediction - truth["hour"])
        )
    else:
        assert scores["abs_rel"] == scores["direct_abs_rel"] == pytest.approx(abs(prediction - 1) / 1.0001)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('question: "How tall is the {label_a} in {a} from', 'question: "How tall is it from', "does not name both"),
        ('answer: "It is about {length} tall."', 'answer: "Tall."', "does not say 0.61"),
        ('answer: "{yes}, {a} {is} taller than {b}."', 'answer: "Yes."', "does not say False"),
        ('answer: "{yes}, {a} {is} taller than {b}."', 'answer: "{length}"', "{length} has no place"),
        ("How tall is the {label_a} in {a}", "How tall ({length}) is the {label_a} in {a}", "{length} has no place"),
        ('answer: "The {label_chosen} in {chosen} is taller."', 'answer: "{a}."', "does not say 1"),
        ('answer: "At {hour} o\'clock."', 'answer: "At noon."', "does not say"),
        ("{category: height_data}", "{category: depth_data}", "unknown value 'depth_data'"),
        ("when: {category: height_data}", "when: {}", "needs a category"),
        ("How tall is the {label_a}", "How tall is the {name}", "unknown placeholder {name}"),
    ],
)
def test_a_mistake_in_a_pack_names_file_and_place(tmp_path, old, new, message):
    text = (PACKS / "objects.yaml").read_text()
    assert old in text
    pack = tmp_path / "pack.yaml"
    pack.write_text(text.replace(old, new))
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        ObjectsTask(ObjectsTask.Options(wordings=str(pack)))
    assert str(pack) in str(caught.value)


def test_another_pack_is_used_and_enters_the_digest(tmp_path):
    pack = tmp_path / "pack.yaml"
    pack.write_text((PACKS / "objects.yaml").read_text().replace("How tall is", "Of what height is"))
    task = ObjectsTask(ObjectsTask.Options(wordings=str(pack)))
    assert task.about() != TASK.about()


def test_the_overlap_of_boxes_is_that_of_their_areas():
    one = np.array([0.0, 0.0, 4.0, 2.0])
    assert _overlap(one, one) == 1.0
    assert _overlap(one, np.array([2.0, 1.0, 6.0, 3.0])) == pytest.approx(2 / 14)
    assert _overlap(one, np.array([1.0, 0.0, 3.0, 1.0])) == pytest.approx(2 / 8)
    assert _overlap(one, np.array([5.0, 3.0, 6.0, 4.0])) == 0.0
