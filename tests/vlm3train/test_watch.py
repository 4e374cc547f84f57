"""What is no number stops a run on every process, and nothing of it is saved."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from trl import SFTTrainer

import vlm3train.models
from vlm3data.types import UserError
from vlm3train.sft import SftConfig, train
from vlm3train.trainer import StreamTrainer
from vlm3train.watch import LossWatch


@pytest.fixture
def config(model_dir, mixture, tmp_path) -> SftConfig:
    settings = {"steps": 4, "batch_size": 2, "lr": 1e-3, "workers": 0, "log_every": 100, "save_every": 1, "bf16": False}
    return SftConfig.check(
        {"model": str(model_dir), "mixture": mixture, "out": str(tmp_path / "run")} | settings, "test"
    )


def test_a_norm_is_that_of_all_batches_of_its_step():
    watch = LossWatch()
    watch.note(1, ["a"], torch.tensor(1.0))
    watch.note_norm(1, torch.tensor(2.0))
    watch.note(2, ["b"], torch.tensor(1.0))
    watch.note(2, ["c"], torch.tensor(1.0))
    watch.note_norm(2, torch.tensor(math.inf))
    with pytest.raises(UserError, match=r"the gradients' norm became inf at step 2, in a batch of the samples b, c;"):
        watch.check()


def test_a_norm_that_is_spread_over_processes_is_gathered_when_noted(tmp_path):
    """What is copied to the CPU behind the loop's back must be a plain tensor; a GPU cannot copy a DTensor to one."""
    from torch import distributed
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Partial

    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        norm = DTensor.from_local(torch.tensor(math.inf), init_device_mesh("cpu", (1,)), [Partial("sum")])
        watch = LossWatch()
        watch.note_norm(1, norm)
        assert [type(seen.value) for seen in watch._seen] == [torch.Tensor]
        with pytest.raises(UserError, match="the gradients' norm became inf at step 1"):
            watch.check()
    finally:
        distributed.destroy_process_group()


def test_the_loss_that_came_first_is_named():
    watch = LossWatch()
    watch.note(3, ["a"], torch.tensor(math.nan))
    watch.note_norm(3, torch.tensor(math.nan))
    with pytest.raises(UserError, match="the loss became nan at step 3, in a batch of the samples a;"):
        watch.check()


def test_an_infinite_gradient_with_a_loss_that_is_a_number_is_never_saved(config, monkeypatch):
    load, calls = vlm3train.models.load_model, []

    def infinite_in_step_two(gradient: torch.Tensor) -> torch.Tensor:
        calls.append(gradient)
        return gradient * math.inf if len(calls) == 2 else gradient

    def hooked(*arguments):
        model = load(*arguments)
        model.model.language_model.norm.weight.register_hook(infinite_in_step_two)
        return model

    monkeypatch.setattr(vlm3train.models, "load_model", hooked)
    with pytest.raises(UserError, match=r"the gradients' norm became (inf|nan) at step 2"):
        train(config)
    assert [path.name for path in Path(config.out).glob("checkpoint-*")] == ["checkpoint-1"]


def failing(error: Exception):
    def fail(*_, **__):
        raise error

    return fail


@pytest.mark.parametrize(("kind", "method"), [(StreamTrainer, "_get_grad_norm"), (SFTTrainer, "__init__")])
def test_a_model_that_does_not_fit_into_memory_says_what_to_do(config, monkeypatch, kind, method):
    monkeypatch.setattr(kind, method, failing(torch.OutOfMemoryError("CUDA out of memory")))
    with pytest.raises(UserError, match=r"optimizer's state do not fit .* --shard full"):
        train(config)


def test_a_worker_that_dies_within_a_step_is_said_in_one_line(config, monkeypatch):
    died = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")
    monkeypatch.setattr(SFTTrainer, "training_step", failing(died))
    with pytest.raises(UserError, match=r"reads samples has died \(DataLoader worker \(pid 7\)"):
        train(config)
