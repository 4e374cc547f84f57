"""Predicted depths for the eye: against the true ones, and where they are wrong."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vlm3data.types import Float64Array, UserError
from vlm3train.predictions import Prediction
from vlm3train.scoring import parsed, task_named

CELLS = 16
"""Of the picture of errors by position, along each side."""
BINS = 12
"""Of depth, equally wide in its logarithm."""
FEWEST = 5
"""Questions that a share is drawn for; of fewer it would be chance."""
RIGHT, WRONG, PALE, INK = "#2a6f97", "#c8553d", "#dddddd", "#444444"


def plot_depth(predictions: Sequence[Prediction], out: Path) -> list[Path]:
    """Write a PNG a model and dataset that depth was asked of, and return their paths."""
    try:
        import matplotlib as mpl
    except ModuleNotFoundError as error:
        raise UserError("--plots needs matplotlib: pip install 'vlm3[plot]'") from error
    mpl.use("Agg")
    groups: dict[tuple[str, str], list[Prediction]] = {}
    for one in predictions:
        if one.task == "depth" and not one.control:
            groups.setdefault((one.model, one.dataset), []).append(one)
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for (model, dataset), group in groups.items():
        short = Path(model).name, Path(dataset).name
        several = sum((Path(name).name, Path(url).name) == short for name, url in groups) > 1
        model, dataset = (model, dataset) if several else short
        path = out / f"depth_{_plain(model)}_{_plain(dataset)}.png"
        _plot(group, f"{model} on {dataset}", path)
        paths.append(path)
    return paths


def _plot(group: Sequence[Prediction], title: str, path: Path) -> None:
    from matplotlib import pyplot as plt
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    said = parsed(task_named("depth"), group)
    true_m = np.array([one.truth["depth_m"] for one in group], float)
    told_m = np.array([np.nan if value is None else value for value in said], float)
    unparsed = np.isnan(told_m).sum()
    told_m[told_m <= 0] = np.nan  # an answer that is wrong, and has no place on a logarithmic axis
    grid_xy = (
        np.array([one.truth["grid_xy"] for one in group]) / np.array([one.truth["grid"] for one in group])[:, None]
    )
    right = np.maximum(told_m / true_m, true_m / told_m) < 1.25
    figure, axes = plt.subplots(1, 3, figsize=(17, 5.4), layout=ConstrainedLayoutEngine(w_pad=0.2, h_pad=0.1))
    figure.suptitle(f"{title}: δ1 {right.mean():.3f}, {len(group):,} questions, {unparsed:,} unparsed")
    _against(axes[0], true_m, told_m)
    _by_depth(axes[1], true_m, np.abs(told_m - true_m) / true_m, right)
    _by_position(figure, axes[2], grid_xy, right)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _against(axes: Any, true_m: Float64Array, told_m: Float64Array) -> None:
    """Draw how often which depth was answered to which; a straight line is what an oracle would draw."""
    known = np.isfinite(told_m)
    low, high = true_m.min() / 1.25, true_m.max() * 1.25
    edges = np.geomspace(low, high, 61)
    counts, _, _ = np.histogram2d(true_m[known], np.clip(told_m[known], low, high), bins=(edges, edges))
    shown = np.ma.masked_equal(counts.T, 0)
    mesh = axes.pcolormesh(edges, edges, shown, cmap="viridis", norm="log" if counts.max() > 1 else None)
    axes.figure.colorbar(mesh, ax=axes, label="answers", shrink=0.85, format="%g")
    line = np.array([low, high])
    axes.plot(line, line, color=INK, linewidth=1)
    axes.fill_between(line, line / 1.25, line * 1.25, color=INK, alpha=0.12, linewidth=0, label="counts as right (δ1)")
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.set(
        xlabel="true depth, m",
        ylabel="answered depth, m",
        title="answered against true (beyond the axes: on their edge)",
    )
    axes.legend(loc="upper left", frameon=False)
    _plain_ticks(axes.xaxis)
    _plain_ticks(axes.yaxis)


def _by_depth(axes: Any, true_m: Float64Array, abs_rel: Float64Array, right: Any) -> None:
    """Draw the share of right answers, and the median relative error of those that parsed, over the true depth."""
    edges = np.geomspace(true_m.min(), true_m.max() * 1.0001, BINS + 1)
    bin_ = np.clip(np.digitize(true_m, edges) - 1, 0, BINS - 1)
    counts = np.bincount(bin_, minlength=BINS)
    parsed_in = [abs_rel[(bin_ == i) & np.isfinite(abs_rel)] for i in range(BINS)]
    enough = np.array(
        [count >= FEWEST and len(there) >= FEWEST for count, there in zip(counts, parsed_in, strict=True)]
    )
    share_right = np.bincount(bin_, right, BINS)[enough] / counts[enough]
    median = [np.median(there) for there, known in zip(parsed_in, enough, strict=True) if known]
    centres = np.sqrt(edges[1:] * edges[:-1])[enough]
    share = counts / counts.sum()
    axes.bar(
        edges[:-1], share, np.diff(edges), align="edge", color=PALE, edgecolor="white", label="share of the questions"
    )
    axes.plot(centres, share_right, marker="o", color=RIGHT, label="right (δ1)")
    axes.plot(centres, median, marker="s", color=WRONG, label="median relative error")
    axes.set(xscale="log", xlabel="true depth, m", ylim=(0, 1.02), title="by depth")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3, frameon=False, columnspacing=1.2)
    axes.grid(axis="y", alpha=0.25)
    axes.set_axisbelow(True)
    _plain_ticks(axes.xaxis)


def _by_position(figure: Any, axes: Any, grid_xy: Float64Array, right: Any) -> None:
    """Draw the share of right answers over where in the image was asked."""
    column, row = np.minimum((grid_xy * CELLS).astype(int), CELLS - 1).T
    cell = row * CELLS + column
    counts = np.bincount(cell, minlength=CELLS * CELLS)
    share = np.bincount(cell, right, CELLS * CELLS) / np.maximum(counts, 1)
    shown = np.ma.masked_where(counts < FEWEST, share).reshape(CELLS, CELLS)
    image = axes.imshow(shown, extent=(0, 1, 1, 0), vmin=0, vmax=1, cmap="RdYlBu", aspect=0.75)
    figure.colorbar(image, ax=axes, label="right (δ1)", shrink=0.85)
    axes.set(title=f"by image position (cells of {FEWEST} and more)", xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    axes.set(xlabel="across the image", ylabel="down the image")
    axes.set_facecolor("#f2f2f2")


def _plain_ticks(axis: Any) -> None:
    """Label a logarithmic axis of depths with 1, 2, 5, 10 metres rather than powers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip("-.")
