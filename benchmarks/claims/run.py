"""One training run and its score, as a user would: `vlm3train sft`, then `vlm3train eval`."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks.claims.arms import Arm
from benchmarks.claims.pictures import Pictures
from benchmarks.claims.runner import GRACE_S, Job, Lab
from benchmarks.claims.start import untrained

LOG_LINES = 40
"""Of a run's log that are kept."""
CHECKPOINTS = 10
"""Of a run that may be stopped before its end."""


@dataclass(frozen=True)
class Scoring:
    """What `vlm3train eval` is told."""

    limit: int = 300
    questions_per_image: int = 5
    batch_size: int = 500
    reserve_s: float = 0.0
    """Kept for scoring: what still trains then is stopped, and its newest checkpoint scored."""
    prior_images: int = 2000
    """Images of each training dataset that the location prior is fitted on: more change little."""

    def priors(self, arm: Arm) -> list[Pictures]:
        """Return the first images of what the arm learns from."""
        return [one.of_size(min(self.prior_images, one.images)) for one in arm.train]


@dataclass(frozen=True)
class Run(Job):
    """An arm with one seed."""

    arm: Arm
    seed: int
    steps: int
    scoring: Scoring = field(default_factory=Scoring)
    whole_machine: bool = False
    """Trained on all GPUs at once, its batch divided among them."""

    @property
    def name(self) -> str:
        """Return what the run is listed under."""
        return f"{self.arm.name}-{self.seed}"

    @property
    def kind(self) -> str:
        """Return what it has in common with other seeds."""
        return self.arm.name

    def needs(self) -> list[Pictures]:
        """Return every dataset."""
        return [*self.arm.needs(), *self.scoring.priors(self.arm)]

    def prepare(self, lab: Lab) -> None:
        """Write the untrained model."""
        untrained(lab.work, self.arm.size, self.seed)

    def work(self, lab: Lab, folder: Path, gpu: int) -> list[dict[str, Any]]:
        """Train and score."""
        start = time.monotonic()
        model = self._train(lab, folder, gpu)
        seconds = time.monotonic() - start
        log = _read_log(folder)
        # A run that was stopped is scored as it was at its newest checkpoint.
        steps = int(model.name.partition("-")[2] or self.steps)
        lab.tell(f"{self.name}: trained {steps} of {self.steps} steps in {seconds:.0f} s")
        result = {
            "run": self.name,
            "arm": self.arm.name,
            "seed": self.seed,
            "steps": steps,
            "steps_planned": self.steps,
            "samples": steps * log[-1]["samples"] // log[-1]["step"],
            "gpus_used": lab.gpus if self.whole_machine else 1,
            "settings": self.arm.sft() | {"size": self.arm.size, "pixels": self.arm.pixels},
            "train_s": round(seconds, 1),
            "log": log,
            "rows": self._score(lab, folder, model, gpu),
        }
        return [result]

    def learning_curve(self, lab: Lab, gpu: int) -> list[dict[str, Any]]:
        """Train, and return the lines of the log alone."""
        folder = lab.work / "pilots" / self.name
        self._train(lab, folder, gpu)
        return _read_log(folder)

    def _train(self, lab: Lab, folder: Path, gpu: int) -> Path:
        """Train until the end or the time kept for scoring; return the model, or its newest checkpoint."""
        arm = self.arm
        folder.mkdir(parents=True)
        datasets = {one.name: {"shards": one.at(lab.shards)} | arm.entry() for one in arm.train}
        processes = lab.gpus if self.whole_machine and lab.gpus > 1 else 1
        settings: dict[str, Any] = arm.sft() | {
            "model": str(untrained(lab.work, arm.size, self.seed)),
            "mixture": str(folder / "mixture.yaml"),
            "out": str(folder / "model"),
            "steps": self.steps,
            "seed": self.seed,
            "workers": lab.workers,
            "log_every": max(1, self.steps // LOG_LINES),
            "save_every": self.steps // CHECKPOINTS if self.scoring.reserve_s else 0,
        }
        settings["batch_size"] //= processes
        (folder / "mixture.yaml").write_text(yaml.safe_dump({"seed": self.seed, "datasets": datasets}, sort_keys=False))
        (folder / "sft.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
        command = [sys.executable, "-m"]
        if processes > 1:
            command += ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
        command += ["vlm3train.cli", "sft", str(folder / "sft.yaml")]
        try:
            lab.call(command, gpu if processes == 1 else None, folder / "sft.txt", later_s=-self.scoring.reserve_s)
        except TimeoutError:
            kept = list((folder / "model").glob("checkpoint-*"))
            if not kept:
                lab.keep(self.name, _read_log(folder))
                raise
            return max(kept, key=lambda path: int(path.name.partition("-")[2]))
        return folder / "model"

    def _score(self, lab: Lab, folder: Path, model: Path, gpu: int) -> list[dict[str, Any]]:
        if not self.arm.tests:
            return []
        told = folder / "eval.json"
        command = [sys.executable, "-m", "vlm3train.cli", "eval", "--model", str(model)]
        for one in self.arm.tests:
            command += ["--shards", one.at(lab.shards)]
        for one in self.scoring.priors(self.arm):
            command += ["--train-shards", one.at(lab.shards)]
        command += ["--limit", str(self.scoring.limit), "--batch-size", str(self.scoring.batch_size)]
        command += ["--questions-per-image", str(self.scoring.questions_per_image), "--max-new-tokens", "40"]
        try:
            lab.call([*command, "--json", str(told), *self.arm.score_flags], gpu, folder / "eval.txt", later_s=GRACE_S)
        except TimeoutError:
            lab.keep(self.name, _read_log(folder))
            raise
        rows = json.loads(told.read_text())["rows"]
        return [{key: value for key, value in row.items() if key != "examples"} for row in rows]


def _read_log(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's log without what they say of each dataset."""
    path = folder / "model" / "log.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [{key: value for key, value in line.items() if key != "datasets"} for line in lines]
