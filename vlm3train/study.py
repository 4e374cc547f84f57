"""A study: one run per mixture, model and budget, all else equal; each trained and scored in processes of their own.

What is finished is not done again: a run whose score is there is skipped, one that was stopped goes on.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from vlm3data.mixture import Mixture
from vlm3data.shards import Dataset
from vlm3data.types import UserError
from vlm3train.sft import RUN_FILE, newest_checkpoint
from vlm3train.study_spec import Run, StudySpec, datasets_of, runs_of

SCORES = "eval.json"
ABOUT = "study_run.json"
RESULTS = "study.json"


def study(
    spec: StudySpec, out: Path, launcher: str = "", tell: Callable[[str], object] = lambda line: None
) -> list[dict[str, Any]]:
    """Train and score every run of `spec` below `out`; return one row a run, also written to `study.json`.

    `launcher` starts the training instead of this Python, e.g. "torchrun --nproc-per-node 4"; `tell` hears about
    each run. Raises UserError where `out` holds runs with other settings or of other data, or a run fails.
    """
    runs = runs_of(spec)
    for url in (*spec.evaluate.shards, *spec.evaluate.train_shards):
        Dataset(url)  # one that is missing should show before hours of training
    for run in runs:
        _claim(run, out / "runs" / run.name)
        _check_data(spec, out / "runs" / run.name)
    rows = []
    for number, run in enumerate(runs, 1):
        folder = out / "runs" / run.name
        state = "already scored" if (folder / SCORES).exists() else "training"
        tell(f"run {number}/{len(runs)}: {run.name}: {state}")
        if not (folder / SCORES).exists():
            _train(run, spec, folder, launcher)
            _score(spec, folder)
        rows.append(_row(run, spec, folder))
        # After every run, so that a study that is stopped has what it knows.
        (out / RESULTS).write_text(json.dumps({"metric": spec.evaluate.metric, "runs": rows}, indent=2) + "\n")
    return rows


def _claim(run: Run, folder: Path) -> None:
    """Write down what a run is before it begins, and refuse a folder in which another one ran."""
    about = folder / ABOUT
    if about.exists():
        if json.loads(about.read_text())["digest"] != run.digest:
            raise UserError(f"{folder}: was run with other settings; choose another --out, or delete that folder")
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mixture.yaml").write_text(yaml.safe_dump(run.mixture, sort_keys=False))
    Mixture.load(folder / "mixture.yaml").schedule()  # a mistake in any mixture shows before the first run
    values = {"digest": run.digest, "mixture": run.mixture_name, "model": run.model, "steps": run.steps}
    about.write_text(json.dumps(values, indent=2) + "\n")


def _check_data(spec: StudySpec, folder: Path) -> None:
    """Refuse to go on with a run whose data are no longer those that it was trained or scored on."""
    trained, scored = folder / "model" / RUN_FILE, folder / SCORES
    if trained.exists():
        lock = json.loads(trained.read_text())["mixture"]
        if changes := Mixture.load(folder / "mixture.yaml").changes_since(lock):
            raise UserError(
                f"{folder}: the data changed since it was trained: {'; '.join(changes)}. Put them back, choose another "
                "--out, or delete that folder"
            )
    if scored.exists():
        about = json.loads(scored.read_text())
        before = about["datasets"] | about.get("guessed_from", {})
        urls = (*spec.evaluate.shards, *spec.evaluate.train_shards)
        if changed := [url for url in urls if before.get(url) != Dataset(url).fingerprint]:
            raise UserError(
                f"{folder}: was scored with other shards than are now in {', '.join(changed)}: put them back, choose "
                "another --out, or delete eval.json and eval.predictions.arrow in that folder to score it again"
            )


def _train(run: Run, spec: StudySpec, folder: Path, launcher: str) -> None:
    model = folder / "model"
    if any(model.glob("model*.safetensors")):
        return
    settings = folder / "sft.yaml"
    settings.write_text(yaml.safe_dump(spec.train, sort_keys=False))
    start = shlex.split(launcher) or [sys.executable]
    _call(
        [*start, "-m", "vlm3train.cli", "sft", str(settings), "--model", run.model, "--out", str(model)]
        + ["--mixture", str(folder / "mixture.yaml"), "--steps", str(run.steps)]
        + (["--resume"] if newest_checkpoint(model) else []),
        folder / "train.txt",
    )


def _score(spec: StudySpec, folder: Path) -> None:
    scored, temporary = spec.evaluate, folder / f"{SCORES}.tmp"
    _call(
        [sys.executable, "-m", "vlm3train.cli", "eval", "--model", str(folder / "model"), "--json", str(temporary)]
        + [argument for url in scored.shards for argument in ("--shards", url)]
        + [argument for url in scored.train_shards for argument in ("--train-shards", url)]
        + ["--questions-per-image", str(scored.questions_per_image), "--batch-size", str(scored.batch_size)]
        + ["--max-new-tokens", str(scored.max_new_tokens)]
        + (["--limit", str(scored.limit)] if scored.limit else []),
        folder / "eval.txt",
    )
    temporary.replace(folder / SCORES)


def _call(command: Sequence[str], log: Path) -> None:
    """Run a command with its output in `log`; its last line says what went wrong."""
    with log.open("w") as file:
        code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False).returncode
    if code:
        lines = log.read_text().strip().splitlines()
        raise UserError(f"{log} ends with: {lines[-1] if lines else f'exit code {code}'}")


def _row(run: Run, spec: StudySpec, folder: Path) -> dict[str, Any]:
    """Return what a run was and how well it did; its score is the mean over datasets and tasks."""
    metric = spec.evaluate.metric
    rows = json.loads((folder / SCORES).read_text())["rows"]
    scores = {f"{row['dataset']} {row['task']}": row["scores"][metric] for row in rows if metric in row["scores"]}
    if not scores:
        known = sorted({name for row in rows for name in row["scores"]})
        raise UserError(f"evaluate.metric: no task has {metric!r}; known here: {', '.join(known)}")
    about = json.loads((folder / "model" / RUN_FILE).read_text())
    return {
        "run": run.name,
        "mixture": run.mixture_name,
        "model": run.model,
        "steps": run.steps,
        "samples": (samples := run.steps * about["samples_per_step"]),
        "shares": shares_of(Mixture.load(folder / "mixture.yaml"), samples),
        "scores": scores,
        "unparsed": sum(row["unparsed"] for row in rows) / sum(row["questions"] for row in rows),
        "score": float(np.mean(list(scores.values()))),
    }


def shares_of(mixture: Mixture, samples: int | None = None) -> dict[str, float]:
    """Return the share of each member at the mixture's top, over a run of so many samples (None: the planned ones)."""
    shares: dict[str, float] = defaultdict(float, dict.fromkeys(datasets_of(mixture), 0.0))
    for part, share in zip(mixture.parts, mixture.shares_over_run(samples), strict=True):
        shares[part.name.partition("#")[0].partition("/")[0]] += share
    return dict(shares)
