"""A resumed run follows the settings it was resumed with, from a checkpoint that is whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import distributed
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from vlm3data.types import UserError
from vlm3train.sft import SftConfig, train
from vlm3train.trainer import StreamTrainer


@pytest.fixture(scope="module")
def settings(model_dir, mixture) -> dict[str, object]:
    sizes = {"steps": 6, "batch_size": 2, "workers": 0, "bf16": False}
    return {"model": str(model_dir), "mixture": mixture, "lr": 1e-3, "log_every": 1, "save_every": 3} | sizes


@pytest.fixture(scope="module")
def whole(settings, tmp_path_factory) -> Path:
    """Return the directory of a run with checkpoints at steps 3 and 6."""
    out = tmp_path_factory.mktemp("whole") / "run"
    train(SftConfig.check(settings | {"out": str(out)}, "test"))
    return out


@pytest.fixture
def stopped(whole, tmp_path) -> Path:
    """Return the directory of that run as if it had been stopped after step 3."""
    shutil.copytree(whole, tmp_path / "run", ignore=shutil.ignore_patterns("*.safetensors", "checkpoint-6"))
    shutil.copytree(whole / "checkpoint-3", tmp_path / "run" / "checkpoint-3", dirs_exist_ok=True)
    return tmp_path / "run"


def _resumed(settings: dict[str, object], out: Path, **changes: object) -> list[dict]:
    train(SftConfig.check(settings | {"out": str(out), "resume": True} | changes, "test"))
    return _log(out)


def _log(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_another_learning_rate_is_followed(settings, whole, stopped):
    rates = [line["lr"] for line in _log(whole)]
    resumed = [line["lr"] for line in _resumed(settings, stopped, lr=1e-4, weight_decay=0.125, beta2=0.5)]
    groups = torch.load(stopped / "checkpoint-6" / "optimizer.pt", weights_only=True)["param_groups"]
    assert {group["initial_lr"] for group in groups} == {1e-4}
    assert {tuple(group["betas"]) for group in groups} == {(0.9, 0.5)}
    assert max(group["weight_decay"] for group in groups) == 0.125
    assert resumed == pytest.approx(rates[:3] + [rate / 10 for rate in rates[3:]])
    assert rates[4] > 0


def test_another_interval_of_saving_is_followed(settings, stopped):
    _resumed(settings, stopped, save_every=1)
    assert {path.name for path in stopped.glob("checkpoint-*")} == {"checkpoint-5", "checkpoint-6"}


@pytest.mark.parametrize(
    ("state", "is_spread", "said"),
    [("optimizer.bin", False, "was written with --shard: resume with it"), ("optimizer.pt", True, "leave it out")],
)
def test_a_checkpoint_is_gone_on_from_as_it_was_written(tmp_path, state, is_spread, said):
    (tmp_path / state).touch()
    trainer = object.__new__(StreamTrainer)
    trainer.is_fsdp_enabled = is_spread
    with pytest.raises(UserError, match=said):
        trainer._load_from_checkpoint(str(tmp_path))


@pytest.fixture
def one_process(tmp_path):
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def spread_model() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """Return two layers, spread, of which gradients reach the first only, and their optimizer."""
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
    return model, torch.optim.AdamW(model.parameters())


@pytest.mark.usefixtures("one_process")
def test_a_spread_optimizer_goes_on_though_no_gradient_reaches_some_weights(tmp_path):
    model, optimizer = spread_model()
    for weight in model[0].parameters():
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    everything = StateDictOptions(full_state_dict=True, cpu_offload=True)
    saved = get_optimizer_state_dict(model, optimizer, options=everything)
    torch.save(saved, tmp_path / "optimizer.bin")
    torch.save({"last_epoch": 3}, tmp_path / "scheduler.pt")
    again = object.__new__(StreamTrainer)
    again.args, again.lr_scheduler = SimpleNamespace(process_index=0), SimpleNamespace()
    again.lr_scheduler.load_state_dict = again.lr_scheduler.__dict__.update
    again.model, again.optimizer = spread_model()
    again._load_spread(tmp_path)
    loaded = get_optimizer_state_dict(again.model, again.optimizer, options=everything)
    assert saved["state"].keys() == {"0.weight", "0.bias"}
    for name, state in saved["state"].items():
        torch.testing.assert_close(loaded["state"][name], state, atol=0, rtol=0)
    assert again.lr_scheduler.last_epoch == 3


def test_half_a_line_that_a_kill_left_is_dropped(settings, whole, stopped):
    with (stopped / "log.jsonl").open("a") as file:
        file.write('{"step": 7, "lo')
    assert [line["tokens"] for line in _resumed(settings, stopped)] == [line["tokens"] for line in _log(whole)]


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "trainer_state.json").write_text('{"half":'),
        lambda folder: (folder / "optimizer.pt").unlink(),
        lambda folder: (folder / "scheduler.pt").unlink(),
    ],
    ids=["half a state", "no optimizer", "no schedule"],
)
def test_a_checkpoint_that_is_not_whole_is_not_gone_on_from(settings, stopped, damage):
    shutil.copytree(stopped / "checkpoint-3", stopped / "checkpoint-5")
    damage(stopped / "checkpoint-5")
    assert len(_resumed(settings, stopped, steps=4)) == 4
    shutil.rmtree(stopped / "checkpoint-5")
    for path in stopped.glob("checkpoint-*"):
        damage(path)
    for path in stopped.glob("model*.safetensors"):
        path.unlink()
    with pytest.raises(UserError, match="no checkpoint to resume from"):
        _resumed(settings, stopped)
