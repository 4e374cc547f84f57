"""A study for people: one table, one plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from vlm3data.types import UserError


def print_study(rows: Sequence[Mapping[str, Any]], metric: str) -> None:
    """Print the runs, the best first, with their scores on each dataset."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1))
    table.add_column("run", overflow="fold")
    for column in ("samples", f"mean {metric}", "unparsed"):
        table.add_column(column, justify="right", no_wrap=True)
    places = list(dict.fromkeys(place for row in rows for place in row["scores"]))
    for place in places if len(places) > 1 else []:
        table.add_column(place, justify="right", overflow="fold")
    for row in sorted(rows, key=lambda row: -row["score"]):
        each = [f"{row['scores'][place]:.3f}" if place in row["scores"] else "-" for place in places]
        cells = [f"{row['samples']:,}", f"[bold]{row['score']:.3f}[/]", f"{row['unparsed']:.1%}"]
        table.add_row(row["run"], *cells, *(each if len(places) > 1 else []))
    Console().print(table)


def plot_study(rows: Sequence[Mapping[str, Any]], metric: str, path: Path) -> None:
    """Write a PNG: the score over the samples seen, a line per mixture and model; bars where there is one budget."""
    try:
        import matplotlib as mpl
    except ModuleNotFoundError as error:
        raise UserError("--plot needs matplotlib: pip install 'vlm3[plot]'") from error
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    several = len({row["model"] for row in rows}) > 1
    lines: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        label = f"{row['mixture']}, {Path(row['model']).name}" if several else row["mixture"]
        lines.setdefault(label, []).append((row["samples"], row["score"]))
    figure, axes = plt.subplots(figsize=(9, 0.32 * len(lines) + 3), layout="constrained")
    if max(len(points) for points in lines.values()) == 1:
        ordered = sorted(lines, key=lambda label: lines[label][0][1])
        axes.barh(ordered, [lines[label][0][1] for label in ordered], color="tab:blue")
        axes.set(xlabel=f"mean {metric}")
    else:
        for label, points in lines.items():
            axes.plot(*zip(*sorted(points), strict=True), marker="o", label=label)
        axes.set(xscale="log", xlabel="samples seen", ylabel=f"mean {metric}")
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)
