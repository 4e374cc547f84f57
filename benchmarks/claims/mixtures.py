"""Claim 4 through `vlm3train study`: short runs of drawn mixtures, a fit, then the three mixtures side by side."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks.claims.arms import depth, held_out
from benchmarks.claims.pictures import Pictures
from benchmarks.claims.runner import Job, Lab
from benchmarks.claims.start import untrained
from vlm3train.regression import propose

IMAGES = {"court": 16_000, "hall": 4_000, "room": 1_000, "yard": 250}
SIZE = "mini-smooth"
COMPARED = ("uniform", "by-size", "tuned")
SEARCHES = 12
"""Studies of one drawn mixture each, so that they go side by side."""
SEARCH_SHARE = 0.7
"""Steps of a drawn mixture's run, over those of the three mixtures'."""


@dataclass(frozen=True)
class Sizes:
    """How much there is of everything."""

    scale: float
    steps: int
    train_settings: dict[str, Any] = field(hash=False)
    size: str = SIZE

    def train(self) -> dict[str, Pictures]:
        """Return the training images by domain."""
        return {domain: depth(domain, max(20, int(images * self.scale))) for domain, images in IMAGES.items()}

    def tests(self) -> list[Pictures]:
        """Return as many held-out images of every domain."""
        return [held_out(domain, max(12, int(200 * self.scale))) for domain in IMAGES]


@dataclass(frozen=True)
class Study(Job):
    """One `vlm3train study`: some mixtures, one model, one process."""

    name: str
    sizes: Sizes
    seed: int
    steps: int
    mixtures: dict[str, dict[str, Any]]
    """Name -> what the mixture's file says besides the datasets."""

    @property
    def drawn(self) -> bool:
        """Tell whether one mixture is drawn at random, in place of `mixtures`."""
        return not self.mixtures

    @property
    def kind(self) -> str:
        """Return what takes as long."""
        return f"{self.steps} steps"

    def prepare(self, lab: Lab) -> None:
        """Write the untrained model."""
        untrained(lab.work, self.sizes.size, self.seed)

    def work(self, lab: Lab, folder: Path, gpu: int) -> list[dict[str, Any]]:
        """Run the study; return one result a run of it."""
        folder.mkdir(parents=True)
        (folder / "study.yaml").write_text(yaml.safe_dump(self._spec(lab, folder), sort_keys=False))
        command = [sys.executable, "-m", "vlm3train.cli", "study", str(folder / "study.yaml")]
        try:
            lab.call([*command, "--out", str(folder / "out")], gpu, folder / "study.txt")
        except TimeoutError:
            lab.tell(f"{self.name}: not finished in time")
        found = folder / "out" / "study.json"
        rows = json.loads(found.read_text())["runs"] if found.exists() else []
        return [self._result(row, folder / "out" / "runs" / row["run"]) for row in rows]

    def _spec(self, lab: Lab, folder: Path) -> dict[str, Any]:
        datasets = {
            domain: {"shards": one.at(lab.shards), "weight": 1, "pixels": 10}
            for domain, one in self.sizes.train().items()
        }
        files = {}
        for name, told in (self.mixtures or {"even": {}}).items():
            values: dict[str, Any] = {"seed": self.seed, "datasets": {k: dict(v) for k, v in datasets.items()}}
            values |= {key: value for key, value in told.items() if key != "weights"}
            for domain, weight in told.get("weights", {}).items():
                values["datasets"][domain]["weight"] = weight
            files[name] = str(folder / f"{name}.yaml")
            Path(files[name]).write_text(yaml.safe_dump(values, sort_keys=False))
        compared: dict[str, Any] = {"mixtures": files}
        if self.drawn:
            compared = {"drawn": {"mixture": files["even"], "runs": 1, "seed": self.seed}}
        return compared | {
            "models": [str(untrained(lab.work, self.sizes.size, self.seed))],
            "steps": [self.steps],
            "train": self.sizes.train_settings | {"workers": lab.workers, "log_every": max(1, self.steps // 20)},
            "evaluate": {
                "shards": [one.at(lab.shards) for one in self.sizes.tests()],
                "train_shards": [one.at(lab.shards) for one in self.sizes.train().values()],
                "limit": 150,
                "questions_per_image": 4,
                "batch_size": 200,
                "max_new_tokens": 12,
            },
        }

    def _result(self, row: dict[str, Any], folder: Path) -> dict[str, Any]:
        arm = "drawn" if self.drawn else row["mixture"]
        scored = json.loads((folder / "eval.json").read_text())["rows"]
        return {
            "run": f"{arm}-{self.seed}",
            "arm": arm,
            "seed": self.seed,
            "steps": row["steps"],
            "samples": row["samples"],
            "shares": row["shares"],
            "score": row["score"],
            "rows": [{key: value for key, value in each.items() if key != "examples"} for each in scored],
        }


def searches(sizes: Sizes) -> list[Study]:
    """Return the studies of drawn mixtures."""
    steps = max(2, int(sizes.steps * SEARCH_SHARE))
    return [Study(f"drawn-{seed}", sizes, seed, steps, {}) for seed in range(SEARCHES)]


def comparisons(sizes: Sizes, seeds: Sequence[int], results: Sequence[dict[str, Any]]) -> list[Study]:
    """Return a study for each of the three mixtures and each seed that is not among the `results`.

    The tuned one follows from the searches' results.
    """
    done = {result["run"] for result in results}
    rows = [
        {"run": result["run"], "shares": result["shares"], "score": result["score"]}
        for result in results
        if result["arm"] == "drawn"
    ]
    tuned = {domain: round(share, 4) for domain, share in propose(rows).shares.items()}
    told = ({"weighting": {"scheme": "uniform"}}, {"weighting": {"scheme": "size"}}, {"weights": tuned})
    mixtures = dict(zip(COMPARED, told, strict=True))
    studies = [
        Study(f"{name}-{seed}", sizes, seed, sizes.steps, {name: told})
        for seed in seeds
        for name, told in mixtures.items()
    ]
    return [study for study in studies if study.name not in done]
