"""Scores of predictors whose score is known, and what the controls are made of."""

from __future__ import annotations

import json
from dataclasses import replace
from unittest.mock import MagicMock

import numpy as np
import pytest

from vlm3data.build import BuildConfig, build
from vlm3data.cli import app as build_app
from vlm3data.command import run_app
from vlm3data.shards import read_samples
from vlm3data.types import Answered, Sample, UserError
from vlm3train.asking import ask_all
from vlm3train.bootstrap import Bootstrap, interval
from vlm3train.cli import app
from vlm3train.controls import fit, guesses_without_training, with_swapped_images
from vlm3train.evaluate import evaluate, write_json
from vlm3train.generate import Generator
from vlm3train.paper import beside, print_beside
from vlm3train.plots import _by_position, plot_depth
from vlm3train.scoring import _Judge, parsed, rows_of, task_named
from vlm3train.tables import print_rows


def _oracle(asked):
    return [question.answer for _, question in asked]


def test_an_oracle_scores_one_and_silence_scores_nothing(shards):
    samples = list(read_samples(shards))
    (row,) = evaluate(_oracle, ("model", "toy"), samples, 10, fit(samples))
    assert (row.scores, row.unparsed, row.questions) == ({"delta1": 1.0}, 0, 10 * len(samples))
    (row,) = evaluate(lambda asked: ["I cannot tell."] * len(asked), ("model", "toy"), samples, 10, None)
    assert (row.scores, row.unparsed, row.median) == ({"delta1": 0.0}, row.questions, None)
    assert row.intervals.keys() == {"model", "swapped_images"}
    (row,) = evaluate(_oracle, ("model", "toy"), samples[:1], 10, None)
    assert (row.images, row.intervals, row.swapped_images) == (1, {}, None), "one image has no spread"


def test_the_median_control_scores_what_a_constant_answer_does(shards):
    samples = list(read_samples(shards))
    controls = fit(samples)
    (row,) = evaluate(
        lambda asked: [f"{controls.depth.median_m} m"] * len(asked), ("model", "toy"), samples, 10, controls
    )
    assert row.scores == row.median
    assert row.location["delta1"] >= row.median["delta1"]


def test_empty_cells_of_the_location_prior_hold_the_median(make_sample):
    samples = [make_sample("a", ["?"], depth_m=1.0), make_sample("b", ["?"] * 2, depth_m=9.0)]
    controls = fit(samples)
    assert controls.depth.median({}) == 9.0
    assert controls.depth.location({"grid_xy": [1999, 1999], "grid": 2000}) == 9.0
    assert controls.depth.location({"grid_xy": [1999, 1999]}) == 9.0
    assert controls.depth.location({"grid_xy": [49, 0], "grid": 1000}) == 5.0
    assert controls.depth.location({"grid_xy": [50, 0], "grid": 1000}) == 9.0
    assert controls.depth.location({"grid_xy": [5, 5], "grid": 2000}) == 5.0
    lower = make_sample("c", ["?"] * 4, depth_m=3.0)  # at (0, 0), (100, 50), (200, 100), (300, 150)
    at = fit([*samples, *samples[1:] * 2, lower]).depth.location
    assert (at({"grid_xy": [250, 120], "grid": 2000}), at({"grid_xy": [120, 250], "grid": 2000})) == (3.0, 9.0)
    assert fit([]) is None


def test_swapped_images_are_anothers_and_of_the_same_size_where_any_is(make_sample):
    sizes = [(64, 64), (96, 64), (64, 64), (32, 32), (96, 64), (64, 64)]
    samples = [make_sample(str(i), ["1 m"], size=size, num_images=1 + i % 2) for i, size in enumerate(sizes)]
    samples = [samples[0], samples[2], samples[1], samples[4], samples[3], samples[5]]
    swapped = with_swapped_images(samples)
    for before, after in zip(samples, swapped, strict=True):
        assert after.images is not before.images
        assert (after.key, after.questions) == (before.key, before.questions)
    assert swapped[0].images is samples[1].images or swapped[0].images is samples[5].images
    assert with_swapped_images(samples[:1]) is None


def test_swapped_images_never_show_the_same_scene(make_sample):
    samples = [make_sample(f"{scene}{view}", ["1 m"], scene=scene) for scene in "abc" for view in range(3)]
    scene_of = {id(sample.images): sample.record["scene"] for sample in samples}
    for before, after in zip(samples, with_swapped_images(samples), strict=True):
        assert scene_of[id(after.images)] != before.record["scene"]
    assert with_swapped_images(samples[:3]) is None


def test_no_image_stands_in_for_many_others(make_sample):
    for count in (2, 9, 10):
        samples = [make_sample(str(i), ["1 m"]) for i in range(count)]
        assert len({id(sample.images) for sample in with_swapped_images(samples)}) == count
    views = [make_sample(f"{scene}{view}", ["1 m"], scene=scene) for scene in "abcd" for view in range(3)]
    assert len({id(sample.images) for sample in with_swapped_images(views)}) == len(views)


def test_what_the_swapped_control_sees_is_the_other_image(make_sample):
    samples = [make_sample("a", ["1.0 m"], depth_m=1.0), make_sample("b", ["7.0 m"], num_images=2, depth_m=7.0)]
    seen = {1: "1.0 m", 2: "7.0 m"}
    (row,) = evaluate(lambda asked: [seen[len(s.images)] for s, _ in asked], ("model", "toy"), samples, 10, None)
    assert (row.scores, row.swapped_images) == ({"delta1": 1.0}, {"delta1": 0.0})


def test_an_untrained_model_goes_all_the_way_to_json(shards, model_dir, tmp_path):
    samples = list(read_samples(shards))[:3]
    advanced = []
    answer = Generator.load(str(model_dir), batch_size=4, max_new_tokens=4, advance=advanced.append)
    rows = evaluate(answer, ("model", "toy"), samples, 2, fit(samples))
    assert sum(advanced) == 2 * rows[0].questions == 12
    write_json(str(tmp_path / "deep" / "eval.json"), {"model": "nano"}, rows)
    written = json.loads((tmp_path / "deep" / "eval.json").read_text())
    assert written["rows"][0]["model"] == rows[0].model


def test_no_questions_is_a_users_mistake(make_sample):
    with pytest.raises(UserError, match="no questions"):
        evaluate(_oracle, "empty", [make_sample("a", [])], 10, None)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> str:
    """Return a dataset that holds single images beside pairs, with all tasks on them."""
    out = str(tmp_path_factory.mktemp("pairs") / "test")
    config = BuildConfig(
        source="synthetic",
        options={"width_px": 96, "height_px": 96, "scenes": 4, "views": 2},
        tasks={"depth": {}, "correspondence": {}, "pose": {}},
        focal_px=80.0,
        seed=0,
    )
    build(config, out, workers=1)
    return out


def test_tasks_on_two_images_are_scored_beside_those_on_one(pairs):
    samples = list(read_samples(pairs))
    rows = {row.task: row for row in evaluate(_oracle, ("model", "toy"), samples, 4, fit(samples))}
    assert list(rows) == ["depth", "correspondence", "pose"]
    with_pairs = sum(len(sample.images) == 2 for sample in samples)
    assert rows["correspondence"].questions == 4 * with_pairs > 0
    assert rows["correspondence"].scores["within_1px"] == 1.0
    assert rows["pose"].scores["auc@30"] == 1.0
    assert rows["pose"].questions > 3 * with_pairs
    assert rows["pose"].swapped_images == rows["pose"].scores
    assert (rows["pose"].median, rows["depth"].median is None) == (None, False)
    assert set(rows["pose"].controls) == {"constant"}
    assert set(rows["correspondence"].controls) == {"constant", "same_place"}
    silent = evaluate(lambda asked: ["I cannot tell."] * len(asked), ("mute", "toy"), samples, 4, None)
    print_rows([*silent, *rows.values()], have_train_shards=False)


def test_a_pair_is_swapped_for_a_pair(pairs):
    samples = list(read_samples(pairs))
    assert {len(sample.images) for sample in samples} == {1, 2}
    for before, after in zip(samples, with_swapped_images(samples), strict=True):
        assert len(after.images) == len(before.images)
        assert not set(after.images) & set(before.images)


def test_an_untrained_model_answers_about_pairs(pairs, model_dir):
    samples = [sample for sample in read_samples(pairs) if len(sample.images) == 2][:2]
    answer = Generator.load(str(model_dir), batch_size=3, max_new_tokens=4, advance=lambda count: None)
    rows = evaluate(answer, ("model", "toy"), samples, 2, None)
    assert [row.task for row in rows] == ["correspondence", "pose"]
    assert all(len(row.examples) == 4 for row in rows)


def test_intervals_of_areas_are_those_of_resampled_pairs(pairs):
    """Against the task's own summary of pairs drawn again, each copy under a name of its own."""
    samples = [sample for sample in read_samples(pairs) if len(sample.images) == 2]
    rng = np.random.default_rng(0)

    def guessing(asked):
        """Answer half of the questions rightly, the others with a right answer less a digit, or not at all."""
        return [q.answer if rng.random() < 0.5 else rng.choice([q.answer.replace("1", "2"), "?"]) for _, q in asked]

    asked = ask_all(guessing, ("m", "d"), samples, 4)
    own = [one for one in asked if one.task == "pose" and not one.control]
    # A pair that was asked one of the two alone has no place under the curves.
    own = [one for one in own if (one.key, one.truth["kind"]) != (own[0].key, "direction")]
    (row,) = rows_of(own)
    task, keys = task_named("pose"), list(dict.fromkeys(one.key for one in own))
    said = list(zip(own, parsed(task, own), strict=True))
    bootstrap = Bootstrap([keys.index(one.key) for one in own])
    resampled = []
    for counts in bootstrap._counts[:40]:
        answered = [
            Answered(f"{one.key} {copy}", one.truth, prediction)
            for one, prediction in said
            for copy in range(counts[keys.index(one.key)])
        ]
        resampled.append(task.summary(answered))
    bootstrap._counts = bootstrap._counts[:40]
    judge = _Judge(task, own, bootstrap)
    scores, intervals = judge.judged([prediction for _, prediction in said])
    assert scores == row.scores
    assert intervals["auc@30"][0] < scores["auc@30"] < intervals["auc@30"][1]
    assert {"auc@30", "auc_trapezoid@10", "auc_signed@30", "rotation_deg"} <= set(intervals)
    for metric, found in intervals.items():
        expected = interval(np.array([one.get(metric, np.nan) for one in resampled]))
        assert found == pytest.approx(expected, nan_ok=True), metric


def test_medians_and_what_counts_only_parsed_answers(make_sample):
    samples = [make_sample("a", ["2 m", "2 m"]), make_sample("b", ["2 m", "2 m", "2 m"])]
    told = {"a": ["2.1 m", "?"], "b": ["3 m", "1 m", "2.2 m"]}

    def answer(asked):
        return [told[sample.key][round(question.truth["grid_xy"][0] / 100)] for sample, question in asked]

    (row,) = evaluate(answer, ("m", "d"), samples, 10, None)
    assert (row.questions, row.images, row.unparsed) == (5, 2, 1)
    assert row.scores["delta1"] == pytest.approx(2 / 5)
    assert row.more["delta1_of_parsed"] == pytest.approx(2 / 4)
    assert row.more["abs_rel"] == pytest.approx((0.05 + 0.5 + 0.5 + 0.1) / 4)
    assert row.more["median_abs_rel"] == pytest.approx((0.1 + 0.5) / 2)
    # of two images the one or the other may be drawn alone
    assert row.intervals["model"]["delta1"] == pytest.approx((1 / 3, 1 / 2))
    assert row.intervals["model"]["delta1_of_parsed"] == pytest.approx((1 / 3, 1))


def test_errors_are_drawn_where_in_the_image_they_are():
    axes = MagicMock()
    _by_position(MagicMock(), axes, np.array([[0.9, 0.1]] * 6), np.ones(6, bool))
    shown = axes.imshow.call_args[0][0]
    assert np.argwhere(~shown.mask).tolist() == [[1, 14]]
    assert shown[1, 14] == 1.0


@pytest.mark.parametrize("told", ["0.00 meters", "0", "-2.00 meters", "-0.0 m", "\u22122.00 meters", "-1e9 km"])
def test_a_depth_of_nothing_or_less_is_an_answer_and_wrong(make_sample, told):
    samples = [make_sample("a", ["2 m"]), make_sample("b", ["2 m"])]
    (row,) = evaluate(
        lambda asked: [told if sample.key == "a" else "2 m" for sample, _ in asked], ("m", "d"), samples, 10, None
    )
    assert (row.unparsed, row.scores["delta1"], row.more["delta1_of_parsed"]) == (0, 0.5, 0.5)
    assert np.isfinite([row.more["abs_rel"], row.more["median_abs_rel"]]).all()


def test_of_constants_that_are_as_often_right_the_nearest_is_taken():
    questions = [
        {"task": "pose", "question": "?", "answer": f"Translation distance: {metres:.2f} meters",
         "truth": {"kind": "distance", "distance_m": metres}}
        for metres in (1.0, 1.2, 1.1)
    ]  # fmt: skip
    constant = fit([Sample.of({"key": "a", "questions": questions}, ())]).of(task_named("pose"))["constant"]
    assert constant({"kind": "distance"}) == 1.1


def test_the_constant_is_the_best_single_answer_of_each_kind(pairs):
    samples = list(read_samples(pairs))
    constant = fit(samples).of(task_named("pose"))["constant"]
    questions = [q for sample in samples for q in sample.questions if q.task == "pose" and q.truth["kind"] == "euler"]
    task = task_named("pose")

    def error(prediction):
        return np.mean([task.score(prediction, q.truth)["rra@15"] for q in questions])

    best = constant(questions[0].truth)
    assert best == constant(questions[1].truth)
    others = [task.parse(q.answer, q.truth) for q in questions[:10]]
    assert error(best) >= max(map(error, others)) - 0.05
    assert constant({"kind": "never asked"}) is None
    assert guesses_without_training("correspondence")["same_place"]({"grid_xy": [3, 4]}) == (3, 4)


def test_a_raw_dataset_is_scored_as_its_shards_are(model_dir, tmp_path, capsys):
    flags = ["--tasks", "depth,pose,correspondence,objects", "--focal", "80", "--seed", "3", "--limit", "8"]
    made = ["--width-px", "96", "--height-px", "96", "--scenes", "3", "--views", "2", "--pixels", "12"]
    out = str(tmp_path / "built")
    assert run_app(build_app, ["build", "synthetic", "--out", out, "--workers", "1", *flags, *made]) == 0
    asked = ["eval", "--model", str(model_dir), "--max-new-tokens", "3", "--questions-per-image", "2"]
    rows = {}
    for name, data in (("built", ["--shards", out]), ("raw", ["--source", "synthetic", *flags, *made])):
        assert run_app(app, [*asked, *data, "--json", str(tmp_path / f"{name}.json")]) == 0
        written = json.loads((tmp_path / f"{name}.json").read_text())["rows"]
        rows[name] = [{key: value for key, value in row.items() if key != "dataset"} for row in written]
    assert rows["raw"] == rows["built"]
    assert {row["task"] for row in rows["raw"]} == {"depth", "pose", "correspondence", "objects"}
    capsys.readouterr()
    assert run_app(app, [*asked, "--source", "synthetic", "--no-such-flag", "1"]) == 2
    assert "unknown flag --no-such-flag" in capsys.readouterr().err
    assert run_app(app, [*asked, "--shards", out, "--no-such-flag", "1"]) == 2
    assert "unknown flag --no-such-flag" in capsys.readouterr().err


def test_the_papers_tables_stand_beside_and_the_plots_are_drawn(pairs, tmp_path, capsys, monkeypatch):
    samples = list(read_samples(pairs))
    predictions = ask_all(_oracle, ("model", "toy"), samples, 4)
    rows = rows_of(predictions)
    told = {one["title"]: one for one in beside(rows)}
    assert len(told) == 3
    depth = told["metric depth, δ1"]
    assert depth["ours"][0]["values"] == [None] * 8 + [1.0]
    # the averages that the paper prints check its numbers as they stand here
    assert round(np.mean(depth["paper"]["VLM3-4B"]), 3) == 0.904
    assert round(np.mean(depth["paper"]["DepthLM-7B"]), 3) == 0.838
    assert next(one for one in told.values() if "AUC" in one["title"])["ours"][0]["values"] == [None, None, 100.0]
    nuscenes = beside([replace(row, source="nuscenes") for row in rows])[0]["ours"][0]["values"]
    assert nuscenes == [None, None, 1.0, None, None, None, None, None, None]
    monkeypatch.setenv("COLUMNS", "80")
    print_beside(rows)
    printed = capsys.readouterr()
    assert "unparsed" not in printed.err
    assert "…" not in printed.out  # no name and no number is cut short
    (path,) = plot_depth(predictions, tmp_path / "plots")
    assert path.read_bytes()[:4] == b"\x89PNG"
    nothing = [replace(one, answer="?") for one in predictions]
    assert len(plot_depth(nothing, tmp_path / "plots")) == 1
