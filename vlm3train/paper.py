"""The paper's tables beside one's own scores, with what differs in how they were taken."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from vlm3data.config import Config
from vlm3train.scoring import Row

PAPER = Path(__file__).with_name("paper.yaml")
THIS_DATA = "this data"
"""The column of a dataset that the paper does not have."""
WIDEST = 200
"""Characters of a table's line."""


class PaperTable(Config):
    """One table: its columns are datasets where it has one `metric`, else our names of the metrics."""

    task: str
    title: str
    columns: dict[str, str | tuple[str, ...]]
    rows: dict[str, tuple[float, ...]]
    differs: tuple[str, ...]
    metric: str | None = None
    scale: float = 1.0
    digits: int = 3


class Paper(Config):
    """All of them."""

    tables: tuple[PaperTable, ...]


def beside(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return, a table of the paper, its numbers and ours, for the tasks that `rows` has."""
    return [
        {
            "task": table.task,
            "title": table.title,
            "columns": [*table.columns, *([THIS_DATA] if table.metric else [])],
            "paper": {name: list(values) for name, values in table.rows.items()},
            "ours": ours,
            "differs": list(table.differs),
        }
        for table in _tables()
        if (ours := [_ours(table, row) for row in rows if row.task == table.task])
    ]


def print_beside(rows: Sequence[Row]) -> None:
    """Print the paper's tables with ours below, and what differs."""
    console = Console()
    digits = {table.title: table.digits for table in _tables()}
    for one in beside(rows):
        table = Table(box=SIMPLE_HEAD, padding=(0, 1))
        table.add_column(f"the paper: {one['title']}", overflow="fold")
        for column in one["columns"]:
            table.add_column(column, justify="right", no_wrap=True)

        def shown(values: Sequence[float | None], places: int = digits[one["title"]]) -> list[str]:
            return ["" if value is None else f"{value:.{places}f}" for value in values]

        for name, values in one["paper"].items():
            table.add_row(name, *shown(values))
        table.add_section()
        for ours in one["ours"]:
            table.add_row(f"[bold]{ours['model']}[/], {ours['dataset']}", *shown(ours["values"]))
        # As wide as its numbers, where the terminal is narrower: a cut number is none.
        whole = Measurement.get(console, console.options.update(max_width=WIDEST), table).maximum
        Console(width=max(console.width, whole)).print(table)
        counts = {f"{ours['questions']:,} questions about {ours['images']:,} samples" for ours in one["ours"]}
        console.print(f"What differs: here {'; '.join(sorted(counts))}.", *one["differs"], sep="\n- ", highlight=False)


def _ours(table: PaperTable, row: Row) -> dict[str, Any]:
    """Return our scores in the order of the columns; None where there is none."""
    if table.metric is None:
        found = [row.scores.get(str(metric)) for metric in table.columns.values()]
    else:
        here = [row.source in sources for sources in table.columns.values()]
        found = [row.scores.get(table.metric) if mine else None for mine in [*here, not any(here)]]
    values = [None if value is None else value * table.scale for value in found]
    about = {"model": row.model, "dataset": row.dataset, "questions": row.questions, "images": row.images}
    return about | {"unparsed": row.unparsed, "values": values}


def _tables() -> tuple[PaperTable, ...]:
    from vlm3data.config import read_yaml

    return Paper.check({"tables": read_yaml(PAPER)}, where=str(PAPER)).tables
