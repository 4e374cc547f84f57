"""Trains and scores runs with the product's own commands, several processes on every GPU, until a deadline.

A finished run is one line of `runs.jsonl`; what is listed there, or in an earlier part's file, is not run again.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.claims.arms import Arm
from benchmarks.claims.pictures import Pictures
from benchmarks.claims.start import untrained

RUNS = "runs.jsonl"
LOG_LINES = 40
"""Of a run's log that are kept."""


@dataclass(frozen=True)
class Run:
    """One training run and its score."""

    arm: Arm
    seed: int
    steps: int

    @property
    def name(self) -> str:
        """Return what the run is listed under."""
        return f"{self.arm.name}-{self.seed}"


@dataclass(frozen=True)
class Scoring:
    """What `vlm3train eval` is told."""

    limit: int = 200
    questions_per_image: int = 5
    batch_size: int = 250
    prior_images: int = 2000
    """Images of each training dataset that the location prior is fitted on: more change nothing."""

    def priors(self, arm: Arm) -> list[Pictures]:
        """Return the first images of what the arm learns from."""
        return [one.of_size(min(self.prior_images, one.images)) for one in arm.train]


class Lab:
    """Where runs happen: shards and models below `work`, results below `out`, `per_gpu` processes a GPU."""

    def __init__(self, work: Path, out: Path, minutes: float, per_gpu: int, scoring: Scoring) -> None:
        self.work, self.out, self.scoring = work, out, scoring
        self.began = time.monotonic()
        self.deadline = self.began + 60 * minutes
        self.gpus = gpu_count()
        self.places: queue.Queue[int] = queue.Queue()
        for _ in range(per_gpu):
            for gpu in range(max(self.gpus, 1)):
                self.places.put(gpu)
        self.at_once = self.places.qsize()
        self.lock = threading.Lock()
        out.mkdir(parents=True, exist_ok=True)

    @property
    def shards(self) -> Path:
        """Return where the datasets are."""
        return self.work / "shards"

    @property
    def seconds_left(self) -> float:
        """Return the time to the deadline."""
        return self.deadline - time.monotonic()

    def tell(self, line: str) -> None:
        """Print a line with the time since the beginning, and keep it."""
        line = f"{time.monotonic() - self.began:6.1f} s  {line}"
        with self.lock:
            print(line, flush=True)
            with (self.out / "log.txt").open("a") as file:
                file.write(line + "\n")

    def run_all(self, runs: Sequence[Run], done: Iterable[str] = ()) -> list[dict[str, Any]]:
        """Train and score `runs` but those in `done`; return the results of what was finished in time."""
        known = set(done)
        todo = [run for run in runs if run.name not in known]
        for run in todo:
            untrained(self.work, run.arm.size, run.seed)
        with ThreadPoolExecutor(self.at_once) as pool:
            return [result for result in pool.map(self._run, todo) if result is not None]

    def train(self, run: Run, folder: Path, gpu: int) -> float:
        """Train a run in `folder`; return the seconds."""
        arm = run.arm
        folder.mkdir(parents=True)
        datasets = {one.name: {"shards": one.at(self.shards), "weight": 1, "pixels": arm.pixels} for one in arm.train}
        mixture = {"seed": run.seed, "datasets": datasets} | arm.mixture
        cores = len(os.sched_getaffinity(0))
        settings = {
            "model": str(untrained(self.work, arm.size, run.seed)),
            "mixture": str(folder / "mixture.yaml"),
            "out": str(folder / "model"),
            "steps": run.steps,
            "seed": run.seed,
            "workers": max(1, cores // self.at_once - 1) if self.gpus else 0,
            "log_every": max(1, run.steps // LOG_LINES),
        } | arm.sft()
        (folder / "mixture.yaml").write_text(yaml.safe_dump(mixture, sort_keys=False))
        (folder / "sft.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
        start = time.monotonic()
        self._call([sys.executable, "-m", "vlm3train.cli", "sft", str(folder / "sft.yaml")], gpu, folder / "sft.txt")
        return time.monotonic() - start

    def score(self, run: Run, folder: Path, gpu: int) -> list[dict[str, Any]]:
        """Return the rows of `vlm3train eval`."""
        scoring, told = self.scoring, folder / "eval.json"
        if not run.arm.tests:
            return []
        command = [sys.executable, "-m", "vlm3train.cli", "eval", "--model", str(folder / "model")]
        for one in run.arm.tests:
            command += ["--shards", one.at(self.shards)]
        for one in scoring.priors(run.arm):
            command += ["--train-shards", one.at(self.shards)]
        command += ["--limit", str(scoring.limit), "--questions-per-image", str(scoring.questions_per_image)]
        command += ["--batch-size", str(scoring.batch_size), "--max-new-tokens", "12", "--json", str(told)]
        self._call(command, gpu, folder / "eval.txt")
        rows = json.loads(told.read_text())["rows"]
        return [{key: value for key, value in row.items() if key != "examples"} for row in rows]

    def _run(self, run: Run) -> dict[str, Any] | None:
        gpu, folder = self.places.get(), self.work / "runs" / run.name
        try:
            self.tell(f"{run.name}: {run.steps} steps on GPU {gpu}")
            seconds = self.train(run, folder, gpu)
            result = {
                "run": run.name,
                "arm": run.arm.name,
                "seed": run.seed,
                "steps": run.steps,
                "settings": run.arm.sft() | {"size": run.arm.size, "pixels": run.arm.pixels},
                "train_s": round(seconds, 1),
                "at_once": self.at_once,
                "gpus": self.gpus,
                "log": [json.loads(line) for line in (folder / "model" / "log.jsonl").read_text().splitlines()],
                "rows": self.score(run, folder, gpu),
            }
        except TimeoutError:
            self.tell(f"{run.name}: not finished in time")
            return None
        finally:
            self.places.put(gpu)
        self.tell(f"{run.name}: {scores(result)}, trained in {seconds:.0f} s")
        with self.lock, (self.out / RUNS).open("a") as file:
            file.write(json.dumps(result) + "\n")
        return result

    def _call(self, command: Sequence[str], gpu: int, log: Path) -> None:
        """Run a command on one GPU with its output in `log`; what runs at the deadline is stopped."""
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": str(gpu), "OMP_NUM_THREADS": "1"}
        if self.seconds_left <= 0:
            raise TimeoutError
        with log.open("w") as file:
            # A session of its own, so that its workers can be stopped with it.
            started = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, env=environment, start_new_session=True
            )
            try:
                code = started.wait(self.seconds_left)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(started.pid, signal.SIGKILL)
                started.wait()
                raise TimeoutError from None
        if code:
            raise RuntimeError(f"{' '.join(command[:4])} failed: {log.read_text()[-3000:]}")


def scores(result: dict[str, Any]) -> str:
    """Return the first metric of every row with its controls, for a line."""
    parts = []
    for row in result["rows"]:
        metric = next(iter(row["scores"]))
        controls = {"other image": row["swapped_images"], "prior": row["location"]}
        beside = ", ".join(f"{name} {values[metric]:.3f}" for name, values in controls.items() if values)
        parts.append(f"{Path(row['dataset']).name} {metric} {row['scores'][metric]:.3f} ({beside})")
    return "; ".join(parts)


def finished(folders: Iterable[Path]) -> list[dict[str, Any]]:
    """Return the results in every .jsonl file of some directories."""
    paths = [path for folder in folders for path in sorted(folder.glob("*.jsonl"))]
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def gpu_count() -> int:
    """Return how many GPUs there are."""
    import torch

    return torch.cuda.device_count()
