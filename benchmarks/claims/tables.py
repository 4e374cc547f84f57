"""From results to tables: means and spreads over seeds, and a verdict that follows from them alone."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.claims.claims import Claim

Result = Mapping[str, Any]
DASH = "-"
METRICS = {"depth": "delta1", "correspondence": "within_5px", "pose": "rra@15", "objects": "success"}
"""One share of right answers a task."""


@dataclass(frozen=True)
class Scored:
    """What the seeds of one arm came to."""

    arm: str
    values: list[float]
    """One a seed: the mean over datasets."""
    other_image: float | None
    prior: float | None
    constant: float | None
    """The best answer that is the same for every question, or the training median of depth."""
    samples: int

    @property
    def mean(self) -> float:
        """Return the mean over seeds."""
        return statistics.mean(self.values)

    @property
    def spread(self) -> float:
        """Return the difference between the best and the worst seed."""
        return max(self.values) - min(self.values)


def scored(results: Iterable[Result], arm: str, task: str = "depth") -> Scored | None:
    """Return an arm's scores in a task; None where no run of it is there."""
    of_arm = [result for result in results if result["arm"] == arm]
    per_seed = [[row for row in result["rows"] if row["task"] == task] for result in of_arm]
    if not of_arm or not all(per_seed):
        return None
    rows = [row for rows in per_seed for row in rows]
    return Scored(
        arm,
        [_mean(rows, "scores") or 0.0 for rows in per_seed],
        _mean(rows, "swapped_images"),
        _mean(rows, "location"),
        _mean(
            [row | {"constant": row.get("controls", {}).get("constant") or row.get("median")} for row in rows],
            "constant",
        ),
        of_arm[0]["samples"],
    )


def claim_table(claim: Claim, results: Sequence[Result]) -> list[str]:
    """Return the lines of a claim's table and what follows from it."""
    found = [one for arm in claim.arms if (one := scored(results, arm))]
    missing = [arm for arm in claim.arms if arm not in {one.arm for one in found}]
    lines = ["| trained with | seeds | samples | δ1 | worst to best seed | other image | prior |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for one in found:
        cells = [one.arm, str(len(one.values)), f"{one.samples:,}", f"**{one.mean:.3f}**"]
        cells += [f"{min(one.values):.3f} to {max(one.values):.3f}", _shown(one.other_image), _shown(one.prior)]
        lines.append(f"| {' | '.join(cells)} |")
    if not found:
        lines = []
    lines += ["", *(verdict(found[0], other) for other in found[1:] if found[0].arm == claim.arms[0])]
    return lines + ([f"Not run yet: {', '.join(missing)}."] if missing else [])


def task_table(results: Sequence[Result], together: str = "all-tasks") -> list[str]:
    """Return the lines of the table of claim 7: each task learnt with the others, and alone."""
    lines = ["| task | metric | together | alone | other image, together | other image, alone | constant |"]
    lines += ["|---|---|---|---|---|---|---|"]
    verdicts = []
    for task, metric in METRICS.items():
        with_others, alone = scored(results, together, task), scored(results, f"only-{task}", task)
        if with_others is None or alone is None:
            verdicts.append(f"Not run yet: {task}, together or alone.")
            continue
        cells = [task, metric, f"**{with_others.mean:.3f}**", f"**{alone.mean:.3f}**"]
        cells += [_shown(with_others.other_image), _shown(alone.other_image), _shown(with_others.constant)]
        lines.append(f"| {' | '.join(cells)} |")
        verdicts.append(f"{task}: {verdict(with_others, alone)}")
    return [*(lines if len(lines) > 2 else []), "", *verdicts]


def main_table(result: Result) -> list[str]:
    """Return the lines of the longest run's table, a row a domain."""
    lines = ["| domain | median | location prior | other image | **model** | 95 % |", "|---|---|---|---|---|---|"]
    for row in result["rows"]:
        metric = METRICS[row["task"]]
        interval = row.get("intervals", {}).get("model", {}).get(metric)
        cells = [domain_of(row["dataset"]), *(_shown((row[name] or {}).get(metric)) for name in CONTROLS)]
        cells += [f"**{row['scores'][metric]:.3f}**", f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else DASH]
        lines.append(f"| {' | '.join(cells)} |")
    means = [_mean(result["rows"], name) for name in (*CONTROLS, "scores")]
    return [*lines, f"| mean | {' | '.join(_shown(mean) for mean in means)} | |"]


CONTROLS = ("median", "location", "swapped_images")


def verdict(favoured: Scored, other: Scored) -> str:
    """Return in a sentence whether the difference of two arms is larger than what seeds alone make."""
    difference = favoured.mean - other.mean
    said = f"{favoured.arm} against {other.arm}: {difference:+.3f}"
    if min(len(favoured.values), len(other.values)) < 2:
        return f"{said}, with one seed, so that nothing can be said of its spread."
    spread = max(favoured.spread, other.spread)
    if abs(difference) <= spread:
        return f"{said}, **not larger** than the spread of the seeds ({spread:.3f})."
    return f"{said}, **larger** than the spread of the seeds ({spread:.3f})."


def domain_of(dataset: str) -> str:
    """Return what a held-out dataset is called."""
    return Path(dataset).name.partition("-test")[0]


def _mean(rows: Iterable[Mapping[str, Any]], of: str) -> float | None:
    values = [row[of][METRICS[row["task"]]] for row in rows if row.get(of)]
    return statistics.mean(values) if values else None


def _shown(value: float | None) -> str:
    return DASH if value is None else f"{value:.3f}"
