"""Answers are written down once: a killed evaluation goes on, another model's are refused, all are scored again."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import pytest

import vlm3train.generate
from vlm3data.command import run_app
from vlm3data.shards import read_samples
from vlm3data.types import UserError
from vlm3train import asking
from vlm3train.asking import ask_all, first_of_each_task
from vlm3train.cli import app
from vlm3train.identity import BLOCK, BLOCKS, model_digest
from vlm3train.predictions import SWAPPED, PredictionFile, read_predictions
from vlm3train.scoring import rows_of

IDENTITY = {"models": {"m": "1"}, "datasets": {"d": "2"}, "max_new_tokens": 8}


def oracle(asked):
    return [question.answer for _, question in asked]


@pytest.fixture
def samples(shards):
    return list(read_samples(shards))


@pytest.fixture
def kept(samples, tmp_path, monkeypatch):
    """Return a finished file of predictions, in several batches, and what is in it."""
    monkeypatch.setattr(asking, "AT_ONCE", 20)
    path = tmp_path / "deep" / "kept.arrow"
    with PredictionFile(path, IDENTITY) as file:
        return path, ask_all(oracle, ("m", "d"), samples, 5, file)


def test_what_is_written_is_read_back(kept, samples):
    path, predictions = kept
    identity, back = read_predictions(path)
    assert identity == IDENTITY
    assert back == predictions
    assert len(back) == 2 * 5 * len(samples)
    assert {one.control for one in back} == {"", SWAPPED}
    stored = {sample.key: sample.questions for sample in samples}
    assert all(stored[one.key][one.index].question == one.question for one in back)
    assert all(stored[one.key][one.index].truth == one.truth for one in back)


@pytest.mark.parametrize("share", [0.02, 0.4, 0.55, 0.8, 0.999])
def test_after_a_kill_only_what_is_missing_is_asked(kept, samples, share):
    path, predictions = kept
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)] if share > 0.1 else whole[:1200])
    asked = []

    def counting(some):
        asked.extend(some)
        return oracle(some)

    with PredictionFile(path, IDENTITY) as file:
        there = len(file)
        assert ask_all(counting, ("m", "d"), samples, 5, file) == predictions
    assert len(asked) == len(predictions) - there
    assert (there > 0) == (share > 0.1)
    assert sorted(read_predictions(path)[1], key=str) == sorted(predictions, key=str)


def test_what_was_there_is_there_as_soon_as_the_file_is_open_again(kept):
    path, predictions = kept
    with PredictionFile(path, IDENTITY):
        assert read_predictions(path)[1] == predictions, "a kill now loses nothing"


@pytest.mark.parametrize("share", [0.4, 0.55, 0.8])
def test_what_a_kill_has_left_can_be_scored(kept, share):
    """Of a part of the answers those to swapped images need not be to the same questions as the others."""
    path, predictions = kept
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    left = read_predictions(path)[1]
    (row,) = rows_of(left)
    assert row.questions == sum(not one.control for one in left) < len(predictions) // 2
    own = {(one.key, one.index) for one in left if not one.control}
    swapped = {(one.key, one.index) for one in left if one.control}
    assert (row.swapped_images is not None) == (own == swapped)


def test_more_questions_an_image_are_added(kept, samples):
    path, predictions = kept
    with PredictionFile(path, IDENTITY) as file:
        more = ask_all(oracle, ("m", "d"), samples, 7, file)
        assert len(file) == len(more) == len(predictions) * 7 // 5


def test_what_the_control_showed_other_images_for_is_asked_again(kept, samples, monkeypatch):
    path, predictions = kept
    monkeypatch.setattr(asking, "with_swapped_images", lambda some: [
        replace(sample, images=some[place - 1].images) for place, sample in enumerate(some)
    ])  # fmt: skip
    shown_before = {one.key: one.images_of for one in predictions if one.control}
    others = sum(shown_before[sample.key] != samples[place - 1].key for place, sample in enumerate(samples))
    asked = []

    def from_another_model(some):
        asked.extend(some)
        return ["7 meters"] * len(some)

    with PredictionFile(path, IDENTITY) as file:
        now = ask_all(from_another_model, ("m", "d"), samples, 5, file)
    assert others > 0
    assert len(asked) == 5 * others
    assert {(one.key, one.images_of) for one in now if one.control} == {
        (sample.key, samples[place - 1].key) for place, sample in enumerate(samples)
    }
    assert [one for one in now if not one.control] == [one for one in predictions if not one.control]
    assert [row.swapped_images for row in rows_of(read_predictions(path)[1])] == [rows_of(now)[0].swapped_images]


@pytest.mark.parametrize("each", [1, 3, 50])
def test_what_is_asked_at_a_time_is_many_and_whole_images(monkeypatch, each):
    monkeypatch.setattr(asking, "AT_ONCE", 10)
    asks = [SimpleNamespace(sample=sample, number=n)
            for sample in [SimpleNamespace(images=(image,)) for image in range(25)] for n in range(each)]  # fmt: skip
    parts = list(asking._parts(asks))
    assert [ask for part in parts for ask in part] == asks
    assert all(10 <= len(part) < 10 + each for part in parts[:-1])
    for part, following in pairwise(parts):
        assert part[-1].sample is not following[0].sample


def test_a_question_has_its_number_among_all_that_the_sample_stores():
    tasks = ["depth", "depth", "pose", "depth", "pose"]
    sample = SimpleNamespace(questions=[SimpleNamespace(task=task) for task in tasks])
    for count, numbers in ((1, [0, 2]), (2, [0, 1, 2, 4]), (9, [0, 1, 2, 3, 4])):
        assert [number for number, _ in first_of_each_task(sample, count)] == numbers


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"models": {"m": "9"}}, "other models: m changed since"),
        ({"models": {"n": "1"}}, "other models: it is of m"),
        ({"datasets": {"d": "9"}}, "other datasets: d changed since"),
        ({"max_new_tokens": 9}, "max_new_tokens was 8"),
        ({"engine": "vllm"}, "other engine: it does not say which"),
    ],
)
def test_answers_of_another_model_or_other_data_are_refused(kept, changes, said):
    before = kept[0].read_bytes()
    with pytest.raises(UserError, match=said):
        PredictionFile(kept[0], IDENTITY | changes)
    assert kept[0].read_bytes() == before


def test_another_file_is_no_predictions(tmp_path):
    path = tmp_path / "eval.json"
    path.write_text("{}" * 100)
    for take in (read_predictions, lambda file: PredictionFile(file, IDENTITY)):
        with pytest.raises(UserError, match="no file of predictions"):
            take(path)
    with pytest.raises(UserError, match="no such file"):
        read_predictions(tmp_path / "none.arrow")
    assert path.read_text() == "{}" * 100


def test_a_models_digest_changes_with_its_weights_and_with_nothing_else(model_dir, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(model_dir, copy)
    before = model_digest(str(model_dir))
    (copy / "run.json").write_text("{}")
    assert model_digest(str(copy)) == before
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1000] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert model_digest(str(copy)) != before


def test_of_large_weights_the_digest_takes_blocks_from_first_to_last(tmp_path):
    large = tmp_path / "model.safetensors"
    large.write_bytes(bytes(BLOCK * BLOCKS + 1))
    digests = {model_digest(str(tmp_path))}
    for place in (0, BLOCK * BLOCKS // 63, BLOCK * BLOCKS):  # within the first, the second and the last block
        changed = bytearray(BLOCK * BLOCKS + 1)
        changed[place] = 1
        large.write_bytes(changed)
        digests.add(model_digest(str(tmp_path)))
    assert len(digests) == 4


def test_the_command_goes_on_and_scores_again_without_a_model(model_dir, shards, tmp_path, monkeypatch, capsys):
    arguments = ["--train-shards", shards, "--json", str(tmp_path / "eval.json")]
    asked = ["eval", "--model", str(model_dir), "--shards", shards, "--limit", "4", "--questions-per-image", "2",
             "--max-new-tokens", "4", *arguments]  # fmt: skip
    assert run_app(app, asked) == 0
    first = json.loads((tmp_path / "eval.json").read_text())
    (row,) = first["rows"]
    assert (row["questions"], row["images"]) == (8, 4)
    assert set(row["intervals"]) == {"model", "swapped_images", "median", "location"}
    for who in ("median", "location"):
        low, high = row["intervals"][who]["delta1"]
        assert low <= row[who]["delta1"] <= high

    def none(*_, **__):
        raise AssertionError("no model is needed any more")

    monkeypatch.setattr(vlm3train.generate.Generator, "load", none)
    assert run_app(app, asked) == 0
    assert json.loads((tmp_path / "eval.json").read_text()) == first
    capsys.readouterr()
    assert run_app(app, [*asked, "--engine", "vllm"]) == 1
    assert "holds answers of other engine: engine was transformers" in capsys.readouterr().err
    assert run_app(app, [*asked, "--weights", "bfloat16"]) == 1
    assert "holds answers of other weights" in capsys.readouterr().err
    assert run_app(app, ["eval", "--rescore", str(tmp_path / "eval.predictions.arrow"), *arguments]) == 0
    assert json.loads((tmp_path / "eval.json").read_text())["rows"] == first["rows"]
    capsys.readouterr()
    assert run_app(app, ["eval", "--rescore", "x", "--model", "m"]) == 2
    assert "--rescore needs no model" in capsys.readouterr().err
