"""Runs that train a part of a model: what is frozen stays, adapters end up in a model that anybody loads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from vlm3data.types import UserError
from vlm3train.parts import part_of
from vlm3train.sft import SftConfig, train


def config(model_dir: Path, mixture: str, out: Path, **changes: object) -> SftConfig:
    settings = {"steps": 4, "batch_size": 4, "lr": 1e-2, "max_grad_norm": 1.0, "workers": 0, "log_every": 1}
    values = {"model": str(model_dir), "mixture": mixture, "out": str(out), "bf16": False} | settings | changes
    return SftConfig.check(values, "test")


@pytest.mark.parametrize("frozen", ["vision", "language"])
def test_what_is_frozen_stays_and_the_rest_learns(model_dir, mixture, tmp_path, frozen):
    train(config(model_dir, mixture, tmp_path / "run", freeze=[frozen]))
    before, after = load_file(model_dir / "model.safetensors"), load_file(tmp_path / "run" / "model.safetensors")
    changed = {part_of(name) for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed == {"vision", "projector", "language"} - {frozen}


def test_adapters_learn_go_on_and_end_up_in_the_weights(model_dir, mixture, tmp_path):
    settings = {"lora": {"rank": 4}, "save_every": 2, "schedule": "constant_with_warmup", "warmup_ratio": 0.0}
    train(config(model_dir, mixture, tmp_path / "whole", **settings))
    train(config(model_dir, mixture, tmp_path / "parts", **settings, steps=2))
    for path in (tmp_path / "parts").glob("model*.safetensors"):
        path.unlink()
    assert not list((tmp_path / "parts" / "checkpoint-2").glob("model*.safetensors")), "checkpoints hold adapters only"
    train(config(model_dir, mixture, tmp_path / "parts", **settings, resume=True))
    whole, parts = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    before = load_file(model_dir / "model.safetensors")
    assert whole.keys() == before.keys(), "a plain model, without a trace of adapters"
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, atol=1e-5, rtol=0)
    changed = {part_of(name) for name, value in before.items() if not torch.equal(value, whole[name])}
    assert changed == {"language"}
    AutoModelForImageTextToText.from_pretrained(tmp_path / "whole")
    losses = [json.loads(line)["loss"] for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0]


def test_adapters_are_not_sharded(model_dir, mixture, tmp_path):
    with pytest.raises(UserError, match="leave it out"):
        train(config(model_dir, mixture, tmp_path / "run", lora={}, shard="full"))


def test_a_frozen_model_does_not_train(model_dir, mixture, tmp_path):
    with pytest.raises(UserError, match="nothing to train"):
        train(config(model_dir, mixture, tmp_path / "run", freeze=["vision", "projector", "language"]))
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
