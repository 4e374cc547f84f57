"""Evaluation results for people to read."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from vlm3train.evaluate import Row


def print_rows(rows: Sequence[Row], have_train_shards: bool) -> None:
    """Print one line per dataset, task and metric, the model beside its controls."""
    table = Table()
    for title in ("dataset", "task", "metric"):
        table.add_column(title)
    for title in ("model", "swapped images", "location prior", "median", "questions", "unparsed"):
        table.add_column(title, justify="right")
    for row in rows:
        for metric, value in row.model.items():
            controls = [
                "-" if control is None else f"{control[metric]:.3f}"
                for control in (row.swapped_images, row.location, row.median)
            ]
            counts = (str(row.questions), str(row.unparsed))
            table.add_row(row.dataset, row.task, metric, f"[bold]{value:.3f}[/]", *controls, *counts)
    console = Console()
    console.print(table)
    console.print(
        "swapped images: every question put to another sample's image; a model that sees beats it. "
        "Unparsed answers count as wrong.",
        style="dim",
    )
    if not have_train_shards:
        console.print("location prior and median are fitted on training data: give --train-shards.", style="dim")
