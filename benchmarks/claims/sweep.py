"""A few recipes side by side for some minutes, to choose the one that the claims are tested with.

Every recipe gets the same GPU time: a short first run says how fast it is, and its steps follow from that.

Run: python -m benchmarks.claims.sweep --minutes 8 --out out/sweep
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.claims.arms import Arm, depth, held_out
from benchmarks.claims.pictures import build_missing
from benchmarks.claims.run import Run, Scoring
from benchmarks.claims.runner import Lab, gpu_count

VARIED = ("street", "room", "hall", "yard")
EVERY = ("court", *VARIED)
SCORING_S = 75
"""Kept for scoring at the end, all recipes at once."""
SHOWN = ("samples", "loss", "token_accuracy", "grad_norm", "samples_per_s")
"""Of the lines of a run's log."""


def variants(images: int, tests: int) -> list[Arm]:
    """Return the recipes; of each domain there are `images` for training, three times as many where it is alone."""
    court = (depth("court", 3 * images),)
    every = tuple(depth(domain, images) for domain in EVERY)
    on_court = (held_out("court", tests),)
    on_every = tuple(held_out(domain, tests) for domain in EVERY)
    return [
        Arm("court", court, on_court, train_settings={"compile": True}),
        Arm("every", every, on_every),
        Arm("every-3-pixels", every, on_every, pixels=3),
        Arm("every-smooth", every, on_every, size="mini-smooth"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", help="names of recipes, separated by commas")
    parser.add_argument("--quick", action="store_true", help="a few steps on a few images, for a look at the path")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        sweep(Path(work), arguments.out, arguments.minutes, arguments.only, arguments.quick)


def sweep(work: Path, out: Path, minutes: float, only: str | None, quick: bool) -> list[dict[str, Any]]:
    """Run the recipes, print their learning curves and return the results."""
    arms = variants(50, 20) if quick else variants(10_000, 200)
    if quick:
        arms = [replace(arm, size="tiny", train_settings={"batch_size": 4}) for arm in arms]
    if only:
        arms = [arm for arm in arms if arm.name in only.split(",")]
    scoring = Scoring(limit=4, prior_images=50) if quick else Scoring(limit=100)
    lab = Lab(work, out, minutes, per_gpu=-(-len(arms) // max(gpu_count(), 1)))
    runs = [Run(arm, 0, 2, scoring) for arm in arms]
    build_missing((one for run in runs for one in run.needs()), lab.shards, len(os.sched_getaffinity(0)), lab.tell)
    results = lab.do(runs if quick else timed(lab, runs))
    for result in results:
        print_curve(result)
    return results


def timed(lab: Lab, runs: Sequence[Run]) -> list[Run]:
    """Return the runs with as many steps as fit, from how fast short ones of all of them at once were."""
    trials = [replace(run, arm=replace(run.arm, name=f"{run.arm.name}-trial", tests=()), steps=40) for run in runs]
    lab.tell("measuring the speed")
    before = lab.seconds_left
    rates = {}
    for result in lab.do(trials):
        # Of the second half: what is compiled and loaded by then.
        rate = median(line["samples_per_s"] for line in result["log"][len(result["log"]) // 2 :])
        rates[result["arm"].removesuffix("-trial")] = rate
        lab.tell(f"{result['arm']}: {rate:.0f} samples/s")
    budget = lab.seconds_left - SCORING_S - min(before - lab.seconds_left, 40)
    return [
        replace(run, steps=max(10, int(0.93 * budget * rates[run.arm.name] / run.arm.sft()["batch_size"])))
        for run in runs
    ]


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
