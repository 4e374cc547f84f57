"""Terminal tables of the commands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

from vlm3data.budget import NO_INTRINSICS_HINT
from vlm3data.terminal import open_console

QWEN3_VL_PIXELS = (65_536, 16_777_216)
"""Pixel limits of the stock Qwen3-VL processor; outside them it resizes, and the focal length with it."""
SHOWN_CRASHES = 20
LONELY = 0.5
"""Above this share of frames without a partner that sees the same, poses are under suspicion."""


def print_build(dataset: Mapping[str, Any], out: str) -> None:
    """Print what a build wrote, dropped and cut, and where the model would undo the focal length."""
    console = open_console()
    table = Table(show_header=False)
    labels, drops = dataset["labels"], dataset["drops"]
    rows = [
        ("samples", f"{dataset['samples']:,}"),
        ("shards", f"{len(dataset['shards']):,} ({dataset['bytes'] / 1e6:,.1f} MB)"),
        *(_labels(dataset) if labels["kept"] or labels["cut"] or labels["dropped"] else ()),
        ("samples dropped", _counts(drops)),
        ("samples cut", _counts(dataset["cuts"])),
        *([("tasks unasked", _counts(dataset["unasked"]))] if dataset["unasked"] else []),
        ("focal length", _focal_length(dataset["config"])),
    ]
    for row in rows:
        table.add_row(*row)
    console.print(f"built {out}", soft_wrap=True, highlight=False)
    console.print(table)
    if "no_intrinsics" in drops:
        console.print(f"note: {NO_INTRINSICS_HINT}", soft_wrap=True)
    alone = dataset["cuts"].get("no_overlap", 0)
    if alone > LONELY * (dataset["samples"] + sum(dataset["cuts"].values())):
        console.print(
            f"note: {alone:,} frames see what no other does (no_overlap); if they should not, the poses may be wrong: "
            "vlm3data doctor, with the source's flags, says whether they fit the depth",
            soft_wrap=True,
        )
    unified = dataset["config"].get("store") != "original"
    for found in dataset.get("quarantined", [])[:SHOWN_CRASHES]:
        console.print(
            f"note: left out, as it crashes its process: {found['key']} of scene {found['scene']}", markup=False
        )
    for note in size_notes(dataset["image_pixels"]) if unified else []:
        console.print(f"note: {note}", soft_wrap=True)


def size_notes(image_pixels: Mapping[str, int]) -> list[str]:
    """Return what a stock Qwen3-VL processor would do to images of these sizes (`min` and `max` pixels)."""
    low, high = QWEN3_VL_PIXELS
    notes = []
    if image_pixels["min"] < low:
        notes.append(
            f"the smallest image has {image_pixels['min']:,} pixels; a stock Qwen3-VL processor enlarges "
            f"images under {low:,}, and the focal length with them (lower its min_pixels, or raise --focal)"
        )
    if image_pixels["max"] > high:
        notes.append(
            f"the largest image has {image_pixels['max']:,} pixels; a stock Qwen3-VL processor shrinks "
            f"images over {high:,}, and the focal length with them (lower --focal)"
        )
    return notes


def print_counts(written: Mapping[str, Any], out: str) -> None:
    """Print what a layout wrote."""
    table = Table(show_header=False)
    for name, value in written.items():
        table.add_row(name.replace("_", " "), f"{value:,}" if isinstance(value, int) else str(value))
    console = open_console()
    console.print(f"wrote {out}", soft_wrap=True, highlight=False)
    console.print(table)


def _labels(dataset: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what became of the depth labels, which tasks about pairs alone have not."""
    labels, depth_kind = dataset["labels"], dataset["facts"]["depth_kind"]
    kinds = f"{depth_kind} in the source, {dataset['config']['label_depth']} here"
    yield "labels kept", f"{labels['kept']:,} ({kinds})"
    yield "labels cut", _counts(labels["cut"])
    yield "labels dropped", _counts(labels["dropped"])


def _focal_length(config: Mapping[str, Any]) -> str:
    if config["focal_mode"] == "none":
        return "as taken"
    return f"{config['focal_px']:g} px" + (", when read" if config.get("store") == "original" else "")


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in counts.items()) or "none"
