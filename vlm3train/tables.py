"""Evaluation results for people to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from vlm3train.scoring import MODEL, Row

WITHOUT_TRAINING_DATA = "the guesses without the image are fitted on training data: give --train-shards"
OTHER_IMAGE = "the same, looking at another sample's image"
GUESSES = {
    "median": "median depth of the training pixels",
    "location": "location prior: their median in the same cell of the image",
    "constant": "constant: the best single answer",
    "same_place": "same place: the pixel that was asked about",
}


def print_rows(rows: Sequence[Row], have_train_shards: bool, notes: Sequence[str] = ()) -> None:
    """Print one table per dataset and task: what could be guessed without looking, then each model."""
    console = Console()
    ordered = sorted(rows, key=lambda row: (row.dataset, row.task))
    for (dataset, task), group in groupby(ordered, key=lambda row: (row.dataset, row.task)):
        of_models = list(group)
        metrics = list(dict.fromkeys(metric for row in of_models for metric in row.scores))
        what = f"{task} {metrics[0]}" if len(metrics) == 1 else task
        count = f"{of_models[0].questions:,} questions about {of_models[0].images:,} "
        count += "pairs of images" if task in ("correspondence", "pose") else "images"
        console.print(f"\n[bold]{dataset}[/]: {what}, {count}", highlight=False, soft_wrap=True)
        console.print(_table(of_models, metrics[0]) if len(metrics) == 1 else _wide_table(of_models, metrics))
    for note in [*notes, *([] if have_train_shards or not rows else [WITHOUT_TRAINING_DATA])]:
        console.print(note, style="dim", soft_wrap=True)


def guesses(row: Row) -> dict[str, dict[str, float]]:
    """Return the scores of everything that looks at no image, by name."""
    known = {"median": row.median, "location": row.location} | row.controls
    return {name: scores for name, scores in known.items() if scores is not None}


def _table(rows: Sequence[Row], metric: str) -> Table:
    """Return a table with a line for each who answered, for tasks with one metric."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1))
    table.add_column("answered by", overflow="fold")
    for column in (metric, "95 %", "unparsed"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, scores in guesses(rows[0]).items():
        table.add_row(GUESSES.get(name, name), _shown(scores, metric), _interval(rows[0], name, metric), "-")
    for row in rows:
        score = f"[bold]{_shown(row.scores, metric)}[/]"
        table.add_row(f"[bold]{row.model}[/]", score, _interval(row, MODEL, metric), f"{row.unparsed:,}")
        for name in row.more:
            table.add_row(f"  {name.replace('_', ' ')}", _shown(row.more, name), _interval(row, MODEL, name), "")
        if row.swapped_images is not None:
            swapped = _shown(row.swapped_images, metric), _interval(row, "swapped_images", metric)
            table.add_row(f"  {OTHER_IMAGE}", *swapped, "")
    return table


def _wide_table(rows: Sequence[Row], metrics: Sequence[str]) -> Table:
    """Return a table with a row a metric, for tasks that have many."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1))
    table.add_column("metric")
    known = guesses(rows[0])
    for name in known:
        table.add_column(name.replace("_", " "), justify="right")
    for row in rows:
        table.add_column(row.model, justify="right", overflow="fold")
        table.add_column("95 %", justify="right")
        if row.swapped_images is not None:
            table.add_column("other image", justify="right")
    for metric in metrics:
        cells = [_shown(scores, metric) for scores in known.values()]
        for row in rows:
            cells += [f"[bold]{_shown(row.scores, metric)}[/]", _interval(row, MODEL, metric)]
            if row.swapped_images is not None:
                cells.append(_shown(row.swapped_images, metric))
        table.add_row(metric, *cells)
    for metric in dict.fromkeys(name for row in rows for name in row.more if name.startswith("median_")):
        cells = [""] * len(known)
        for row in rows:
            cells += [_shown(row.more, metric), _interval(row, MODEL, metric)]
            cells += [""] if row.swapped_images is not None else []
        table.add_row(metric.replace("median_", "median "), *cells)
    counts = [""] * len(known)
    for row in rows:
        counts += [f"{row.unparsed:,}", "", *([""] if row.swapped_images is not None else [])]
    table.add_row("unparsed answers", *counts)
    return table


def _shown(scores: Mapping[str, float], metric: str) -> str:
    """Return the score as text; a metric that no answer counts towards is missing there."""
    return f"{scores[metric]:.3f}" if metric in scores else "-"


def _interval(row: Row, who: str, metric: str) -> str:
    low, high = row.intervals.get(who, {}).get(metric, (float("nan"),) * 2)
    return f"{low:.3f} to {high:.3f}" if low == low else "-"
