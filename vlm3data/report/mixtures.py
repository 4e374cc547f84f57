"""Mixtures for people to read: shares, plans, warnings, differences, and what a simulated run drew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from vlm3data.mixture import Mixture
from vlm3data.report.palette import dataset_colours
from vlm3data.simulate import Simulation
from vlm3data.terminal import open_console
from vlm3data.types import Float64Array, UserError

FEW = 1e-3
"""A dataset below this share is hardly seen."""
CHARS_PER_TOKEN = 2.2
"""Roughly: Qwen's tokenizer gives every digit a token of its own: the 11 characters of "4.78 meters" are five."""
BARS = " ▁▂▃▄▅▆▇█"


def warnings_of(mixture: Mixture, rows: Sequence[Mapping[str, Any]], max_epochs: float) -> list[str]:
    """Return what a person should know before training: repeats, rarities, missing shards."""
    warnings = []
    for row in rows:
        if row["epochs"] is not None and row["epochs"] > max_epochs:
            warnings.append(f"{row['dataset']}: every sample is seen {row['epochs']:.1f} times over")
        if 0 < row["share"] < FEW:
            warnings.append(f"{row['dataset']}: fewer than one sample in a thousand ({row['share']:.5f})")
    for part in mixture.parts:
        if part.dataset is not None and (missing := part.dataset.missing_shards()):
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            warnings.append(f"{part.name}: {missing[0]}{more} of {part.dataset.url} is missing")
    return warnings


def print_mixture(rows: Sequence[Mapping[str, Any]], spec: str, samples: int | None, warnings: Sequence[str]) -> None:
    """Print shares, what they mean for a run of `samples`, and warnings."""
    table = _table(f"{spec}" + (f", {samples:,} samples" if samples else ""))
    columns = {
        "weight": [_shown(row["weight"], "{:g}") for row in rows],
        "share": [_shown(row["share"], "{:.4f}") for row in rows],
        "size": [_shown(row["size"], "{:,}") for row in rows],
        "samples": [_shown(row["samples"], "{:,.0f}") for row in rows],
        "epochs": [_shown(row["epochs"], "{:.2f}") for row in rows],
        "tokens": [_shown(row["answer_chars"], "~{:,.0f}", 1 / CHARS_PER_TOKEN) for row in rows],
        "GB": [_shown(row["bytes"], "{:,.1f}", 1e-9) for row in rows],
    }
    known = {name: cells for name, cells in columns.items() if any(cell != "-" for cell in cells)}
    for name in known:
        table.add_column(name, justify="right", no_wrap=True)
    for row, cells in zip(rows, zip(*known.values(), strict=True), strict=True):
        table.add_row(row["dataset"], *cells)
    console = open_console()
    console.print(table)
    for warning in warnings:
        console.print(f"[yellow]warning[/]: {escape(warning)}", markup=True, soft_wrap=True, highlight=False)


def differences(before: Mixture, after: Mixture) -> list[dict[str, Any]]:
    """Return a row for every dataset of either mixture: its shares over the run, and what else of it changed."""
    described = [
        {
            part.name: (part, share, _course(mixture, number))
            for number, (part, share) in enumerate(zip(mixture.parts, mixture.shares_over_run(), strict=True))
        }
        for mixture in (before, after)
    ]
    rows = []
    for name in dict.fromkeys([*described[0], *described[1]]):
        pair = [known.get(name) for known in described]
        shares = [None if one is None else one[1] for one in pair]
        changed = [] if None in pair else _changes(*(one[0] for one in pair if one is not None))
        if None not in pair and len({one[2] for one in pair if one is not None}) > 1:
            changed.append("schedule")
        moved = None in shares or not np.isclose(shares[0] or 0.0, shares[1] or 0.0, rtol=1e-9)
        rows.append(
            {
                "dataset": name,
                "before": shares[0],
                "after": shares[1],
                "changed": changed,
                "differs": moved or bool(changed),
            }
        )
    return rows


def _course(mixture: Mixture, number: int) -> tuple[Any, ...]:
    """Return how the share of a part changes over the run; nothing where it does not."""
    stretches = mixture.course.stretches if mixture.spec.schedule else ()
    return tuple((begin, first[number], last[number], length) for begin, first, last, length in stretches)


def _changes(one: Any, other: Any) -> list[str]:
    changed = [key for key in ("shards", "size", "pixels") if getattr(one.entry, key) != getattr(other.entry, key)]
    if one.selection != other.selection:
        changed.append("selection")
    if one.seen != other.seen:
        changed.append("unify")
    if one.dataset is not None and other.dataset is not None and one.dataset.fingerprint != other.dataset.fingerprint:
        changed.append("data")
    return changed


def print_differences(rows: Sequence[Mapping[str, Any]], before: str, after: str) -> None:
    """Print the differences of two mixtures."""
    table = _table(f"{before} -> {after}")
    for column in ("share before", "after", "change"):
        table.add_column(column, justify="right")
    table.add_column("also changed")
    for row in rows:
        change = None if None in (row["before"], row["after"]) else row["after"] - row["before"]
        table.add_row(
            row["dataset"],
            _shown(row["before"], "{:.4f}"),
            _shown(row["after"], "{:.4f}"),
            "" if not row["differs"] else _shown(change, "{:+.4f}"),
            ", ".join(row["changed"]),
        )
    open_console().print(table)


def print_simulation(simulation: Simulation, spec: str) -> None:
    """Print what was drawn of each dataset, and its share over the run as a line of bars."""
    shares = _shares(simulation)
    table = _table(f"{spec}, {simulation.positions[-1]:,} positions drawn")
    for column in ("drawn", "planned", "epochs"):
        table.add_column(column, justify="right")
    table.add_column("share over the run", no_wrap=True)
    top = shares.max()
    for i, name in enumerate(simulation.names):
        table.add_row(
            name,
            f"{simulation.drawn[-1, i]:,}",
            f"{simulation.planned[-1, i]:,.1f}",
            f"{simulation.epochs[i]:.2f}",
            _bars(shares[:, i] / top),
        )
    console = open_console()
    console.print(table)
    largest = float(np.abs(simulation.drawn - simulation.planned).max())
    console.print(f"drawn and planned counts never differ by more than {largest:.2f} samples", highlight=False)


def plot_shares(simulation: Simulation, spec: str, path: str) -> None:
    """Write a PNG with the shares over the run, the datasets in the order of the file from the bottom up."""
    try:
        import matplotlib as mpl
    except ModuleNotFoundError as error:
        raise UserError("--plot needs matplotlib: pip install 'vlm3[plot]'") from error
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    shares = _shares(simulation)
    figure, axes = plt.subplots(figsize=(9, 5), layout="constrained")
    middles = (simulation.positions[1:] + simulation.positions[:-1]) / 2
    colours = list(dataset_colours(simulation.names).values())
    axes.stackplot(middles, shares.T, labels=simulation.names, colors=colours, linewidth=0)
    axes.set(xlabel="position in the stream", ylabel="share of the samples drawn", ylim=(0, 1), title=spec)
    axes.margins(x=0)
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _shares(simulation: Simulation) -> Float64Array:
    """Return (points - 1, datasets): the shares drawn between each two of the positions."""
    return np.diff(simulation.drawn, axis=0) / np.diff(simulation.positions)[:, None]


def _bars(values: Float64Array, width: int = 24) -> str:
    means = [float(chunk.mean()) for chunk in np.array_split(values, min(width, len(values)))]
    return "".join(BARS[min(len(BARS) - 1, round(mean * (len(BARS) - 1)))] for mean in means)


def _table(title: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("dataset", overflow="fold")
    return table


def _shown(value: float | None, form: str, times: float = 1) -> str:
    return "-" if value is None else form.format(value * times)
