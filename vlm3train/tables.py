"""Evaluation results for people to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from vlm3train.evaluate import Row

WITHOUT_TRAINING_DATA = "the median and the location prior are fitted on training data: give --train-shards"


def print_rows(rows: Sequence[Row], have_train_shards: bool) -> None:
    """Print one table per dataset and task: what could be guessed without looking, then each model."""
    console = Console()
    ordered = sorted(rows, key=lambda row: (row.dataset, row.task))
    for (dataset, task), group in groupby(ordered, key=lambda row: (row.dataset, row.task)):
        of_models = list(group)
        metrics = list(dict.fromkeys(metric for row in of_models for metric in row.scores))
        what = f"{task} {metrics[0]}" if len(metrics) == 1 else task
        console.print(
            f"\n[bold]{dataset}[/]: {what}, {of_models[0].questions:,} questions", highlight=False, soft_wrap=True
        )
        console.print(_table(of_models, metrics[0]) if len(metrics) == 1 else _wide_table(of_models, metrics))
    if not have_train_shards and any(row.task == "depth" for row in rows):
        console.print(WITHOUT_TRAINING_DATA, style="dim")


def _wide_table(rows: Sequence[Row], metrics: Sequence[str]) -> Table:
    """Return a table with a row a metric, for tasks that have many."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1))
    table.add_column("metric")
    for row in rows:
        table.add_column(row.model, justify="right", overflow="fold")
        if row.swapped_images is not None:
            table.add_column("other image", justify="right")
    for metric in metrics:
        cells = []
        for row in rows:
            cells.append(f"[bold]{_shown(row.scores, metric)}[/]")
            if row.swapped_images is not None:
                cells.append(_shown(row.swapped_images, metric))
        table.add_row(metric, *cells)
    counts = [cell for row in rows for cell in ([f"{row.unparsed:,}"] + ([""] if row.swapped_images else []))]
    table.add_row("unparsed answers", *counts)
    return table


def _table(rows: Sequence[Row], metric: str) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1))
    table.add_column("answered by", overflow="fold")
    table.add_column(metric, justify="right", no_wrap=True)
    table.add_column("unparsed", justify="right", no_wrap=True)
    guesses = (
        ("median depth of the training pixels", rows[0].median),
        ("location prior: their median in the same cell of the image", rows[0].location),
    )
    for name, scores in guesses:
        if scores is not None:
            table.add_row(name, _shown(scores, metric), "-")
    for row in rows:
        table.add_row(f"[bold]{row.model}[/]", f"[bold]{_shown(row.scores, metric)}[/]", f"{row.unparsed:,}")
        if row.swapped_images is not None:
            table.add_row("  the same, looking at another sample's image", _shown(row.swapped_images, metric), "")
    return table


def _shown(scores: Mapping[str, float], metric: str) -> str:
    """Return the score as text; a metric that no answer counts towards is missing there."""
    return f"{scores[metric]:.3f}" if metric in scores else "-"
