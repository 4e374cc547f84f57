"""Training: the same result however a batch is cut and wherever a run is stopped."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoTokenizer

from vlm3data.types import UserError
from vlm3train.sft import SftConfig, train


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


def test_the_written_model_loads_by_itself_and_has_learnt_something(undisturbed):
    AutoModelForImageTextToText.from_pretrained(undisturbed)
    assert AutoTokenizer.from_pretrained(undisturbed).chat_template
    assert (undisturbed / "preprocessor_config.json").exists()
    assert (undisturbed / "checkpoint-3" / "preprocessor_config.json").exists()
    assert _losses(undisturbed)[-1] < _losses(undisturbed)[0]


def test_a_loss_that_is_not_a_number_stops_the_run_in_one_line(model_dir, mixture, tmp_path):
    with pytest.raises(UserError, match=r"the loss became nan at step \d"):
        train(_config(model_dir, mixture, tmp_path / "hot", lr=1e18, max_grad_norm=0, warmup_ratio=0, steps=5))


def test_a_finished_run_is_not_written_over(undisturbed, model_dir, mixture):
    with pytest.raises(UserError, match="already holds a run"):
        train(_config(model_dir, mixture, undisturbed))


def test_a_resumed_run_keeps_its_samples_per_step(undisturbed, model_dir, mixture, tmp_path):
    shutil.copytree(undisturbed, tmp_path / "run")
    with pytest.raises(UserError, match="took 4 samples a step, this would take 2"):
        train(_config(model_dir, mixture, tmp_path / "run", steps=9, batch_size=2, resume=True))


def test_a_run_is_not_resumed_on_another_mixture(undisturbed, model_dir, mixture, tmp_path):
    shutil.copytree(undisturbed, tmp_path / "run")
    other = tmp_path / "other.yaml"
    other.write_text(Path(mixture).read_text().replace("seed: 5", "seed: 6"))
    with pytest.raises(UserError, match="changed since this run began"):
        train(_config(model_dir, str(other), tmp_path / "run", steps=9, resume=True))


def test_resuming_nothing_says_so(model_dir, mixture, tmp_path):
    with pytest.raises(UserError, match="no checkpoint"):
        train(_config(model_dir, mixture, tmp_path, resume=True))
