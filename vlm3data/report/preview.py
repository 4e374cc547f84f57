"""One self-contained page of samples for people to look at: no network, no server, opened from a file."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

from vlm3data import __version__, images
from vlm3data.report.page_file import data_block, json_block, page_frame
from vlm3data.report.palette import DEPTH
from vlm3data.report.statistics import Statistics, left_out
from vlm3data.report.target import Progress, Seen, Target
from vlm3data.storage import open_store, write_whole
from vlm3data.types import UserError

STYLES = ("frame.css", "samples.css", "detail.css", "charts.css")
SCRIPTS = (
    "dom.js", "data.js", "colour.js", "project.js", "marks.js", "figure.js", "glyph.js", "charts.js", "statistics.js",
    "left_out.js", "filters.js", "gallery.js", "detail.js", "keys.js",
)  # fmt: skip
"""In the order in which they follow each other; one scope holds them all."""
QUALITY = 75
"""Of the smaller copies."""


class Page(NamedTuple):
    """What was written."""

    samples: int
    bytes: int
    image_px: int


def write_preview(target: Target, out: str, limit: int, image_px: int, progress: Progress) -> Page:
    """Write the page about `target` to the URL `out`: up to `limit` samples, images of at most `image_px` a side."""
    statistics, rows, blocks = Statistics(target), list[dict[str, Any]](), list[bytes]()
    for number, seen in enumerate(target.seen(limit, progress)):
        statistics.add(seen)
        shown = [_smaller(data, image_px) for data in seen.sample.images]
        rows.append(_row(seen))
        blocks.append(data_block(f"sample-{number}", "application/json", json_block(_sample(seen))))
        blocks += [
            data_block(f"image-{number}-{view}", "text/plain", base64.b64encode(data))
            for view, data in enumerate(shown)
        ]
    if not rows:
        raise UserError(f"{target.name}: there is no sample to show")
    about = {
        "version": __version__,
        "image_px": image_px,
        "depth_colours": DEPTH,
        "statistics": statistics.as_dict(),
        "shards": _shards_of(target, rows),
        "samples": rows,
    }
    head, tail = page_frame("page.html", STYLES, SCRIPTS)
    about["bytes"] = len(head) + sum(map(len, blocks)) + len(tail) + len(json_block(about))
    data = b"".join([head, data_block("about", "application/json", json_block(about)), *blocks, tail])
    fs, path = open_store(out)
    fs.makedirs(path.rpartition("/")[0] or ".", exist_ok=True)
    write_whole(fs, path, data)
    return Page(len(rows), len(data), image_px)


def _row(seen: Seen) -> dict[str, Any]:
    """Return what the page needs of a sample before anybody looks at it."""
    record = seen.sample.record
    tasks: dict[str, int] = {}
    for question in seen.questions:
        tasks[question["task"]] = tasks.get(question["task"], 0) + 1
    return {
        "key": seen.sample.key,
        "place": seen.place,
        "dataset": seen.member,
        "shard": seen.shard,
        "scene": record["scene"],
        "tasks": tasks,
        "sizes": [[view["camera"]["width_px"], view["camera"]["height_px"]] for view in record["views"]],
    }


def _sample(seen: Seen) -> dict[str, Any]:
    """Return the sample's own JSON with the questions that are asked, and where it stands."""
    return seen.sample.record | {"questions": seen.questions, "epoch": seen.sample.epoch}


def _shards_of(target: Target, rows: Sequence[Mapping[str, Any]]) -> list[dict[int, dict[str, Any]]]:
    """Return, per member and shard that a sample is shown of, its name and what its manifest says was left out."""
    shown: list[dict[int, dict[str, Any]]] = [{} for _ in target.members]
    for member, shard in sorted({(row["dataset"], row["shard"]) for row in rows}):
        manifest = target.members[member].dataset.manifest(shard)
        shown[member][shard] = {"name": manifest["shard"], "left_out": left_out(manifest)} | _names(manifest)
    return shown


def _names(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the samples that the manifest names among what it dropped; most builds count without names."""
    return {"quarantined": manifest["quarantined"]} if manifest.get("quarantined") else {}


def _smaller(jpeg: bytes, side_px: int) -> bytes:
    """Return an image whose longer side has at most `side_px` pixels; the same bytes where it is no larger."""
    rgb = images.decode_rgb(bytes(jpeg))
    height_px, width_px = rgb.shape[:2]
    shrink = side_px / max(width_px, height_px)
    if shrink >= 1:
        return bytes(jpeg)
    size_px = max(1, round(width_px * shrink)), max(1, round(height_px * shrink))
    smaller = cv2.resize(rgb, size_px, interpolation=cv2.INTER_AREA)
    return images.encode_jpeg(smaller.astype(np.uint8, copy=False), QUALITY)
