"""The settings that come along are the paper's, and say what they cost."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from accelerate.utils import FullyShardedDataParallelPlugin

from vlm3data.types import UserError
from vlm3train.arguments import arguments
from vlm3train.configs import read_config
from vlm3train.sft import SftConfig
from vlm3train.trainer import _name_layers_there

TABLE_4 = {
    "depth": (5.5e-5, 1344, 32_000_000, 32),
    "object": (3.5e-4, 640, 1_000_000, 32),
    "correspondence": (2e-5, 2816, 80_000_000, 64),
    "pose": (5e-5, 448, 10_000_000, 32),
}
"""Learning rate, global batch, samples and GPUs (arXiv 2605.30561)."""


def config(name: str) -> SftConfig:
    return SftConfig.check({"mixture": "mixtures/demo.yaml"} | read_config(name), name)


@pytest.mark.parametrize("task", TABLE_4)
def test_the_papers_runs_are_the_papers(task):
    lr, batch, samples, gpus = TABLE_4[task]
    ours = config(f"{task}_paper")
    assert ours.lr == lr
    assert ours.batch_size * ours.grad_accum * gpus == batch
    assert 0 <= ours.steps * batch - samples < batch
    assert (ours.schedule, ours.warmup_ratio, ours.max_grad_norm) == ("cosine", 0.1, 0.02)


@pytest.mark.parametrize("task", TABLE_4)
def test_what_fits_one_gpu_takes_batches_of_128(task):
    ours = config(f"{task}_one_gpu")
    assert ours.batch_size * ours.grad_accum == 128
    lr, batch, *_ = TABLE_4[task]
    assert ours.lr == pytest.approx(lr * (128 / batch) ** 0.5, rel=0.03)


@pytest.mark.parametrize("name", [f"{task}_{kind}" for task in TABLE_4 for kind in ("paper", "one_gpu")])
def test_the_mixtures_that_are_named_are_there(name):
    mixture = read_config(name).get("mixture")
    assert mixture is None or Path(mixture).exists()


def test_a_name_that_is_not_known_lists_those_that_are():
    with pytest.raises(UserError, match=r"deep_paper: there is no such file; .* depth_one_gpu, depth_paper"):
        read_config("deep_paper")


def told_to_trl(tmp_path, **settings):
    values = {"model": "m", "mixture": "m.yaml", "out": str(tmp_path), "steps": 101}
    return arguments(SftConfig.check(values | settings, "test"))


def test_the_optimizer_is_told_what_the_config_says(tmp_path):
    args = told_to_trl(
        tmp_path,
        warmup_ratio=0.1,
        max_grad_norm=0.5,
        weight_decay=0.25,
        beta2=0.97,
        lr=0.125,
        batch_size=3,
        grad_accum=2,
    )
    assert (args.warmup_steps, args.lr_scheduler_type) == (11, "cosine")
    assert (args.max_grad_norm, args.weight_decay, args.learning_rate) == (0.5, 0.25, 0.125)
    assert (args.adam_beta1, args.adam_beta2) == (0.9, 0.97)
    assert (args.per_device_train_batch_size, args.gradient_accumulation_steps, args.max_steps) == (3, 2, 101)


@pytest.mark.parametrize(("bf16", "computed"), [(True, torch.bfloat16), (False, None)])
def test_gradients_of_shards_are_added_in_float32_and_losses_not_rounded(tmp_path, bf16, computed):
    plugin = FullyShardedDataParallelPlugin(**told_to_trl(tmp_path, shard="full", bf16=bf16).fsdp_plugin_args)
    if bf16:
        plugin.set_mixed_precision("bf16")  # as accelerate does
    policy = plugin.mixed_precision_policy
    assert (policy.param_dtype, policy.reduce_dtype, policy.output_dtype) == (computed, torch.float32, None)
    assert not policy.cast_forward_inputs, "image positions would be rounded"


def test_a_model_is_spread_by_the_layers_it_has():
    model = torch.nn.Sequential(torch.nn.Linear(1, 1))
    model._no_split_modules = {"Linear", "CLIPTextEmbeddings"}
    _name_layers_there(model)
    assert model._no_split_modules == ["Linear"]


@pytest.mark.parametrize(("shard", "every"), [("full", True), ("grads", False)])
def test_gradients_of_several_batches_stay_spread_where_all_is(tmp_path, shard, every):
    settings = told_to_trl(tmp_path, shard=shard, grad_accum=2).accelerator_config
    assert settings.gradient_accumulation_kwargs["sync_each_batch"] is every
