"""A run that is killed at any moment goes on as if it had not been; full disks and several processes lose nothing."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vlm3data.mixture import Mixture
from vlm3data.stream import open_stream
from vlm3train.models import load_model

STEPS = 8
SHARDED = str(Path(__file__).with_name("sharded_on_cpu.py"))
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def command(model: Path, mixture: str, out: Path, *more: str, processes: int = 1, batch_size: int = 4) -> list[str]:
    start = [sys.executable, "-m"]
    if processes > 1:
        start += ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    start += [SHARDED] if "--shard" in more else ["vlm3train.cli"] if processes == 1 else ["-m", "vlm3train.cli"]
    told = ["--model", str(model), "--mixture", mixture, "--out", str(out), "--steps", str(STEPS), "--lr", "1e-3"]
    told += ["--max-grad-norm", "1", "--workers", "0", "--log-every", "1", "--save-every", "2", "--no-bf16"]
    return [*start, "sft", *told, "--batch-size", str(batch_size), *more]


def run(*arguments, **settings) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments, **settings), capture_output=True, text=True, check=False, env=ENVIRONMENT, timeout=300
    )


def log_of(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def undisturbed(model_dir, mixture, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    done = run(model_dir, mixture, out)
    assert done.returncode == 0, done.stderr
    return out


def assert_same_weights(one: Path, other: Path, atol: float) -> None:
    a, b = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    if "lm_head.weight" in a:  # put together from parts, the weights that the head shares are written twice
        b["lm_head.weight"] = b["model.language_model.embed_tokens.weight"]
    assert a.keys() == b.keys()
    for name, value in a.items():
        torch.testing.assert_close(b[name], value, atol=atol, rtol=0, msg=name)


def killed_on_its_way(model: Path, mixture: str, out: Path) -> bool:
    """Kill a run somewhere behind its first checkpoint, wherever the loop then is; False if it had ended by then."""
    started = subprocess.Popen(command(model, mixture, out), env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    while not (out / "checkpoint-2" / "trainer_state.json").exists():
        assert started.poll() is None
        time.sleep(0.01)
    time.sleep(time.time() % 0.4)
    started.send_signal(signal.SIGKILL)
    started.wait()
    return not list(out.glob("model*.safetensors"))


def test_a_run_killed_at_a_random_step_goes_on_undisturbed(undisturbed, model_dir, mixture, tmp_path):
    # How many steps pass before the kill is the machine's affair: a run that was too quick for it tells nothing.
    tries = (tmp_path / f"run-{number}" for number in range(10))
    out = next(out for out in tries if killed_on_its_way(model_dir, mixture, out))
    done = run(model_dir, mixture, out, "--resume")
    assert done.returncode == 0, done.stderr
    losses = [[line["loss"] for line in log_of(folder)] for folder in (out, undisturbed)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    assert_same_weights(out, undisturbed, 1e-6)


def assert_learnt_the_same(out: Path, undisturbed: Path) -> None:
    both, one = log_of(out), log_of(undisturbed)
    assert [line["datasets"]["toy"]["samples"] for line in both] == [4] * STEPS
    assert [line["tokens"] for line in both] == [line["tokens"] for line in one], "a sample is missing, or there twice"
    for number in ("loss", "grad_norm"):
        assert [line[number] for line in both] == pytest.approx([line[number] for line in one], abs=1e-4)
    assert_same_weights(out, undisturbed, 1e-5)
    load_model(str(out))


def test_two_processes_share_out_the_same_samples_and_learn_the_same(undisturbed, model_dir, mixture, tmp_path):
    out = tmp_path / "run"
    done = run(model_dir, mixture, out, processes=2, batch_size=2)
    assert done.returncode == 0, done.stderr[-3000:]
    assert_learnt_the_same(out, undisturbed)


def test_a_model_spread_over_two_processes_learns_the_same_and_goes_on(undisturbed, model_dir, mixture, tmp_path):
    out = tmp_path / "run"
    halves = ["--grad-accum", "2", "--gradient-checkpointing"]
    done = run(model_dir, mixture, out, "--shard", "full", *halves, processes=2, batch_size=1)
    assert done.returncode == 0, done.stderr[-3000:]
    assert_learnt_the_same(out, undisturbed)
    shutil.rmtree(out / f"checkpoint-{STEPS}")
    for path in out.glob("model*.safetensors"):
        path.unlink()
    done = run(model_dir, mixture, out, "--shard", "grads", "--resume", processes=2, batch_size=2)
    assert done.returncode == 0, done.stderr[-3000:]
    assert_learnt_the_same(out, undisturbed)


def test_a_run_goes_on_with_another_number_of_processes(undisturbed, model_dir, mixture, tmp_path):
    out = tmp_path / "run"
    stopped = command(model_dir, mixture, out)
    stopped[stopped.index("--steps") + 1] = "4"
    # The learning rate's course belongs to the whole run: it is constant here.
    constant = ["--schedule", "constant_with_warmup", "--warmup-ratio", "0"]
    subprocess.run([*stopped, *constant], check=True, capture_output=True, env=ENVIRONMENT)
    for path in out.glob("model*.safetensors"):
        path.unlink()
    done = run(model_dir, mixture, out, *constant, "--resume", processes=2, batch_size=2)
    assert done.returncode == 0, done.stderr[-3000:]
    whole = tmp_path / "whole"
    assert run(model_dir, mixture, whole, *constant).returncode == 0
    assert [line["tokens"] for line in log_of(out)] == [line["tokens"] for line in log_of(undisturbed)]
    assert_same_weights(out, whole, 1e-5)


def test_a_full_disk_keeps_the_checkpoint_there_is(undisturbed, model_dir, mixture, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(undisturbed, out)
    for path in out.glob("model*.safetensors"):
        path.unlink()
    room = (undisturbed / "model.safetensors").stat().st_size // 2

    def little_room() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    more = command(model_dir, mixture, out, "--resume")
    more[more.index("--steps") + 1] = str(STEPS + 2)
    done = subprocess.run(
        more, capture_output=True, text=True, check=False, env=ENVIRONMENT, preexec_fn=little_room, timeout=200
    )
    assert done.returncode == 1
    assert f"checkpoint-{STEPS + 2}: cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert (out / f"checkpoint-{STEPS}" / "trainer_state.json").exists()
    assert not (out / f"checkpoint-{STEPS + 2}").exists()
    # With room again, the end that was missing is all that is done.
    again = run(model_dir, mixture, out, "--resume")
    assert again.returncode == 0, again.stderr
    assert_same_weights(out, undisturbed, 1e-6)


def test_a_run_sees_the_streams_samples_in_its_order(undisturbed, mixture, processor):
    stream = open_stream(Mixture.load(mixture))
    for line in log_of(undisturbed):
        rows = [processor.train([next(stream)[1]])["meta"].tokens[0] for _ in range(4)]
        assert line["datasets"]["toy"]["tokens"] == sum(rows)
