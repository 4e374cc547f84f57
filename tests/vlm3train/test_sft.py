"""Training: the same result however a batch is cut and wherever a run is stopped."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoTokenizer

from vlm3data.mixture import Mixture
from vlm3data.shards import Dataset
from vlm3data.types import UserError
from vlm3train import sft
from vlm3train.sft import SftConfig, train
from vlm3train.trainer import StreamTrainer


def _config(model_dir: Path, mixture: str, out: Path, **changes: object) -> SftConfig:
    settings = {"steps": 3, "batch_size": 4, "lr": 1e-3, "max_grad_norm": 1.0, "workers": 0, "log_every": 1}
    settings |= {"bf16": False}  # equal to 1e-5, also where there is a GPU
    return SftConfig.check({"model": str(model_dir), "mixture": mixture, "out": str(out)} | settings | changes, "test")


def _losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def undisturbed(model_dir, mixture, tmp_path_factory) -> Path:
    """Return the directory of a run of six steps with a checkpoint in its middle."""
    out = tmp_path_factory.mktemp("runs") / "undisturbed"
    train(_config(model_dir, mixture, out, steps=6, save_every=3))
    return out


def test_the_result_does_not_depend_on_how_a_batch_is_cut(model_dir, mixture, tmp_path):
    weights = []
    for batch_size in (4, 1):
        out = tmp_path / f"by{batch_size}"
        train(_config(model_dir, mixture, out, batch_size=batch_size, grad_accum=4 // batch_size))
        weights.append(load_file(out / "model.safetensors"))
    for name, whole in weights[0].items():
        torch.testing.assert_close(weights[1][name], whole, atol=1e-5, rtol=0, msg=name)


def test_a_resumed_run_is_the_undisturbed_run(undisturbed, model_dir, mixture, tmp_path):
    out = tmp_path / "resumed"
    shutil.copytree(undisturbed / "checkpoint-3", out / "checkpoint-3")
    shutil.copy(undisturbed / "log.jsonl", out)
    train(_config(model_dir, mixture, out, steps=6, resume=True))
    assert _losses(out) == pytest.approx(_losses(undisturbed), abs=1e-6)
    ours, theirs = (load_file(run / "model.safetensors") for run in (out, undisturbed))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_run_stopped_behind_its_last_step_does_none_more(undisturbed, model_dir, mixture, tmp_path):
    out = tmp_path / "stopped"
    shutil.copytree(undisturbed, out, ignore=shutil.ignore_patterns("model.safetensors"))
    shutil.copytree(undisturbed / "checkpoint-6", out / "checkpoint-6", dirs_exist_ok=True)
    log = (out / "log.jsonl").read_text()
    train(_config(model_dir, mixture, out, steps=6, resume=True))
    assert (out / "log.jsonl").read_text() == log
    assert {path.name for path in out.glob("checkpoint-*")} == {"checkpoint-3", "checkpoint-6"}
    ours, theirs = (load_file(run / "model.safetensors") for run in (out, undisturbed))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_written_model_loads_by_itself_and_has_learnt_something(undisturbed):
    AutoModelForImageTextToText.from_pretrained(undisturbed)
    assert AutoTokenizer.from_pretrained(undisturbed).chat_template
    assert (undisturbed / "preprocessor_config.json").exists()
    assert (undisturbed / "checkpoint-3" / "preprocessor_config.json").exists()
    assert _losses(undisturbed)[-1] < _losses(undisturbed)[0]


def test_one_process_alone_writes(tmp_path):
    trainer = object.__new__(StreamTrainer)  # as on the second process
    trainer.args = SimpleNamespace(should_save=False, output_dir=str(tmp_path))
    trainer.is_distributed_loading_by_transformers = False
    trainer._save(str(tmp_path / "model"))
    assert not list(tmp_path.iterdir())


def test_a_loss_that_is_not_a_number_stops_the_run_in_one_line(model_dir, mixture, tmp_path):
    with pytest.raises(UserError, match=r"the loss became (nan|inf) at step \d, in a batch of the samples \S+"):
        train(_config(model_dir, mixture, tmp_path / "hot", lr=1e18, max_grad_norm=0, warmup_ratio=0, steps=5))


def test_a_finished_run_is_not_written_over(undisturbed, model_dir, mixture):
    with pytest.raises(UserError, match="already holds a run"):
        train(_config(model_dir, mixture, undisturbed))


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize("step", [None, 2, 3, 4])
def test_no_run_is_written_over_and_only_one_with_steps_left_goes_on(mixture, tmp_path, step, finished, resume):
    if step is not None:
        (tmp_path / f"checkpoint-{step}").mkdir()
        for name in ("trainer_state.json", "optimizer.pt", "scheduler.pt"):
            (tmp_path / f"checkpoint-{step}" / name).write_text("{}")
    if finished:
        (tmp_path / "model-00001-of-00002.safetensors").touch()
    config = _config(tmp_path, mixture, tmp_path, steps=3, resume=resume)
    if not resume and (step is not None or finished):
        said = "already holds a run"
    elif resume and step is None:
        said = "no checkpoint to resume from"
    elif step == 4 or (step == 3 and finished):
        said = "is already at step . of 3"
    else:
        assert sft._checkpoint(config, tmp_path) == (tmp_path / f"checkpoint-{step}" if resume else None)
        return
    with pytest.raises(UserError, match=said):
        sft._checkpoint(config, tmp_path)


def test_a_resumed_run_keeps_its_samples_per_step(undisturbed, model_dir, mixture, tmp_path):
    shutil.copytree(undisturbed, tmp_path / "run")
    with pytest.raises(UserError, match="took 4 samples a step, this would take 2"):
        train(_config(model_dir, mixture, tmp_path / "run", steps=9, batch_size=2, resume=True))


def test_a_run_is_not_resumed_on_another_mixture(undisturbed, model_dir, mixture, tmp_path):
    shutil.copytree(undisturbed, tmp_path / "run")
    other = tmp_path / "other.yaml"
    other.write_text(Path(mixture).read_text().replace("seed: 5", "seed: 6"))
    with pytest.raises(UserError, match="changed since this run began: the seed is 6, was 5"):
        train(_config(model_dir, str(other), tmp_path / "run", steps=9, resume=True))
    train(_config(model_dir, str(other), tmp_path / "run", steps=7, resume=True, allow_changed_data=True))
    train(_config(model_dir, str(other), tmp_path / "run", steps=7, resume=True))
    (changed,) = json.loads((tmp_path / "run" / "run.json").read_text())["changed_data"]
    assert (changed["step"], changed["changes"]) == (6, ["the seed is 6, was 5"])
    assert changed["mixture_before"]["seed"] == 5


def test_only_a_run_that_goes_on_is_held_to_what_the_directory_says_of_one(mixture, tmp_path):
    """What was killed before its first checkpoint may begin anew in another way; a lost run.json is written again."""
    spec, path = Mixture.load(mixture), tmp_path / "run.json"

    def record(samples_per_step: int, **changes: object) -> dict:
        sft._record(_config(tmp_path, mixture, tmp_path, **changes), tmp_path, samples_per_step, spec, 0)
        return json.loads(path.read_text())

    assert record(4)["samples_per_step"] == 4
    assert record(2)["samples_per_step"] == 2
    with pytest.raises(UserError, match="took 2 samples a step, this would take 4"):
        record(4, resume=True)
    assert record(2, resume=True)["mixture"] == spec.lock()
    path.unlink()
    assert record(4, resume=True)["samples_per_step"] == 4
    assert [file.name for file in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize("workers", [0, 2])
def test_damaged_samples_are_listed_beside_the_run(model_dir, mixture, shards, tmp_path, workers):
    shutil.copytree(shards, tmp_path / "shards")
    dataset = Dataset(str(tmp_path / "shards"))
    name, key = dataset.key(2)
    data = bytearray((tmp_path / "shards" / name).read_bytes())
    data[dataset.where(2).offset + 700] ^= 1
    (tmp_path / "shards" / name).write_bytes(data)
    spec = tmp_path / "damaged.yaml"
    spec.write_text(Path(mixture).read_text().replace(shards, str(tmp_path / "shards")))
    train(_config(model_dir, str(spec), tmp_path / "run", steps=6, workers=workers))
    skips = [json.loads(line) for line in (tmp_path / "run" / "skipped.jsonl").read_text().splitlines()]
    # 24 positions are two epochs of a dozen samples
    assert [(skip["dataset"], skip["key"], skip["shard"], skip["epoch"]) for skip in skips] == [
        ("toy", key, name, 0),
        ("toy", key, name, 1),
    ]
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert log[-1]["skipped"] == {"toy": 2}


@pytest.mark.parametrize("workers", [0, 2])
def test_too_many_damaged_samples_end_the_run_in_one_line(model_dir, mixture, shards, tmp_path, workers):
    shutil.copytree(shards, tmp_path / "shards")
    tar = tmp_path / "shards" / "shard-000000.tar"
    tar.write_bytes(bytes(len(tar.read_bytes())))
    spec = tmp_path / "damaged.yaml"
    spec.write_text(Path(mixture).read_text().replace(shards, str(tmp_path / "shards")))
    with pytest.raises(UserError, match=r"\A.*damaged.yaml: datasets.toy: .* is damaged; .*max_bad is 0.001") as caught:
        train(_config(model_dir, str(spec), tmp_path / "run", workers=workers))
    assert "\n" not in str(caught.value)


def test_one_process_alone_spreads_nothing(model_dir, mixture, tmp_path, monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(UserError, match=r"this is one: start it with torchrun"):
        train(_config(model_dir, mixture, tmp_path / "run", shard="full"))
    assert not (tmp_path / "run").exists()


def test_resuming_nothing_says_so(model_dir, mixture, tmp_path):
    with pytest.raises(UserError, match="no checkpoint"):
        train(_config(model_dir, mixture, tmp_path, resume=True))


def test_the_processes_of_a_run_part_when_it_is_done(model_dir, mixture, tmp_path, monkeypatch):
    """One that still is in its group when Python ends may be aborted by a thread of it, and torchrun then fails."""
    from torch import distributed

    written, part = [], sft._part
    monkeypatch.setattr(sft, "_part", lambda: written.append((tmp_path / "run" / "model.safetensors").exists()))
    train(_config(model_dir, mixture, tmp_path / "run", steps=1, save_every=0))
    assert written == [True]
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    part()
    assert not distributed.is_initialized()
    part()
