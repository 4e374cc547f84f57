"""The depth task closes its loop: what it asks it can parse and score, and it never says a wrong number."""

from __future__ import annotations

import re

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm3data.randomness import rng_for
from vlm3data.tasks.depth import DepthTask, _lengths
from vlm3data.types import Camera, DepthPoints, Drop, Held, SourceFacts, UserError, View


def facts(metric: bool = True) -> SourceFacts:
    return SourceFacts(
        name="s", licence="x", metric=metric, depth_kind="z", depth_range_m=(0, 200), pixel_centre="", splits=()
    )


def view(depth_m: list[float], width_px: int = 320, height_px: int = 256) -> View:
    rng = np.random.default_rng(len(depth_m))
    flat = rng.permutation(width_px * height_px)[: len(depth_m)]
    pixels = np.stack([flat % width_px, flat // width_px], axis=1)
    camera = Camera(1000.0, 1000.0, 160.0, 128.0, width_px, height_px)
    return View(
        frame="f",
        image=np.zeros((height_px, width_px, 3), np.uint8),
        camera=camera,
        source_camera=camera,
        scale=(1.0, 1.0),
        crop_xy_px=(0, 0),
        points=DepthPoints(pixels, np.asarray(depth_m, np.float64)),
    )


def record(width_px: int = 320, height_px: int = 256, metric: bool = True) -> dict:
    return {"views": [{"camera": {"width_px": width_px, "height_px": height_px}}], "metric": metric}


@given(st.lists(st.floats(0.1, 200), min_size=1, max_size=80), st.sampled_from(["z", "euclidean"]))
@settings(max_examples=60, deadline=None)
def test_an_oracle_scores_perfectly_and_says_the_value(depths, kind):
    task = DepthTask(DepthTask.Options())
    for question in task.ask([view(depths)], facts(), kind, rng_for(0, "t")):
        parsed = task.parse(question.answer, question.truth)
        assert parsed == pytest.approx(question.truth["depth_m"], abs=0.00501)
        assert set(task.score(parsed, question.truth).values()) == {1.0}
        assert set(task.score(task.parse("I cannot tell.", question.truth), question.truth).values()) == {0.0}
        assert task.problem_with(question, record()) is None
        x, y = question.truth["grid_xy"]
        named = [int(number) for number in re.findall(r"\d+", question.question) if number not in ("0", "2000")]
        assert named == [number for number in (x, y) if number]
        assert orjson.loads(orjson.dumps(question.truth)) == question.truth


def test_a_constant_scores_at_chance():
    task = DepthTask(DepthTask.Options(pixels=1000))
    depths = np.exp(np.random.default_rng(0).uniform(np.log(0.5), np.log(50), 1000)).tolist()
    questions = task.ask([view(depths)], facts(), "z", rng_for(0, "t"))
    score = np.mean([task.score(5.0, question.truth)["delta1"] for question in questions])
    assert score == pytest.approx(2 * np.log(1.25) / np.log(100), abs=0.03)


def test_questions_are_as_many_as_asked_for_each_about_another_pixel():
    task = DepthTask(DepthTask.Options(pixels=16))
    questions = task.ask([view([1.0] * 100)], facts(), "z", rng_for(0, "t"))
    assert len({tuple(question.truth["pixel_px"]) for question in questions}) == 16


def test_wordings_vary_and_name_the_right_kind_of_depth():
    task = DepthTask(DepthTask.Options())
    for kind, foreign in (("z", ("straight line", "istance")), ("euclidean", ("epth", "camera plane"))):
        questions = task.ask([view([1.0] * 100)], facts(), kind, rng_for(0, "t"))
        wordings = {question.question.translate({ord(d): "" for d in "0123456789"}) for question in questions}
        assert len(wordings) >= 3
        assert not any(word in question.question for question in questions for word in foreign)


def test_a_source_without_scale_gets_no_metre():
    with pytest.raises(Drop, match="not_metric"):
        DepthTask(DepthTask.Options()).ask([view([1.0])], facts(metric=False), "z", rng_for(0, "t"))


def test_an_image_without_labels_is_dropped():
    with pytest.raises(Drop, match="no_depth"):
        DepthTask(DepthTask.Options()).ask([view([])], facts(), "z", rng_for(0, "t"))


def test_another_wording_pack_is_used_and_enters_the_digest(tmp_path):
    pack = tmp_path / "pack.yaml"
    pack.write_text(
        'wordings:\n  - question: "Where? ({x}, {y})"\n'
        '    answer: "<think> about {depth_m:.2f} </think>\\n\\n<answer> {depth_m:.2f} </answer>"\n'
    )
    task = DepthTask(DepthTask.Options(wordings=str(pack)))
    (question,) = task.ask([view([2.345])], facts(), "z", rng_for(0, "t"))
    assert question.question.startswith("Where? (")
    assert task.parse(question.answer, question.truth) == pytest.approx(2.345, abs=0.00501)
    assert task.about() != DepthTask(DepthTask.Options()).about()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "wordings: [{question: '{z}', answer: '{depth_m}'}]",
            r"wordings.0.question: unknown placeholder \{z\}; known",
        ),
        ("wordings: [{question: '{x.__class__}', answer: 'a'}]", "unknown placeholder"),
        ("wordings: [{question: '{x:{y}}', answer: 'a'}]", "unknown placeholder"),
        ("wordings: [{question: '{x', answer: 'a'}]", "not a template"),
        ("wordings: [{question: '{x:Q}', answer: 'a'}]", "bad format"),
        ("wordings: [{question: q}]", "wordings.0.answer"),
        ("wordings: []", "wordings"),
        ("words: []", "words: unknown key; known: wordings"),
        ("wordings: [{question: '{x} {y}', answer: far}]", "wordings.0.answer: 'far' does not say 0.5 m"),
        ("wordings: [{question: '{x} {y}', answer: '{depth_m:.2f} cm'}]", "wordings.0.answer"),
        (
            "wordings: [{question: '{x} {y}', answer: '{depth_m:.2f}', when: {depth_kind: zz}}]",
            "wordings.0.when.depth_kind: unknown value 'zz'; known: z, euclidean",
        ),
        (
            "wordings: [{question: '{x} {y}', answer: '{depth_m:.2f}', when: {kind: z}}]",
            "wordings.0.when.kind: unknown key; known: depth_kind",
        ),
        (
            "wordings: [{question: '{x} {y}', answer: '{depth_m:.2f}', when: {depth_kind: z}}]",
            "there is none for depth_kind euclidean",
        ),
    ],
)
def test_a_mistake_in_a_pack_names_file_and_place(tmp_path, text, message):
    pack = tmp_path / "pack.yaml"
    pack.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        DepthTask(DepthTask.Options(wordings=str(pack)))
    assert str(pack) in str(caught.value)


def test_lengths_are_told_in_three_units():
    assert _lengths(1.524) == pytest.approx({"depth_m": 1.524, "depth_cm": 152.4, "depth_ft": 5.0})


def test_a_single_pixel_is_asked_again_in_the_other_kind_of_depth():
    task, seen = DepthTask(DepthTask.Options(pixels=1)), view([4.0])
    (question,) = task.ask([seen], facts(), "z", rng_for(0, "t"))
    stored = {"depth": [{"truth": question.truth}]}
    held = Held(stored=stored, cameras=[seen.camera], world_from_cam=[None], facts=facts())
    (again,) = task.ask_again(held, "euclidean", rng_for(0, "t"))
    ray = np.append((np.array(question.truth["pixel_px"]) + 0.5 - (160.0, 128.0)) / 1000.0, 1.0)
    assert again.truth["depth_m"] == pytest.approx(4.0 * np.linalg.norm(ray))
