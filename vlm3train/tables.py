"""Evaluation results for people to read."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from vlm3train.evaluate import Row

NOTE = """\
swapped   every question put to another sample's image: a model that looks beats it
location  the median depth of training pixels in the same cell of the image
median    the median depth of all training pixels
unparsed  answers without a number; they count as wrong"""


def print_rows(rows: Sequence[Row], have_train_shards: bool) -> None:
    """Print one line per model, dataset, task and metric, the score beside its controls."""
    table = Table(box=SIMPLE_HEAD)
    table.add_column("model", overflow="fold")
    table.add_column("dataset", overflow="fold")
    table.add_column("metric")
    for title in ("score", "swapped", "location", "median", "asked", "unparsed"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        for metric, value in row.scores.items():
            controls = [
                "-" if control is None else f"{control[metric]:.3f}"
                for control in (row.swapped_images, row.location, row.median)
            ]
            counts = (f"{row.questions:,}", f"{row.unparsed:,}")
            table.add_row(row.model, row.dataset, f"{row.task} {metric}", f"[bold]{value:.3f}[/]", *controls, *counts)
    console = Console()
    console.print(table)
    console.print(NOTE, style="dim")
    if not have_train_shards:
        console.print("location and median are fitted on training data: give --train-shards", style="dim")
