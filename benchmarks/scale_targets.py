"""What `benchmarks.scale` has measured so far, held against what it should be: one row a target."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

Rows = Sequence[Mapping[str, Any]]


class Target(NamedTuple):
    """One number that is wanted."""

    what: str
    file: str
    """The result that holds it."""
    wanted: str
    measured: Callable[[Rows], float]
    met: Callable[[float], bool]


def _of(column: str, row: int = -1) -> Callable[[Rows], float]:
    return lambda rows: float(rows[row][column])


def _last_to_first(column: str, first: int) -> Callable[[Rows], float]:
    """Return the mean of the last three tenths against that of three from `first` on."""
    return lambda rows: mean(row[column] for row in rows[-3:]) / mean(row[column] for row in rows[first : first + 3])


TARGETS = (
    Target("plan of 26 M frames, 50 a scene: s", "scale_plan", "< 300", _of("plan s", 0), lambda s: s < 300),
    Target("plan of 26 M frames, a scene each: s", "scale_plan", "< 300", _of("plan s"), lambda s: s < 300),
    Target("its peak memory: MB", "scale_plan", "< 2,000", _of("peak MB"), lambda mb: mb < 2000),
    Target("2 cores: times one core", "scale_cores_2", ">= 1.75", _of("times one core", 1), lambda x: x >= 1.75),
    Target("16 cores: times one core", "scale_cores_16", ">= 12", _of("times one core", 1), lambda x: x >= 12),
    Target("Ray: times the local engine", "scale_ray", "<= 1.10", _of("times the local time"), lambda x: x <= 1.1),
    Target(
        "long build: rate at the end, times that at the start", "scale_build", "0.9 to 1.1",
        _last_to_first("images/s", 1), lambda x: 0.9 <= x <= 1.1,
    ),
    Target(
        "driver's memory at the end, times that before", "scale_build", "<= 1.1",
        _last_to_first("driver MB", 1), lambda x: x <= 1.1,
    ),
    Target(
        "largest worker's memory, the same", "scale_build", "<= 1.1",
        _last_to_first("largest worker MB", 1), lambda x: x <= 1.1,
    ),
    Target(
        "nuScenes frames: times the published curation", "scale_curation", "<= 1.0",
        _of("times the published", 1), lambda x: x <= 1,
    ),
    Target(
        "rerender: times a hashed copy of the tars", "rerender", "1 (<= 1.1)",
        _of("times the copy", 1), lambda x: x <= 1.1,
    ),
    Target(
        "--store original, as built: times unified shards", "stream_original", "measured",
        _of("times the time of unified shards", 1), lambda x: x > 0,
    ),
)  # fmt: skip


def against_targets(results: Path, suffix: str) -> list[dict[str, str]]:
    """Return a row a target from the results that there are; `suffix` is that of quick ones."""
    rows = []
    for target in TARGETS:
        file = results / f"{target.file}{suffix}.json"
        row = {"what": target.what, "wanted": target.wanted, "measured": "-", "met": "not measured", "machine": ""}
        if file.exists():
            found = json.loads(file.read_bytes())
            value = target.measured(found["rows"])
            machine = found["machine"]
            row |= {"measured": f"{value:,.3g}", "met": "yes" if target.met(value) else "no"}
            row["machine"] = f"{machine['cpu']}, {machine['cores']} cores"
        rows.append(row)
    return rows
