"""A few recipes, each alone on a GPU for some minutes, to choose the one that the claims are tested with.

A recipe's steps follow from the time and from how fast its first steps are, which are done beforehand and thrown away:
a run that is stopped before its learning rate has fallen is no measure of the recipe.

Run: python -m benchmarks.claims.sweep --minutes 9 --out out/sweep
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.claims.arms import QUICKLY, Arm, depth, held_out
from benchmarks.claims.pictures import build_missing
from benchmarks.claims.run import Run, Scoring
from benchmarks.claims.runner import Lab

EVERY = ("court", "street", "room", "hall", "yard")
SCORING_S = 75
START_S = 25
"""From the command to the first step."""
PILOT_STEPS = 240
MARGIN = 0.95
"""Of the speed that is measured: what is slower than expected would be stopped."""
SHOWN = ("samples", "loss", "token_accuracy", "grad_norm", "samples_per_s")
"""Of the lines of a run's log."""


def variants(images: int, tests: int) -> list[Arm]:
    """Return the recipes; of each domain there are `images` for training.

    Both begin with image positions that are waves: stock ones are a twentieth of what the patches give, and text
    coordinates can only be looked up in the picture once positions are as loud as colours. They differ in how much
    they are helped by answers before: with ten questions a sample nine answers stand beside known depths of the same
    picture, which a model scored on single questions will not have; with four it sees a third more pictures.
    """
    train = tuple(depth(domain, images) for domain in EVERY)
    test = tuple(held_out(domain, tests) for domain in EVERY)
    settings = {"batch_size": 256, "weight_decay": 0.05}  # some ten epochs of the same pictures
    return [
        Arm("every", train, test, size="mini-smooth", train_settings=settings),
        Arm("every-4-pixels", train, test, size="mini-smooth", pixels=4, train_settings=settings),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9.0, help="0: build the datasets, and end")
    parser.add_argument("--shards", type=Path, help="keep the datasets here, for later runs")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", help="names of recipes, separated by commas")
    parser.add_argument("--quick", action="store_true", help="a few steps on a few images, for a look at the path")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        lab = Lab(Path(work), arguments.out, arguments.minutes, per_gpu=1, shards=arguments.shards)
        sweep(lab, arguments.only, arguments.quick)


def sweep(lab: Lab, only: str | None, quick: bool) -> list[dict[str, Any]]:
    """Run the recipes, print their learning curves and return the results."""
    arms = variants(50, 20) if quick else variants(30_000, 300)
    if only:
        arms = [arm for arm in arms if arm.name in only.split(",")]
    if quick:
        arms = [replace(arm, size="tiny", train_settings=QUICKLY) for arm in arms]
    scoring = Scoring(limit=4, prior_images=50) if quick else Scoring(limit=150, reserve_s=SCORING_S)
    runs = [Run(arm, 0, 2, scoring) for arm in arms]
    build_missing((one for run in runs for one in run.needs()), lab.shards, len(os.sched_getaffinity(0)), lab.tell)
    for run in runs:
        run.prepare(lab)
    results = lab.do(runs if quick else timed(lab, runs))
    for result in results:
        print_curve(result)
    return results


def timed(lab: Lab, runs: Sequence[Run]) -> list[Run]:
    """Return the runs, each with as many steps as the time allows at the speed of its first ones."""
    with ThreadPoolExecutor(lab.at_once) as pool:
        speeds = list(pool.map(partial(samples_per_s, lab), runs))
    seconds = lab.seconds_left - START_S
    steps = [
        MARGIN * speed * (seconds - run.scoring.reserve_s) / run.arm.sft()["batch_size"]
        for run, speed in zip(runs, speeds, strict=True)
    ]
    return [replace(run, steps=max(10, int(count))) for run, count in zip(runs, steps, strict=True)]


def samples_per_s(lab: Lab, run: Run) -> float:
    """Train the run's first steps and return how many samples a second it takes in the later ones of them."""
    with lab.place() as gpu:
        log = replace(run, steps=PILOT_STEPS, scoring=Scoring()).learning_curve(lab, gpu)
    speed = median(line["samples_per_s"] for line in log[len(log) // 2 :])
    lab.tell(f"{run.name}: {speed:,.0f} samples/s")
    return speed


def print_curve(result: dict[str, Any]) -> None:
    """Print how the loss fell."""
    print(f"\n{result['run']}: {result['steps']} steps in {result['train_s']} s, {result['settings']}")
    for line in result["log"][:: max(1, len(result["log"]) // 12)]:
        print("  " + "  ".join(f"{key} {line[key]:.5g}" for key in SHOWN if line.get(key) is not None))
    for row in result["rows"]:
        controls = f"other image {row['swapped_images']}  prior {row['location']}"
        print(f"  {Path(row['dataset']).name}: {row['scores']}  {controls}")


if __name__ == "__main__":
    main()
