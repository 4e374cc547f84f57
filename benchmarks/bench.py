"""What the benchmarks share: alternating timings on one core, a table, a JSON file that says the machine."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"


def one_core() -> None:
    """Keep this process on one core, so that no library's threads count as speed."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def alternate(
    contenders: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.process_time
) -> dict[str, list[float]]:
    """Return seconds of CPU time per contender and round; taken in turns, so that all see the same disturbances.

    CPU time, because everything compared here runs on one core out of the page cache: what else the machine
    does meanwhile then hardly counts. Another `clock` is `time.perf_counter`.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for contender in contenders.values():
        contender()  # warm caches, once each
    for _ in range(rounds):
        for name, contender in contenders.items():
            start = clock()
            contender()
            seconds[name].append(clock() - start)
    return seconds


def ratio(slow: Sequence[float], fast: Sequence[float]) -> float:
    """Return the median over the rounds of `slow` / `fast`, each pair measured side by side."""
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


def report(name: str, rows: Sequence[Mapping[str, object]], note: str, results: Path = RESULTS) -> None:
    """Print `rows` as a table and write them to `<results>/<name>.json` with the machine they came from."""
    table = Table(title=f"{name}: {note}", title_justify="left")
    for column in rows[0]:
        table.add_column(column, justify="left" if isinstance(rows[0][column], str) else "right")
    for row in rows:
        table.add_row(*(f"{value:,.3g}" if isinstance(value, float) else str(value) for value in row.values()))
    Console(width=140).print(table)
    results.mkdir(parents=True, exist_ok=True)
    result = {"benchmark": name, "note": note, "machine": machine(), "rows": list(rows)}
    (results / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")


def machine() -> dict[str, object]:
    """Return what a reader needs to know of the machine."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    return {"cpu": model, "cores": os.cpu_count(), "python": platform.python_version()}
