"""Does jobs with the product's own commands, several processes on every GPU, until a deadline.

A finished run is one line of `runs.jsonl`; what is listed there, or in an earlier part's file, is not done again.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

RUNS = "runs.jsonl"
UNFINISHED = "unfinished.log"
"""Has the logs of runs that were stopped, a line a run."""
GRACE_S = 45
"""What is trained at the deadline may still be scored for so long."""


class Job(ABC):
    """Something that takes a place on a GPU and ends in results."""

    name: str
    kind: str
    """Jobs of one kind take about as long as each other."""

    @abstractmethod
    def prepare(self, lab: Lab) -> None:
        """Do what must not happen in several places at once."""

    @abstractmethod
    def work(self, lab: Lab, folder: Path, gpu: int) -> list[dict[str, Any]]:
        """Return the results; raise TimeoutError where the deadline came first."""


class Lab:
    """Where jobs are done: models, and shards if nothing else is said, below `work`, results below `out`."""

    def __init__(self, work: Path, out: Path, minutes: float, per_gpu: int, shards: Path | None = None) -> None:
        self.work, self.out, self.shards = work, out, shards or work / "shards"
        self.began = time.monotonic()
        self.deadline = self.began + 60 * minutes
        self.gpus = gpu_count()
        self.places: queue.Queue[int] = queue.Queue()
        for _ in range(per_gpu):
            for gpu in range(max(self.gpus, 1)):
                self.places.put(gpu)
        self.at_once = self.places.qsize()
        self.lock = threading.Lock()
        self.took_s: dict[str, float] = {}
        out.mkdir(parents=True, exist_ok=True)

    @property
    def workers(self) -> int:
        """Return how many loader processes a training gets."""
        cores = len(os.sched_getaffinity(0))
        return max(1, cores // self.at_once - 1) if self.gpus else 0

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

    def keep(self, name: str, lines: object) -> None:
        """Append something of a run that gave no result."""
        with self.lock, (self.out / UNFINISHED).open("a") as kept:
            kept.write(json.dumps({"run": name, "log": lines}) + "\n")

    def do(self, jobs: Sequence[Job]) -> list[dict[str, Any]]:
        """Do `jobs`, in this order as places become free; return the results of those that ended in time."""
        for job in jobs:
            job.prepare(self)
        with ThreadPoolExecutor(self.at_once) as pool:
            return [result for results in pool.map(self._do, jobs) for result in results]

    def call(self, command: Sequence[str], gpu: int | None, log: Path, *, later_s: float = 0.0) -> None:
        """Run a command on one GPU (None: on all) with its output in `log`; what runs at the deadline is stopped.

        `later_s` moves the deadline.
        """
        seconds_left = self.seconds_left + later_s
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        if gpu is not None:
            visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
            environment["CUDA_VISIBLE_DEVICES"] = visible[gpu] if visible != [""] else str(gpu)
        if seconds_left <= 0:
            raise TimeoutError
        with log.open("w") as file:
            # A session of its own, so that its workers can be stopped with it.
            started = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, env=environment, start_new_session=True
            )
            try:
                code = started.wait(seconds_left)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(started.pid, signal.SIGKILL)
                started.wait()
                raise TimeoutError from None
        if code:
            raise RuntimeError(f"{' '.join(command[:5])} failed: {log.read_text()[-3000:]}")

    @contextlib.contextmanager
    def place(self) -> Generator[int]:
        """Wait for a place on a GPU, and hold it; yields the GPU's number."""
        gpu = self.places.get()
        try:
            yield gpu
        finally:
            self.places.put(gpu)

    def _do(self, job: Job) -> list[dict[str, Any]]:
        with self.place() as gpu:
            return self._done(job, gpu)

    def _done(self, job: Job, gpu: int) -> list[dict[str, Any]]:
        began = time.monotonic()
        try:
            if self.seconds_left + GRACE_S < self.took_s.get(job.kind, 0.0):
                raise TimeoutError
            self.tell(f"{job.name}: begins on GPU {gpu}")
            results = job.work(self, self.work / "runs" / job.name, gpu)
        except TimeoutError:
            self.tell(f"{job.name}: not finished in time")
            return []
        except RuntimeError as error:  # the others go on
            self.tell(f"{job.name}: {error}")
            return []
        self.took_s[job.kind] = time.monotonic() - began
        for result in results:
            result |= {"gpus": self.gpus, "at_once": self.at_once}
            self.tell(f"{result['run']}: {scores(result)}")
            with self.lock, (self.out / RUNS).open("a") as file:
                file.write(json.dumps(result) + "\n")
        return results


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
