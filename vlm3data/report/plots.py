"""Statistics as PNG files, with matplotlib (the extra `plot`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vlm3data.report.palette import DEPTH
from vlm3data.types import UserError

PER_ROW = 4


def write_plots(statistics: Mapping[str, Any], directory: str) -> list[str]:
    """Write one PNG a value, one of the image plane, one of the questions and one of what was left out.

    Returns the files' names. Every dataset is drawn as its own share per bin, so that a small one is seen.
    """
    try:
        import matplotlib as mpl
    except ModuleNotFoundError as error:
        raise UserError("--plots needs matplotlib: pip install 'vlm3[plot]'") from error
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    figures = {histogram["name"]: _histogram(plt, statistics, histogram) for histogram in statistics["histograms"]}
    figures |= {"image_plane": _planes(plt, statistics), "questions": _questions(plt, statistics)}
    figures["left_out"] = _left_out(plt, statistics)
    written = []
    for name, figure in figures.items():
        if figure is not None:
            figure.savefig(folder / f"{name}.png", dpi=130, metadata={"Software": None})
            plt.close(figure)
            written.append(f"{name}.png")
    return written


def _histogram(plt: Any, statistics: Mapping[str, Any], histogram: Mapping[str, Any]) -> Any:
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    edges = np.array(histogram["edges"])
    for dataset, series in zip(statistics["datasets"], histogram["series"], strict=True):
        if series["count"]:
            share = np.array(series["counts"]) / series["count"]
            label = f"{_plain(dataset['name'])}, median {series['p50']:,.3g}"
            axes.stairs(share, edges, fill=True, alpha=0.2, color=dataset["colour"])
            axes.stairs(share, edges, color=dataset["colour"], label=label)
    if histogram["log"]:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
    axes.set(
        xlabel=histogram["unit"], ylabel="share", title=histogram["title"], xlim=(edges[0], edges[-1]), ylim=(0, None)
    )
    return _finished(figure, axes)


def _planes(plt: Any, statistics: Mapping[str, Any]) -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    plane = statistics["image_plane"]
    shown = [pair for pair in zip(statistics["datasets"], plane["counts"], strict=True) if pair[1] is not None]
    if not shown:
        return None
    columns, rows = min(PER_ROW, len(shown)), -(-len(shown) // PER_ROW)
    figure, grid = plt.subplots(rows, columns, figsize=(3.4 * columns, 2.6 * rows), layout="constrained", squeeze=False)
    colours = LinearSegmentedColormap.from_list("depth", DEPTH[::-1])
    for axes, (dataset, counts) in zip(grid.flat, shown, strict=False):
        axes.imshow(np.reshape(counts, (plane["rows"], plane["columns"])), cmap=colours, aspect="auto", vmin=0)
        axes.set_title(_plain(dataset["name"]), fontsize=10)
    for axes in grid.flat:
        axes.set_axis_off()
    figure.suptitle("Labelled pixels on the image plane")
    return figure


def _questions(plt: Any, statistics: Mapping[str, Any]) -> Any:
    datasets = statistics["datasets"]
    tasks = sorted({task for dataset in datasets for task in dataset["asked"]})
    return _bars(
        plt, "Questions read, per task", tasks, [(d, [d["asked"].get(task, 0) for task in tasks]) for d in datasets]
    )


def _left_out(plt: Any, statistics: Mapping[str, Any]) -> Any:
    datasets = statistics["datasets"]
    found = sorted({(kind, reason) for d in datasets for kind, reasons in d["left_out"].items() for reason in reasons})
    rows = [(d, [d["left_out"][kind].get(reason, 0) for kind, reason in found]) for d in datasets]
    return _bars(plt, "Left out, by reason", [f"{reason} ({kind})" for kind, reason in found], rows) if found else None


def _bars(plt: Any, title: str, names: list[str], rows: list[tuple[Any, list[int]]]) -> Any:
    figure, axes = plt.subplots(figsize=(7, 1.2 + 0.5 * len(names)), layout="constrained")
    start = np.zeros(len(names))
    for dataset, counts in rows:
        axes.barh(range(len(names)), counts, left=start, color=dataset["colour"], label=_plain(dataset["name"]))
        start += counts
    axes.set_yticks(range(len(names)), [_plain(name) for name in names])
    axes.invert_yaxis()
    axes.set(title=title, xlabel="count")
    return _finished(figure, axes)


def _finished(figure: Any, axes: Any) -> Any:
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    return figure


def _plain(name: str) -> str:
    """Return a name that matplotlib does not read as a formula."""
    return name.replace("$", r"\$")
