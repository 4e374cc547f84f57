"""What only GPUs do: their own kernels, pinned copies, compiled blocks, and models spread over several of them.

Skipped where there are none. Run: pytest tests/vlm3train/test_gpus.py, on a machine with two.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file

from vlm3train.models import load_model

GPUS = torch.cuda.device_count()
STEPS = 6
EVALUATION = [sys.executable, "-m", "vlm3train.cli", "eval", "--questions-per-image", "3", "--max-new-tokens", "12"]
pytestmark = pytest.mark.skipif(not GPUS, reason="needs a GPU")
on_two = pytest.mark.skipif(GPUS < 2, reason="needs two GPUs")


def sft(
    model: Path, mixture: str, out: Path, *more: str, gpus: int = 1, batch_size: int = 4, steps: int = STEPS
) -> list[float]:
    """Train on so many GPUs (0: on the CPU) and return the loss of every step."""
    start = [sys.executable, "-m"]
    if gpus > 1:
        start += ["torch.distributed.run", "--standalone", f"--nproc-per-node={gpus}", "-m"]
    told = ["--model", str(model), "--mixture", mixture, "--out", str(out), "--batch-size", str(batch_size)]
    told += ["--steps", str(steps), "--lr", "1e-3", "--max-grad-norm", "1", "--workers", "2", "--log-every", "1"]
    visible = ",".join(map(str, range(gpus)))
    done = subprocess.run(
        [*start, "vlm3train.cli", "sft", *told, *more],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": visible, "OMP_NUM_THREADS": "1"},
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def alone(model_dir, mixture, tmp_path_factory) -> tuple[Path, list[float]]:
    """Return a run on one GPU in float32, and its losses."""
    out = tmp_path_factory.mktemp("alone") / "run"
    return out, sft(model_dir, mixture, out, "--no-bf16")


def assert_near(one: Path, other: Path, atol: float) -> None:
    a, b = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    if "lm_head.weight" in a:
        b.setdefault("lm_head.weight", b["model.language_model.embed_tokens.weight"])
    for name, value in b.items():
        torch.testing.assert_close(a.get(name, value), value, atol=atol, rtol=0, msg=name)
    load_model(str(one))


def test_a_gpu_learns_what_a_cpu_learns(alone, model_dir, mixture, tmp_path):
    out, losses = alone
    assert losses == pytest.approx(sft(model_dir, mixture, tmp_path / "cpu", "--no-bf16", gpus=0), abs=1e-3)
    assert_near(out, tmp_path / "cpu", 2e-3)


@pytest.mark.parametrize(
    "more", [(), ("--compile",), ("--weights", "bfloat16"), ("--gradient-checkpointing",), ("--freeze", "vision")]
)
def test_bfloat16_stays_near_float32_with_images_of_several_sizes(alone, model_dir, mixture, tmp_path, more):
    losses = sft(model_dir, mixture, tmp_path / "run", *more)
    assert losses[0] == pytest.approx(alone[1][0], abs=0.03)
    assert losses[-1] < losses[0]
    if not more:
        assert losses == pytest.approx(alone[1], abs=0.1)


@on_two
@pytest.mark.parametrize("shard", [(), ("--shard", "grads"), ("--shard", "full")])
@pytest.mark.parametrize("grad_accum", [1, 2])
def test_two_gpus_learn_what_one_learns(alone, model_dir, mixture, tmp_path, shard, grad_accum):
    cut = ["--grad-accum", str(grad_accum)]
    losses = sft(model_dir, mixture, tmp_path / "run", "--no-bf16", *shard, *cut, gpus=2, batch_size=2 // grad_accum)
    assert losses == pytest.approx(alone[1], abs=1e-3)
    assert_near(tmp_path / "run", alone[0], 2e-3)


@on_two
@pytest.mark.parametrize("shard", ["grads", "full"])
def test_a_spread_model_learns_in_bfloat16_and_compiled(alone, model_dir, mixture, tmp_path, shard):
    losses = sft(model_dir, mixture, tmp_path / "run", "--shard", shard, "--compile", gpus=2, batch_size=2)
    assert losses == pytest.approx(alone[1], abs=0.1)


@on_two
@pytest.mark.parametrize("shard", [(), ("--shard", "full")])
def test_a_run_goes_on_where_it_was_stopped(alone, model_dir, mixture, tmp_path, shard):
    told = ["--no-bf16", "--schedule", "constant_with_warmup", "--warmup-ratio", "0", "--save-every", "3", *shard]
    whole = sft(model_dir, mixture, tmp_path / "whole", *told, gpus=2, batch_size=2)
    sft(model_dir, mixture, tmp_path / "run", *told, gpus=2, batch_size=2, steps=3)
    for path in (tmp_path / "run").glob("model*.safetensors"):
        path.unlink()
    again = sft(model_dir, mixture, tmp_path / "run", *told, "--resume", gpus=2, batch_size=2)
    assert again == pytest.approx(whole, abs=1e-3)
    assert_near(tmp_path / "run", tmp_path / "whole", 2e-3)


def test_answers_are_those_of_the_cpu(alone, shards, tmp_path):
    said = {}
    for name, visible in {"gpu": "0", "cpu": ""}.items():
        answers = tmp_path / f"{name}.arrow"
        done = subprocess.run(
            [*EVALUATION, "--model", str(alone[0]), "--shards", shards, "--predictions", str(answers)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": visible},
            timeout=280,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        said[name] = pa.ipc.open_stream(answers).read_all()["answer"].to_pylist()
    same = sum(one == other for one, other in zip(said["gpu"], said["cpu"], strict=True))
    assert said["cpu"]
    assert same >= 0.9 * len(said["cpu"])
