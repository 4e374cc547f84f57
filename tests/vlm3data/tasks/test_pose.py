"""Camera pose: what turns and moves which way, both ways round, and a task that closes its loop."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from vlm3data.geometry import project, rotation_from_yaw_pitch_roll_deg
from vlm3data.randomness import rng_for
from vlm3data.sources.synthetic import SyntheticSource
from vlm3data.tasks._pose.measure import measure
from vlm3data.tasks.pose import PoseTask
from vlm3data.types import Answered, Camera, Cut, Question, Tracks, UserError, View

FACTS = SyntheticSource.facts
RELATIVE = replace(FACTS, metric=False)
TASK = PoseTask(PoseTask.Options())
KINDS = ("rotation_angle", "euler", "direction", "distance")

poses = st.builds(
    lambda quaternion, position: pose_of(Rotation.from_quat(quaternion).as_matrix(), position),
    st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1),
    st.tuples(*[st.floats(-5, 5)] * 3),
)


def pose_of(rotation: object, position: object) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, position
    return pose


def view(world_from_cam: np.ndarray | None, depth_m: float | None = 3.0) -> View:
    camera = Camera(1000.0, 1000.0, 32.0, 32.0, 64, 64)
    return View(
        frame="f",
        image=np.zeros((64, 64, 3), np.uint8),
        camera=camera,
        source_camera=camera,
        scale=(1.0, 1.0),
        crop_xy_px=(0, 0),
        depth_m=None if depth_m is None else np.full((64, 64), depth_m, np.float32),
        depth_camera=camera,
        world_from_cam=world_from_cam,
    )


def asked(one: np.ndarray, other: np.ndarray, facts=FACTS, seed: int = 0, depth_m: float | None = 3.0):
    """Return the questions about two poses by their kind."""
    questions = TASK.ask([view(one, depth_m), view(other, depth_m)], facts, "z", rng_for(seed, "t"))
    return {question.truth["kind"]: question for question in questions}


def from_first(rotation: object = None, position: object = (0.5, 0.2, 0.3)) -> dict[str, Question]:
    """Return the questions about a second camera placed in the axes of a first one that stands anywhere."""
    first = pose_of(Rotation.from_euler("xyz", [20, -130, 75], degrees=True).as_matrix(), (10, -4, 2))
    return asked(first, first @ pose_of(np.eye(3) if rotation is None else rotation, position))


@pytest.mark.parametrize(
    ("position", "words"),
    [
        ((1, 0, 0), "right"),
        ((-1, 0, 0), "left"),
        ((0, 1, 0), "down"),
        ((0, -1, 0), "up"),
        ((0, 0, 1), "forward"),
        ((0, 0, -1), "backward"),
        ((-0.69, 0.02, 0.72), "left, forward"),
        ((0.5, -0.5, -0.5), "right, up, backward"),
        ((0.0996, 0, 0.995), "right, forward"),  # it is said as +0.10
        ((0.0944, 0, 0.9955), "forward"),  # and this as +0.09
    ],
)
def test_where_the_camera_moved_is_said_in_the_first_cameras_axes(position, words):
    turned = Rotation.from_euler("YXZ", [40, 10, -20], degrees=True).as_matrix()
    question = from_first(turned, position)["direction"]
    assert question.answer.split(";")[0] == words
    unit = np.array(position) / np.linalg.norm(position)
    np.testing.assert_allclose(question.truth["translation_direction"], unit, atol=1e-12)
    assert question.answer.endswith(f"unit vector ({unit[0]:+.2f}, {unit[1]:+.2f}, {unit[2]:+.2f})")
    assert from_first(turned, position)["distance"].truth["distance_m"] == pytest.approx(np.linalg.norm(position))


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        # The second camera's right, down and forward, in the first one's axes.
        (((0.8, 0, -0.6), (0, 1, 0), (0.6, 0, 0.8)), (36.87, 0, 0)),  # looks to the right
        (((1, 0, 0), (0, 0.8, 0.6), (0, -0.6, 0.8)), (0, 36.87, 0)),  # looks up
        (((0.8, 0.6, 0), (-0.6, 0.8, 0), (0, 0, 1)), (0, 0, 36.87)),  # its right side goes down
    ],
)
def test_yaw_turns_right_pitch_looks_up_and_roll_banks_right(columns, expected):
    truth = from_first(np.array(columns).T)["euler"].truth
    assert (truth["yaw_deg"], truth["pitch_deg"], truth["roll_deg"]) == pytest.approx(expected, abs=0.005)
    assert truth["rotation_angle_deg"] == pytest.approx(36.87, abs=0.005)


def test_the_turns_are_made_in_the_order_that_the_question_says():
    turned = Rotation.from_euler("YXZ", [50, 30, -20], degrees=True).as_matrix()
    for seed in range(12):
        question = asked(np.eye(4), pose_of(turned, (1, 0, 0)), seed=seed)["euler"]
        assert question.answer == "Yaw=+50.0°, Pitch=+30.0°, Roll=-20.0°"
        order = [re.search(name, question.question, re.IGNORECASE).start() for name in ("yaw", "pitch", "roll")]
        assert order == sorted(order)


def test_the_released_samples_numbers_come_back():
    rotation = rotation_from_yaw_pitch_roll_deg(89.60077227075526, 2.598684372865458, 6.072327841623985)
    questions = from_first(rotation, 1.9806591332884265 * np.array([-0.69, 0.02, 0.7235]))
    assert questions["rotation_angle"].answer == "Rotation angle: 89.7 degrees"
    assert questions["euler"].answer == "Yaw=+89.6°, Pitch=+2.6°, Roll=+6.1°"
    assert questions["direction"].answer == "left, forward; unit vector (-0.69, +0.02, +0.72)"
    assert questions["distance"].answer == "Translation distance: 1.98 meters"


@given(poses, poses)
@settings(max_examples=60, deadline=None)
def test_the_images_swapped_give_the_inverse_pose(one, other):
    there, back = asked(one, other), asked(other, one)
    for kind in there.keys() & back.keys():
        forward, backward = there[kind].truth, back[kind].truth
        rotation = np.array(forward["rotation"])
        np.testing.assert_allclose(backward["rotation"], rotation.T, atol=1e-12)
        assert backward["rotation_angle_deg"] == pytest.approx(forward["rotation_angle_deg"], abs=1e-6)
        assert backward["distance_m"] == pytest.approx(forward["distance_m"])
        if forward["translation_direction"] is not None:
            turned = -rotation.T @ forward["translation_direction"]
            np.testing.assert_allclose(backward["translation_direction"], turned, atol=1e-9)


@given(poses, poses, st.integers(0, 50), st.booleans())
@settings(max_examples=80, deadline=None)
def test_an_oracle_scores_perfectly_in_every_wording(one, other, seed, metric):
    for kind, question in asked(one, other, FACTS if metric else RELATIVE, seed).items():
        prediction = TASK.parse(question.answer, question.truth)
        for name, value in TASK.score(prediction, question.truth).items():
            if name.endswith("_deg"):
                assert value < 0.6, name
            elif name.endswith("abs_rel"):
                assert value < 0.11
            else:
                assert value == 1.0, name
        assert TASK.problem_with(question, {"metric": metric}) is None
        assert "{" not in question.question + question.answer
        assert orjson.loads(orjson.dumps(question.truth)) == question.truth
        assert metric or kind != "distance"


def test_without_a_metric_scale_no_length_is_asked_said_or_kept():
    questions = asked(np.eye(4), pose_of(np.eye(3), (1, 0, 0)), RELATIVE)
    assert list(questions) == ["rotation_angle", "euler", "direction"]
    for question in questions.values():
        assert question.truth["distance_m"] is None
        assert not re.search(r"\bm(eters?|etres?)?\b", question.question + question.answer)
        assert TASK.problem_with(replace(question, truth=question.truth | {"distance_m": 1.0}), {"metric": False})
    scaled = asked(np.eye(4), pose_of(np.eye(3), (731, 0, 0)), RELATIVE, depth_m=2193.0)
    assert {kind: question.answer for kind, question in scaled.items()} == {
        kind: question.answer for kind, question in questions.items()
    }


def test_a_camera_that_hardly_moved_has_no_direction():
    turned = rotation_from_yaw_pitch_roll_deg(20, 0, 0)
    for shift_m, depth_m, facts, moved in (
        (0.0, 3.0, FACTS, False),
        (0.02, 3.0, FACTS, False),
        (0.04, 3.0, RELATIVE, True),
        (0.04, 30.0, RELATIVE, False),
        (0.06, 3.0, replace(FACTS, depth_noise=(0.1, 0.0)), False),
        (0.2, None, FACTS, True),
        (0.02, None, FACTS, False),
        (9.0, None, RELATIVE, False),  # nothing says how large the scene is
        (0.2, math.nan, FACTS, True),
    ):
        questions = asked(np.eye(4), pose_of(turned, (0, 0, shift_m)), facts, depth_m=depth_m)
        assert ("direction" in questions) == moved, (shift_m, depth_m)
        assert ("distance" in questions) == (moved and facts.metric)
        assert {"rotation_angle", "euler"} <= questions.keys()
    # Every fourth pixel of the depth map tells how far the scene is: what lies between may be as near as it likes.
    between = np.full((64, 64), 0.1, np.float32)
    between[::4, ::4] = 30.0
    views = [replace(view(pose_of(np.eye(3), (x, 0, 0))), depth_m=between) for x in (0, 0.04)]
    assert "direction" not in {question.truth["kind"] for question in TASK.ask(views, RELATIVE, "z", rng_for(0))}
    # A short way has a direction, but two decimals would not say it.
    assert "distance" not in asked(np.eye(4), pose_of(turned, (0, 0, 0.04)))


@pytest.mark.parametrize(("shift", "moved"), [((0.2, 0, 0), True), ((0.02, 0, 0), False), ((0, 0, 0), False)])
def test_without_depth_the_shift_of_shared_tracks_says_whether_the_camera_moved(shift, moved):
    turned = rotation_from_yaw_pitch_roll_deg(3, -2, 8)
    points = np.random.default_rng(0).uniform((-0.05, -0.05, 3), (0.05, 0.05, 6), (50, 3))
    views = []
    for pose in (np.eye(4), pose_of(turned, shift)):
        seen = (points - pose[:3, 3]) @ pose[:3, :3]
        blind = view(pose, None)
        views.append(replace(blind, tracks=Tracks(np.arange(50), project(blind.camera, seen))))
    kinds = [question.truth["kind"] for question in TASK.ask(views, RELATIVE, "z", rng_for(0))]
    assert ("direction" in kinds) == moved
    views[0] = replace(views[0], tracks=Tracks(np.arange(90, 140), views[0].tracks.xy_px))
    assert "direction" not in [question.truth["kind"] for question in TASK.ask(views, RELATIVE, "z", rng_for(0))]


def test_turns_are_not_asked_where_they_are_ambiguous():
    for pitch_deg, clear in ((84.0, True), (86.0, False), (-90.0, False)):
        turned = rotation_from_yaw_pitch_roll_deg(30, pitch_deg, 10)
        assert ("euler" in asked(np.eye(4), pose_of(turned, (1, 0, 0)))) == clear


def test_a_view_without_a_pose_is_dropped_by_name():
    with pytest.raises(Cut, match="no_pose"):
        TASK.ask([view(np.eye(4)), view(None)], FACTS, "z", rng_for(0))
    for poses in ((None, np.eye(4)), (np.eye(4), None)):
        with pytest.raises(ValueError, match="need poses"):
            measure([view(pose) for pose in poses], FACTS)


@pytest.mark.parametrize(
    ("kind", "answer", "expected"),
    [
        ("rotation_angle", "Rotation angle: 89.7 degrees", 89.7),
        ("rotation_angle", "<think> 3° at first </think> 12.5°", 12.5),
        ("rotation_angle", "about 30 deg", 30),
        ("rotation_angle", "30", 30),
        ("rotation_angle", "Between image 1 and image 2: 30 degrees", 30),
        ("rotation_angle", "30 or 40 degrees", 40),
        ("rotation_angle", "30 degrees or 40 degrees", None),
        ("rotation_angle", "Large.", None),
        ("euler", "Yaw=+89.6°, Pitch=+2.6°, Roll=-6.1°", [89.6, 2.6, -6.1]),
        ("euler", "yaw: 89.6, pitch 2.6 and roll = \u22126.1", [89.6, 2.6, -6.1]),
        ("euler", "Roll=3, Yaw=1, Pitch=2", [1, 2, 3]),
        ("euler", "Yaw=1, Pitch=2", None),
        ("euler", "Yaw=1, Yaw=2, Pitch=2, Roll=3", None),
        ("euler", "(1, 2, 3)", None),
        ("direction", "left; unit vector (-0.69, +0.02, 0.72)", ([-0.69, 0.02, 0.72], {"left"})),
        ("direction", "Upwards and to the right: [1, -1, 0]", ([1, -1, 0], {"right", "up"})),
        ("direction", "(0, 0, \u22121)", ([0, 0, -1], set())),
        ("direction", "(0, 0, 0)", None),
        ("direction", "(0, 0, 1) or (0, 1, 0)", None),
        ("direction", "left", None),
        ("distance", "Translation distance: 1.98 meters", 1.98),
        ("distance", "198 cm", 1.98),
        ("distance", "1 m or 2 m", None),
    ],
)
def test_an_answer_is_read_as_its_kind_says(kind, answer, expected):
    read = TASK.parse(answer, {"kind": kind})
    if kind == "direction" and expected is not None:
        read = read["direction"], read["words"]
    assert read == pytest.approx(expected) if isinstance(expected, float) else read == expected


def test_silence_is_wrong_and_has_no_error():
    for kind, question in from_first().items():
        for text in ("I cannot tell.", ""):
            assert TASK.parse(text, question.truth) is None
        scores = TASK.score(None, question.truth)
        assert scores
        for name, value in scores.items():
            assert math.isnan(value) if name.endswith(("_deg", "abs_rel")) else value == 0, (kind, name)


def test_errors_are_what_they_say():
    questions = from_first(rotation_from_yaw_pitch_roll_deg(175, 10, -20), (0, 0, 2))
    truth = {kind: question.truth for kind, question in questions.items()}
    euler = TASK.score([-175.0, 10.0, -20.0], truth["euler"])
    assert (euler["yaw_deg"], euler["pitch_deg"], euler["roll_deg"]) == pytest.approx((10, 0, 0), abs=1e-6)
    assert euler["rotation_deg"] == pytest.approx(10)
    assert (euler["rra@5"], euler["rra@15"]) == (0, 1)
    behind = TASK.score({"direction": [0, 0, -3.0], "words": {"backward"}}, truth["direction"])
    assert behind == {"direction_deg": pytest.approx(180), "direction_words": 0, "rta@5": 1, "rta@15": 1}
    aside = TASK.score({"direction": [0.1763, 0, 1], "words": {"forward"}}, truth["direction"])
    assert aside == {"direction_deg": pytest.approx(10, abs=0.01), "direction_words": 1, "rta@5": 0, "rta@15": 1}
    assert TASK.score(2.4, truth["distance"]) == {"distance_success": 1, "distance_abs_rel": pytest.approx(0.2)}
    assert TASK.score(2.6, truth["distance"])["distance_success"] == 0
    assert TASK.score(100.0, truth["rotation_angle"])["angle@5"] == 0


def answers(predict, count: int = 60) -> list[Answered]:
    """Return what `predict` answers on random pairs."""
    rng = np.random.default_rng(0)
    out = []
    for number in range(count):
        turned = Rotation.random(random_state=number).as_matrix()
        for question in asked(np.eye(4), pose_of(turned, rng.normal(size=3))).values():
            out.append(Answered(f"pair{number}", question.truth, predict(question)))
    return out


def oracle(question: Question) -> object:
    return TASK.parse(question.answer, question.truth)


def test_the_summary_groups_the_answers_of_a_pair():
    perfect = TASK.summary(answers(oracle))
    assert [perfect[f"auc@{limit}"] for limit in (5, 10, 20, 30)] == [1.0] * 4
    assert perfect["auc_signed@30"] == 1.0
    assert 0.93 < perfect["auc_trapezoid@5"] < perfect["auc_trapezoid@20"] < 1
    assert perfect["direction_words"] == perfect["distance_success"] == 1.0

    reverse = TASK.summary(
        answers(
            lambda q: (
                {"direction": [-value for value in q.truth["translation_direction"]], "words": set()}
                if q.truth["kind"] == "direction"
                else oracle(q)
            )
        )
    )
    assert (reverse["auc@30"], reverse["auc_signed@30"]) == (1.0, 0.0)
    assert reverse["direction_deg"] == pytest.approx(180)

    silent = TASK.summary(answers(lambda q: None))
    assert silent["auc@30"] == silent["auc_trapezoid@20"] == silent["rra@5"] == silent["distance_success"] == 0
    assert "rotation_deg" not in silent

    half = answers(oracle, 40)
    half = [a._replace(prediction=None) if a.truth["kind"] == "euler" and int(a.sample[4:]) % 2 else a for a in half]
    spoken = [a.sample for a in half if a.truth["kind"] == "euler" and a.prediction]
    pairs = [a.sample for a in half if a.truth["kind"] == "euler"]
    assert TASK.summary(half)["auc@30"] == pytest.approx(len(spoken) / len(pairs))

    only = [a for a in answers(oracle, 5) if a.truth["kind"] == "rotation_angle"]
    assert set(TASK.summary(only)) == {"angle_deg", "angle@5"}
    assert TASK.summary([]) == {}


def test_a_constant_scores_at_chance():
    constant = {
        "rotation_angle": 90.0,
        "euler": [0.0, 0.0, 0.0],
        "direction": {"direction": [0, 0, 1], "words": {"forward"}},
        "distance": 1.0,
    }
    scores = TASK.summary(answers(lambda question: constant[question.truth["kind"]], 150))
    assert scores["auc@30"] < 0.02
    assert scores["rra@15"] < 0.03
    # A line within 15 degrees of a given one: 1 - cos 15 = 0.034 of all.
    assert scores["rta@15"] == pytest.approx(0.034, abs=0.04)
    assert scores["direction_deg"] == pytest.approx(90, abs=10)


def test_a_damaged_question_is_found():
    questions = from_first(rotation_from_yaw_pitch_roll_deg(30, 10, -20))
    about = {"metric": True}
    truth = questions["euler"].truth
    flipped = [-value for value in truth["translation_direction"]]
    for kind, change, problem in (
        ("euler", {"rotation": np.transpose(truth["rotation"]).tolist()}, "not those of the rotation"),
        ("euler", {"yaw_deg": -truth["yaw_deg"]}, "not those of the rotation"),
        ("euler", {"rotation": (-np.array(truth["rotation"])).tolist()}, "not a rotation"),
        ("rotation_angle", {"rotation_angle_deg": 1.0}, "not that of the rotation"),
        ("direction", {"translation_direction": flipped}, "does not say"),
        ("direction", {"translation_direction": [0.0, 0.0, 2.0]}, "unit vector"),
        ("direction", {"translation_direction": None}, "no clear answer"),
        ("distance", {"distance_m": 7.0}, "does not say"),
    ):
        damaged = replace(questions[kind], truth=questions[kind].truth | change)
        assert problem in (TASK.problem_with(damaged, about) or ""), change
    for question in questions.values():
        assert "does not say" in (TASK.problem_with(replace(question, answer="Yes."), about) or "")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"euler": "Yaw={pitch_deg:.1f}, Pitch={yaw_deg:.1f}, Roll={roll_deg:.1f}"}, "does not say the euler"),
        ({"direction": "{words} ({x:.2f}, {y:.2f}, {x:.2f})"}, "does not say the direction"),
        ({"direction": "({x:.2f}, {y:.2f}, {z:.2f})"}, "does not say the direction"),
        ({"rotation_angle": "{yaw_deg:.1f} degrees"}, "does not say the rotation_angle"),
        ({"distance": "{distance_m:.2f} cm"}, "does not say the distance"),
        ({"distance": "{depth_m:.2f} m"}, "unknown placeholder"),
    ],
)
def test_a_pack_whose_answers_do_not_say_the_truth_is_refused(tmp_path, changed, message):
    said = {
        "rotation_angle": "{angle_deg:.1f} degrees",
        "euler": "Yaw={yaw_deg:.1f}, Pitch={pitch_deg:.1f}, Roll={roll_deg:.1f}",
        "direction": "{words} ({x:.2f}, {y:.2f}, {z:.2f})",
        "distance": "{distance_m:.2f} m",
    }

    def written(name: str, answers_of: dict[str, str]) -> str:
        rows = [{"question": "?", "answer": text, "when": {"kind": kind}} for kind, text in answers_of.items()]
        (tmp_path / name).write_bytes(orjson.dumps({"wordings": rows}))
        return str(tmp_path / name)

    assert PoseTask(PoseTask.Options(wordings=written("good.yaml", said))).about() != TASK.about()
    with pytest.raises(UserError, match=message):
        PoseTask(PoseTask.Options(wordings=written("bad.yaml", said | changed)))


def test_every_question_states_its_convention_and_wordings_vary():
    seen: dict[str, set[str]] = {kind: set() for kind in KINDS}
    for seed in range(40):
        for kind, question in asked(np.eye(4), pose_of(np.eye(3), (1, 0, 0)), seed=seed).items():
            seen[kind].add(question.question)
    assert all(len(wordings) >= 3 for wordings in seen.values())
    for text in seen["euler"]:
        assert re.search(r"right", text)
        assert re.search(r"\bup", text)
        assert re.search("about (its|the) (new|own|x|y|z|viewing)", text)
    for text in seen["direction"]:
        assert re.search("first camera|camera 1", text)
        assert "0.1" in text
        assert re.search("x.*right.*y.*down.*z", text)


def test_a_generated_scene_is_asked_about(tmp_path):
    source = SyntheticSource("", SyntheticSource.Options(domains=("hall",), scenes=1, width_px=96, height_px=64), 3)
    (scene,) = source.scenes(None)
    frames = [SimpleNamespace(pose=frame.world_from_cam, depth=frame.depth_m()) for frame in source.frames(scene)]
    views = [replace(view(frame.pose), depth_m=frame.depth) for frame in frames]
    questions = TASK.ask(views, FACTS, "z", rng_for(0))
    assert [question.truth["kind"] for question in questions] == list(KINDS)
    apart = np.linalg.norm(frames[0].pose[:3, 3] - frames[1].pose[:3, 3])
    assert questions[3].truth["distance_m"] == pytest.approx(apart)


def test_the_areas_of_known_errors():
    """Half a degree of rotation; the direction told points 178.5 degrees away, 1.5 from the opposite one."""
    scores = TASK.over_samples(np.array([[0.5, 178.5]]))
    assert scores["auc@5"] == pytest.approx(4 / 5)  # found within 2, 3, 4 and 5 degrees, not within 1
    assert scores["auc@30"] == pytest.approx(29 / 30)
    assert scores["auc_signed@30"] == 0
    assert scores["auc_trapezoid@5"] == pytest.approx((1.5 / 2 + 3.5) / 5)
    turned = TASK.over_samples(np.array([[1.5, 0.5]]))
    assert turned == scores | {"auc_signed@30": pytest.approx(29 / 30)}


@pytest.mark.parametrize(("off_deg", "within"), [(4.9, (1, 1)), (5.1, (0, 1)), (14.9, (0, 1)), (15.1, (0, 0))])
def test_answers_are_right_within_5_and_15_degrees(off_deg, within):
    truth = {kind: question.truth for kind, question in from_first(np.eye(3), (0, 0, 2)).items()}
    euler = TASK.score([off_deg, 0.0, 0.0], truth["euler"])
    assert (euler["rra@5"], euler["rra@15"]) == within
    for sign in (1, -1):  # the way there and the way back are one line
        told = [sign * math.sin(math.radians(off_deg)), 0, sign * math.cos(math.radians(off_deg))]
        direction = TASK.score({"direction": told, "words": {"forward"}}, truth["direction"])
        assert (direction["rta@5"], direction["rta@15"]) == within
    for sign in (1, -1):
        turned = truth["rotation_angle"]["rotation_angle_deg"] + sign * off_deg
        assert TASK.score(turned, truth["rotation_angle"])["angle@5"] == within[0]
