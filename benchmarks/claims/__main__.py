"""Runs the arms of one or more claims until a time limit; what is done already is left out.

Every part is one command that needs nothing but the repository: it builds the shards, writes the models, trains and
scores. Parts: main (the longest run), focal (claims 1, 5, 6), pixels (2, 3), mixtures (4), tasks (7).

Run: python -m benchmarks.claims --part focal --minutes 8.5 --out out/claims --have benchmarks/results/claims
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.claims import mixtures
from benchmarks.claims.arms import QUICKLY, RECIPE, STEPS, Arm
from benchmarks.claims.claims import arms, main_arm
from benchmarks.claims.pictures import Pictures, build_missing
from benchmarks.claims.run import Run, Scoring
from benchmarks.claims.runner import Lab, finished
from benchmarks.claims.sweep import SCORING_S, timed

PARTS = {
    "main": ("main",),
    "focal": ("unified", "not-unified", "euclidean", "processor-resized"),
    "pixels": ("text", "marker", "ten-pixels", "one-pixel", "one-pixel-longer"),
    "mixtures": (),
    "tasks": ("all-tasks", "only-depth", "only-correspondence", "only-pose", "only-objects"),
}
QUICK = 0.001
"""Of the images, for a look at the path."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, required=True)
    parser.add_argument("--out", type=Path, required=True, help="where runs.jsonl and log.txt go")
    parser.add_argument("--have", type=Path, action="append", default=[], help="directories with earlier results")
    parser.add_argument("--minutes", type=float, default=8.5, help="what is not finished by then is given up; 0: build")
    parser.add_argument("--shards", type=Path, help="keep the datasets here, for later runs of this part")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--steps", type=int, default=STEPS, help="of the runs; those of `main` follow from --minutes and its speed"
    )
    parser.add_argument("--per-gpu", type=int, default=2, help="processes on every GPU: one starts as another trains")
    parser.add_argument("--arms", help="only these of the part, separated by commas")
    parser.add_argument("--quick", action="store_true", help="two steps on a few images, for a look at the path")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        lab = Lab(Path(work), told.out, told.minutes, 1 if told.part == "main" else told.per_gpu, told.shards)
        have = finished([*told.have, told.out])
        only = told.arms.split(",") if told.arms else PARTS[told.part]
        run_part(lab, told.part, only, range(told.seeds), told.steps, have, quick=told.quick)


def run_part(
    lab: Lab,
    part: str,
    only: Iterable[str],
    seeds: Sequence[int],
    steps: int,
    have: list[dict[str, Any]],
    *,
    quick: bool = False,
) -> list[dict[str, Any]]:
    """Do what is missing of a part; return the new results."""
    done = {result["run"] for result in have}
    if part == "mixtures":
        return _mixtures(lab, seeds, steps, have, quick)
    main_scoring = Scoring(limit=4, prior_images=100) if quick else Scoring(reserve_s=SCORING_S)
    scoring = Scoring(limit=4, prior_images=100) if quick else Scoring()
    chosen = [_small(arm) if quick else arm for arm in _arms(part, quick) if arm.name in only]
    # Seeds take turns, so that what is finished at the limit compares all arms.
    runs = [Run(arm, seed, 2 if quick else int(steps * arm.length), scoring) for seed in seeds for arm in chosen]
    runs = [run for run in runs if run.name not in done]
    if part == "main":
        runs = [replace(run, whole_machine=True, scoring=main_scoring) for run in runs[:1]]
    _build(lab, (one for run in runs for one in run.needs()))
    if part == "main" and not quick:
        for run in runs:
            run.prepare(lab)
        runs = timed(lab, runs)
    return lab.do(runs)


def _arms(part: str, quick: bool) -> list[Arm]:
    if part == "main":
        return [main_arm(QUICK if quick else 1.0)]
    return list(arms(QUICK if quick else 1.0).values())


def _small(arm: Arm) -> Arm:
    return replace(arm, size="tiny", train_settings=arm.train_settings | QUICKLY)


def _mixtures(
    lab: Lab, seeds: Sequence[int], steps: int, have: list[dict[str, Any]], quick: bool
) -> list[dict[str, Any]]:
    """Search where nothing was found yet, then compare."""
    sizes = mixtures.Sizes(QUICK, 2, RECIPE | QUICKLY, "tiny") if quick else mixtures.Sizes(1.0, steps, RECIPE)
    _build(lab, [*sizes.train().values(), *sizes.tests()])
    done = {result["run"] for result in have}
    searches = [study for study in mixtures.searches(sizes) if study.name not in done]
    new = lab.do(searches)
    if missing := len(searches) - len(new):
        lab.tell(f"the mixtures wait for {missing} short runs")
        return new
    return new + lab.do(mixtures.comparisons(sizes, seeds, [*have, *new]))


def _build(lab: Lab, pictures: Iterable[Pictures]) -> None:
    build_missing(pictures, lab.shards, len(os.sched_getaffinity(0)), lab.tell)


if __name__ == "__main__":
    main()
