"""Statistics in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from vlm3data.report.palette import dataset_colours
from vlm3data.terminal import open_console


def print_statistics(statistics: Mapping[str, Any]) -> None:
    """Print what `statistics.collect` returned: datasets, values with their quantiles, questions, what was left out."""
    console, datasets = open_console(), statistics["datasets"]
    colours = dataset_colours(dataset["name"] for dataset in datasets)
    names = [Text.assemble(("● ", colours[dataset["name"]]), dataset["name"]) for dataset in datasets]
    console.print(_datasets(statistics, names))
    for table in _values(statistics, names):
        console.print(table)
    console.print(_questions(datasets, names))
    for reason, count in statistics["unseen"].items():
        console.print(f"not read: {count:,} samples, {reason}", markup=False, highlight=False)
    left_out = _left_out(datasets, names)
    if left_out.row_count:
        console.print(left_out)
    else:
        console.print("nothing was left out")


def _datasets(statistics: Mapping[str, Any], names: list[Text]) -> Table:
    table = _table(statistics["target"], "dataset")
    for column in (["share"] if statistics["mixture"] else []) + [
        "samples",
        "scenes",
        "questions",
        "shards",
        "MB",
        "read",
    ]:
        table.add_column(column, justify="right", no_wrap=True)
    for name, dataset in zip(names, statistics["datasets"], strict=True):
        share = [f"{dataset['share']:.4f}"] if statistics["mixture"] else []
        cells = [f"{dataset[key]:,}" for key in ("samples", "scenes", "questions", "shards")]
        table.add_row(name, *share, *cells, f"{dataset['bytes'] / 1e6:,.1f}", f"{dataset['read']:,}")
    return table


def _values(statistics: Mapping[str, Any], names: list[Text]) -> Iterator[Table]:
    """Yield one table of a single dataset's values, or one per value of several datasets."""
    histograms = statistics["histograms"]
    if len(names) == 1:
        table = _table("values", "value")
        _add_quantiles(table, [(Text(_title(histogram)), histogram["series"][0]) for histogram in histograms])
        yield table
        return
    for histogram in histograms:
        table = _table(_title(histogram), "dataset")
        _add_quantiles(table, list(zip(names, histogram["series"], strict=True)))
        yield table


def _add_quantiles(table: Table, rows: list[tuple[Text, Mapping[str, Any]]]) -> None:
    for column in ("5 %", "median", "95 %", "smallest", "largest", "count"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, series in rows:
        if series["count"]:
            numbers = [f"{series[key]:,.4g}" for key in ("p5", "p50", "p95", "min", "max")]
            table.add_row(name, *numbers, f"{series['count']:,}")


def _title(histogram: Mapping[str, Any]) -> str:
    return f"{histogram['title']} ({histogram['unit']})"


def _questions(datasets: list[Mapping[str, Any]], names: list[Text]) -> Table:
    table = _table("questions read, per task", "dataset")
    tasks = sorted({task for dataset in datasets for task in dataset["asked"]})
    for task in tasks:
        table.add_column(Text(task), justify="right")
    for name, dataset in zip(names, datasets, strict=True):
        table.add_row(name, *(f"{dataset['asked'].get(task, 0):,}" for task in tasks))
    return table


def _left_out(datasets: list[Mapping[str, Any]], names: list[Text]) -> Table:
    table = _table("left out", "dataset")
    table.add_column("what")
    table.add_column("reason", overflow="fold")
    table.add_column("count", justify="right")
    for name, dataset in zip(names, datasets, strict=True):
        for kind, reasons in dataset["left_out"].items():
            for reason, count in reasons.items():
                table.add_row(name, kind, Text(reason), f"{count:,}")
    return table


def _table(title: str, first: str) -> Table:
    table = Table(title=Text(title), title_justify="left")
    table.add_column(first, overflow="fold")
    return table
