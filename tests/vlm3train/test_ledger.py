"""What the log says of each dataset is what was trained on, on any number of processes."""

from __future__ import annotations

import json
import time
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from vlm3data.mixture import Mixture
from vlm3data.skips import Skip
from vlm3data.stream import open_stream
from vlm3train.collate import Meta, TrainCollator
from vlm3train.data import Layout
from vlm3train.flops import Arithmetic, peak_flops
from vlm3train.ledger import Account, Ledger
from vlm3train.log import Log
from vlm3train.loss import AnswerTokens
from vlm3train.meter import Meter
from vlm3train.models import load_model
from vlm3train.sft import SftConfig, train


@pytest.fixture(scope="module")
def two_datasets(shards, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("two") / "mix.yaml"
    path.write_text(
        "seed: 5\ndatasets:\n"
        f"  narrow: {{shards: {shards}, weight: 1.0, pixels: 3, where: width_px < 100}}\n"
        f"  wide: {{shards: {shards}, weight: 2.0, pixels: 2, where: width_px >= 100}}\n"
    )
    return str(path)


@pytest.fixture(scope="module")
def log(two_datasets, model_dir, tmp_path_factory) -> list[dict]:
    out = tmp_path_factory.mktemp("run") / "out"
    settings = {"steps": 4, "batch_size": 2, "grad_accum": 2, "lr": 1e-9, "workers": 0, "log_every": 2, "bf16": False}
    train(SftConfig.check({"model": str(model_dir), "mixture": two_datasets, "out": str(out)} | settings, "test"))
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_samples_and_tokens_are_those_of_the_stream(log, two_datasets, processor):
    stream = open_stream(Mixture.load(two_datasets))
    collate = TrainCollator(processor)
    for line in log:
        want = {name: {"samples": 0, "tokens": 0, "answer_tokens": 0} for name in ("narrow", "wide")}
        for _ in range(8):
            meta = collate([next(stream)[1]])["meta"]
            row = want[meta.datasets[0]]
            row["samples"] += 1
            row["tokens"] += meta.tokens[0]
            row["answer_tokens"] += meta.loss_tokens[0]
        assert {name: {key: row[key] for key in want[name]} for name, row in line["datasets"].items()} == want
    assert log[-1]["tokens"] == sum(row["tokens"] for line in log for row in line["datasets"].values())


def test_drawn_and_planned_are_the_schedules(log):
    for line in log:
        rows = line["datasets"]
        assert sum(row["drawn"] for row in rows.values()) == line["samples"]
        assert rows["wide"]["planned"] == pytest.approx(line["samples"] * 2 / 3, abs=0.1)
    for name in ("narrow", "wide"):
        assert log[-1]["datasets"][name]["drawn"] == sum(line["datasets"][name]["samples"] for line in log)


def test_the_losses_of_the_datasets_make_the_loss(log, two_datasets, model_dir, processor):
    # at this learning rate the weights stay what they were
    model = load_model(str(model_dir)).eval()
    stream = open_stream(Mixture.load(two_datasets))
    for line in log:
        sums = {"narrow": [0.0, 0], "wide": [0.0, 0]}
        for _ in range(8):
            batch = TrainCollator(processor)([next(stream)[1]])
            inputs = processor.on_device({name: value for name, value in batch.items() if name != "labels"})
            with torch.no_grad():
                logits = model(**inputs).logits[0, :-1]
            labels = batch["labels"][0, 1:]
            total = torch.nn.functional.cross_entropy(logits, labels, ignore_index=-100, reduction="sum")
            row = sums[batch["meta"].datasets[0]]
            row[0] += total.item()
            row[1] += int((labels != -100).sum())
        for name, (total, count) in sums.items():
            if not count:
                assert line["datasets"][name]["loss"] is None
                continue
            assert line["datasets"][name]["loss"] == pytest.approx(total / count, abs=1e-4)
        # the line's loss is the mean over steps of the mean over tokens
        assert line["loss"] == pytest.approx(
            sum(total for total, _ in sums.values()) / sum(count for _, count in sums.values()), rel=0.05
        )


def test_arithmetic_is_that_of_the_measured_bare_loop():
    # Qwen3-VL-4B, one 1216x928 image and 1532 tokens: 9.4 samples/s were measured as 0.53 of an H200's peak
    config = Qwen3VL4B()
    a_sample = Arithmetic(config).training_step([1532], [(58, 76)])
    assert 9.4 * a_sample / (peak_flops("NVIDIA H200") or 0) == pytest.approx(0.53, abs=0.01)


def test_a_gpus_peak_is_that_of_its_form():
    assert (
        peak_flops("NVIDIA H200") == peak_flops("NVIDIA H100 80GB HBM3") == peak_flops("NVIDIA GH200 480GB") == 989.4e12
    )
    assert peak_flops("NVIDIA H100 PCIe") == 756.5e12
    assert peak_flops("NVIDIA H100 NVL") == peak_flops("NVIDIA H200 NVL") == 835.5e12
    assert peak_flops("NVIDIA H20") == 148e12
    assert peak_flops("NVIDIA GeForce RTX 4090") is None


def test_the_weights_part_of_the_arithmetic_counts_the_models_own_weights(model_dir):
    model = load_model(str(model_dir))
    arithmetic = Arithmetic(model.config)
    text = sum(p.numel() for p in model.model.language_model.layers.parameters() if p.ndim == 2)
    head = model.lm_head.weight.numel()
    linear = (arithmetic.training_step([2], []) - 2 * 2 * 12 * attention_width(model.config)) / 2 / 6
    assert linear == text + head
    visual, config = model.model.visual, model.config.vision_config
    blocks, mergers = (
        sum(p.numel() for module in modules for p in module.parameters() if p.ndim == 2)
        for modules in (visual.blocks, [visual.merger, *visual.deepstack_merger_list])
    )
    small, large = (arithmetic.training_step([], [grid]) for grid in ((4, 4), (4, 8)))
    assert (4 * small - large) / 32 / 6 == blocks + mergers / config.spatial_merge_size**2  # the linear part
    assert (large - 2 * small) / (32**2 - 2 * 16**2) == 12 * config.depth * config.hidden_size
    assert arithmetic.training_step([2, 3], [(4, 4), (4, 8)]) == sum(
        (arithmetic.training_step([2], []), arithmetic.training_step([3], []), small, large)
    )


def attention_width(config) -> int:
    text = config.text_config
    return text.num_hidden_layers * text.num_attention_heads * text.head_dim


class Qwen3VL4B:
    """The released model's sizes."""

    class text_config:
        hidden_size, num_hidden_layers, num_attention_heads, num_key_value_heads = 2560, 36, 32, 8
        head_dim, intermediate_size, vocab_size = 128, 9728, 151936

    class vision_config:
        depth, hidden_size, intermediate_size, spatial_merge_size, out_hidden_size = 24, 1024, 4096, 2, 2560
        deepstack_visual_indexes = (5, 11, 17)


@pytest.mark.parametrize(("log_every", "steps"), [(1, [1, 2, 3, 4]), (3, [2, 3, 4])])
def test_a_run_goes_on_counting_where_it_was_stopped(two_datasets, model_dir, tmp_path, monkeypatch, log_every, steps):
    left_out: list[float] = []
    monkeypatch.setattr(Meter, "leave_out", lambda self, seconds: left_out.append(seconds))
    began = time.monotonic()
    settings = {"batch_size": 2, "lr": 1e-3, "workers": 0, "log_every": log_every, "bf16": False, "save_every": 2}
    values = {"model": str(model_dir), "mixture": two_datasets} | settings
    train(SftConfig.check(values | {"out": str(tmp_path / "whole"), "steps": 4}, "test"))
    train(SftConfig.check(values | {"out": str(tmp_path / "parts"), "steps": 2}, "test"))
    train(SftConfig.check(values | {"out": str(tmp_path / "parts"), "steps": 4, "resume": True}, "test"))
    whole, parts = (
        [json.loads(line) for line in (Path(tmp_path) / name / "log.jsonl").read_text().splitlines()]
        for name in ("whole", "parts")
    )
    assert [line["step"] for line in whole] == steps, "a line at each checkpoint too"
    assert len(left_out) == 2 * len((2, 4)), "saving is not training"
    assert min(left_out) > 0
    assert sum(left_out) < time.monotonic() - began
    for a, b in zip(whole, parts, strict=True):
        assert (a["tokens"], a["samples"]) == (b["tokens"], b["samples"])
        assert a["datasets"].keys() == b["datasets"].keys()


def test_the_last_steps_are_logged_too(two_datasets, model_dir, tmp_path):
    settings = {"batch_size": 2, "lr": 1e-3, "workers": 0, "log_every": 2, "bf16": False, "steps": 3}
    train(SftConfig.check({"model": str(model_dir), "mixture": two_datasets, "out": str(tmp_path)} | settings, "test"))
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(line["step"], sum(row["samples"] for row in line["datasets"].values())) for line in lines] == [
        (2, 4),
        (3, 2),
    ]


def test_counts_and_losses_are_not_rounded(two_datasets):
    ledger = Ledger(Mixture.load(two_datasets))
    for loss in (2.0**24, 1.0):
        meta = Meta(keys=["a"], datasets=["wide"], tokens=[int(loss)], loss_tokens=[1])
        ledger.add(meta, AnswerTokens(torch.tensor([loss]), torch.tensor([True])))
    account = ledger.take()["wide"]
    assert (account.tokens, account.loss, account.right) == (2**24 + 1, (2**24 + 1) / 2, 1.0)


def test_a_damaged_sample_counts_for_the_dataset_whatever_task_it_was_drawn_for(two_datasets):
    ledger = Ledger(Mixture.load(two_datasets))
    ledger.skip([Skip(0, name, "key", "shard-000000.tar", 0, 0, "other") for name in ("wide#depth", "wide", "narrow")])
    assert {name: account.skipped for name, account in ledger.take().items()} == {"narrow": 1, "wide": 2}


def test_a_line_sums_up_its_datasets(two_datasets, tmp_path):
    log = Log(tmp_path / "log.jsonl", Mixture.load(two_datasets), Layout(0, 2, 4, 3))
    log.speed = {"seconds": 4.0, "data_wait": 0.25, "mfu": 0.51234}
    log.accounts = {"narrow": Account(10, 1000, 100, 2.0, 0.5, 1), "wide": Account(14, 3000, 300, 1.0, 0.9, 0)}
    told = {"loss": 1.0, "learning_rate": 0.1}
    line = log._line(5, told)
    assert (line["samples"], line["tokens"]) == (5 * 2 * 4 * 3, 4000)
    assert (line["samples_per_s"], line["tokens_per_s"], line["data_wait"], line["mfu"]) == (6.0, 1000.0, 0.25, 0.5123)
    assert line["token_accuracy"] == pytest.approx((0.5 * 100 + 0.9 * 300) / 400)
    assert sum(row["drawn"] for row in line["datasets"].values()) == 120
    assert (line["skipped"], log._line(6, told)["skipped"]) == ({"narrow": 1}, {"narrow": 2})
    log.accounts = {"narrow": Account(1, 10, 0, float("nan"), float("nan"), 0), "wide": log.accounts["wide"]}
    line = log._line(7, told)
    assert (line["tokens"], line["token_accuracy"], line["datasets"]["narrow"]["loss"]) == (11010, 0.9, None)
    assert line["datasets"]["narrow"]["token_accuracy"] is None
    log.accounts.pop("wide")
    assert log._line(8, told)["token_accuracy"] == 0.0


def test_parts_of_a_dataset_and_of_a_group_are_counted_under_the_name_that_samples_have(shards, tmp_path):
    path = tmp_path / "mix.yaml"
    path.write_text(
        f"seed: 5\ndatasets:\n  asked: {{shards: {shards}, weight: 1, tasks: {{depth: 1}}}}\n"
        f"  wild: {{weight: 3, datasets: {{c: {{shards: {shards}, weight: 1}}}}}}\n"
    )
    mixture = Mixture.load(path)
    assert [part.name for part in mixture.parts] == ["asked#depth", "wild/c"], "what the test is about"
    log, ledger = Log(tmp_path / "log.jsonl", mixture, Layout(0, 1, 8)), Ledger(mixture)
    with open_stream(mixture) as stream:
        for _, sample in islice(stream, 8):
            meta = Meta(keys=[sample.key], datasets=[sample.dataset], tokens=[3], loss_tokens=[1])
            ledger.add(meta, AnswerTokens(torch.tensor([1.0]), torch.tensor([True])))
    log.accounts, log.speed = ledger.take(), {"seconds": 1.0, "data_wait": 0.0}
    rows = log._line(1, {"loss": 1.0, "learning_rate": 0.1})["datasets"]
    assert [row["drawn"] for row in rows.values()] == [row["samples"] for row in rows.values()]
    assert [row["planned"] for row in rows.values()] == [2, 6]


def test_skips_are_counted_on_from_the_last_line_that_holds(two_datasets, tmp_path):
    lines = [{"step": 2, "tokens": 7, "skipped": {"wide": 3}}, {"step": 4, "tokens": 9, "skipped": {"wide": 5}}]
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    log = Log(path, Mixture.load(two_datasets), Layout(0, 1, 4))
    state = SimpleNamespace(global_step=2, max_steps=6, compute_steps=lambda args, steps: None)
    log.on_train_begin(None, state, None)
    log.bar.stop()
    log.speed = {"seconds": 1.0, "data_wait": 0.0}
    line = log._line(3, {"loss": 1.0, "learning_rate": 0.1})
    assert (line["skipped"], line["tokens"]) == ({"wide": 3}, 7)
    assert path.read_text() == json.dumps(lines[0]) + "\n"
