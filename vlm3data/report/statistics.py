"""Statistics of a dataset or mixture, in bounded memory: counts in bins, never lists of values."""

from __future__ import annotations

import io
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq

from vlm3data.report.histogram import Histogram, log_edges, shown_together
from vlm3data.report.target import Member, Progress, Seen, Target
from vlm3data.shards import INDEX_PARQUET
from vlm3data.shards.checked import damage_named
from vlm3data.types import Float64Array

PLANE_XY = (48, 32)
"""Columns and rows of the counts over the image plane."""
SHOWN_BINS = 60
STREAM_SAMPLES = 10_000
"""Read of a mixture whose length is not planned."""

_LOG, _LINEAR = True, False
MEASURES: dict[str, tuple[str, str, bool, Float64Array]] = {
    "depth_m": ("Depth of the labels", "m", _LOG, log_edges(0.01, 1000, 60)),
    "source_focal_px": ("Focal length in the source", "px", _LOG, log_edges(10, 100_000, 100)),
    "focal_px": ("Focal length, unified", "px", _LOG, log_edges(10, 100_000, 100)),
    "image_mpx": ("Image size", "megapixels", _LOG, log_edges(0.001, 100, 60)),
    "answer_chars": ("Length of the answers", "characters", _LINEAR, np.arange(-0.5, 401)),
    "spanned": ("Overlap of pairs, at least", "share of the image", _LINEAR, np.linspace(0, 1, 101)),
    "rotation_angle_deg": ("Rotation between the views", "degrees", _LINEAR, np.linspace(0, 180, 361)),
    "distance_m": ("Distance between the cameras", "m", _LOG, log_edges(0.001, 1000, 40)),
    "bearing_deg": ("Bearing of camera 2, 90 is right", "degrees", _LINEAR, np.linspace(-180, 180, 145)),
    "object_range_m": ("Distance of the objects asked about", "m", _LOG, log_edges(0.1, 1000, 40)),
}
"""Name -> title, unit, whether on a logarithmic axis, bins. `spanned` is the share of an image within the hull of its
matched points: a pair overlaps by at least about so much; the overlap itself is not stored."""


class _Tally:
    """What is known of one dataset."""

    def __init__(self) -> None:
        self.read = 0
        self.questions: Counter[str] = Counter()
        self.histograms = {name: Histogram(edges) for name, (*_, edges) in MEASURES.items()}
        self.plane = np.zeros(PLANE_XY[::-1], np.int64)

    def add(self, record: Mapping[str, Any], questions: list[dict[str, Any]]) -> None:
        """Count one sample and the `questions` that are asked of it."""
        self.read += 1
        values: dict[str, list[float]] = defaultdict(list)
        pixels: list[tuple[float, float]] = []
        matches: list[tuple[list[float], list[float]]] = []
        regions: dict[tuple[float, ...], float] = {}
        sizes = [(view["camera"]["width_px"], view["camera"]["height_px"]) for view in record["views"]]
        values["focal_px"] = [view["camera"]["fx_px"] for view in record["views"]]
        values["image_mpx"] = [width * height / 1e6 for width, height in sizes]
        for question in questions:
            truth = question["truth"]
            self.questions[question["task"]] += 1
            values["answer_chars"].append(len(question["answer"]))
            if "pixel_px" in truth:
                pixels.append(((truth["pixel_px"][0] + 0.5) / sizes[0][0], (truth["pixel_px"][1] + 0.5) / sizes[0][1]))
            if "depth_m" in truth:
                values["depth_m"].append(truth["depth_m"])
            if "pixel2_px" in truth:
                matches.append((truth["pixel_px"], truth["pixel2_px"]))
            for region in truth.get("regions", ()):
                if "cam_from_box" in region:  # once, however many questions name it
                    centre_m = [row[3] for row in region["cam_from_box"]]
                    regions[tuple(region["box"])] = float(np.linalg.norm(centre_m))
        values["object_range_m"] = list(regions.values())
        pose = next((q["truth"] for q in questions if "rotation" in q["truth"]), None)
        if pose is not None:
            self._add_pose(pose, values)
        if len(matches) >= 3:
            values["spanned"].append(min(_hull_share(np.array(ends, float), sizes[i]) for i, ends in _sides(matches)))
        for name, found in values.items():
            self.histograms[name].add(found)
        if pixels:
            cells = np.floor(np.array(pixels) * PLANE_XY).astype(np.int64)
            inside = ((cells >= 0) & (cells < PLANE_XY)).all(axis=1)
            np.add.at(self.plane, (cells[inside, 1], cells[inside, 0]), 1)

    @staticmethod
    def _add_pose(truth: Mapping[str, Any], values: dict[str, list[float]]) -> None:
        values["rotation_angle_deg"].append(truth["rotation_angle_deg"])
        if truth["distance_m"] is not None:
            values["distance_m"].append(truth["distance_m"])
        if truth["translation_direction"] is not None:
            x, _, z = truth["translation_direction"]
            values["bearing_deg"].append(float(np.degrees(np.arctan2(x, z))))


class Statistics:
    """Statistics of a target: of all its samples what the indices say, and of those added what their JSON says."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._tallies = [_Tally() for _ in target.members]
        self._indices = [_index_summary(m, tally) for m, tally in zip(target.members, self._tallies, strict=True)]

    def add(self, seen: Seen) -> None:
        """Count one sample."""
        self._tallies[seen.member].add(seen.sample.record, seen.questions)

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as JSON values: `datasets`, `histograms`, `image_plane`."""
        members = zip(self.target.members, self._tallies, self._indices, self.target.colours, strict=True)
        return {
            "target": self.target.name,
            "mixture": self.target.mixture is not None,
            "read": sum(tally.read for tally in self._tallies),
            "unseen": dict(sorted(self.target.unseen.items())),
            "datasets": [_about(member, tally, index, colour) for member, tally, index, colour in members],
            "histograms": [self._histogram(name) for name in MEASURES if self._counted(name)],
            "image_plane": {
                "columns": PLANE_XY[0],
                "rows": PLANE_XY[1],
                "counts": [tally.plane.ravel().tolist() if tally.plane.any() else None for tally in self._tallies],
            },
        }

    def _counted(self, name: str) -> bool:
        return any(tally.histograms[name].total for tally in self._tallies)

    def _histogram(self, name: str) -> dict[str, Any]:
        title, unit, log, _ = MEASURES[name]
        histograms = [tally.histograms[name] for tally in self._tallies]
        edges, counts = shown_together(histograms, SHOWN_BINS)
        series = [h.summary() | {"counts": found} for h, found in zip(histograms, counts, strict=True)]
        return {"name": name, "title": title, "unit": unit, "log": log, "edges": edges, "series": series}


def collect(target: Target, limit: int | None, progress: Progress) -> dict[str, Any]:
    """Read up to `limit` samples (by default all of a dataset, the planned ones of a mixture) and return it all."""
    statistics = Statistics(target)
    if limit is None and target.samples is None:
        limit = STREAM_SAMPLES
    for seen in target.seen(limit, progress):
        statistics.add(seen)
    return statistics.as_dict()


def left_out(counts: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Return what a manifest, or `dataset.json`, says was not kept: kind -> reason -> count."""
    return {
        "samples dropped": counts["drops"],
        "samples cut": counts["cuts"],
        "tasks unasked": counts["unasked"],
        "labels dropped": counts["labels"]["dropped"],
        "labels cut": counts["labels"]["cut"],
    }


def _about(member: Member, tally: _Tally, index: dict[str, Any], colour: str) -> dict[str, Any]:
    about = member.dataset.about
    return {
        "name": member.name,
        "colour": colour,
        "url": member.dataset.url,
        "share": member.share,
        "read": tally.read,
        "asked": dict(sorted(tally.questions.items())),
        **index,
        "bytes": about["bytes"],
        "shards": len(about["shards"]),
        "left_out": left_out(about),
        "kept": {"samples": about["samples"], "labels": about["labels"]["kept"]},
    }


def _index_summary(member: Member, tally: _Tally) -> dict[str, Any]:
    """Return counts over every sample of `member` that is used; the source's focal lengths go to the tally."""
    scenes: set[str] = set()
    splits, tasks, samples, questions = Counter[str](), Counter[str](), 0, 0
    for batch in _index_batches(member):
        samples += len(batch["split"])
        questions += int(np.sum(batch["questions"]))
        scenes.update(batch["scene"])
        splits.update(batch["split"])
        for asked in batch["tasks"]:
            tasks.update(asked)
        tally.histograms["source_focal_px"].add(batch["source_focal_px"])
    return {
        "samples": samples,
        "scenes": len(scenes),
        "questions": questions,
        "splits": dict(sorted(splits.items())),
        "tasks": dict(sorted(tasks.items())),
    }


def _index_batches(member: Member) -> Iterator[dict[str, Any]]:
    """Yield the used rows of the Parquet index, a batch at a time, as columns."""
    found = member.dataset.index_parquet()
    with damage_named(f"{member.dataset.url}/{INDEX_PARQUET}"):
        yield from _batches(pq.ParquetFile(found if isinstance(found, str) else io.BytesIO(found)), member)


def _batches(file: pq.ParquetFile, member: Member) -> Iterator[dict[str, Any]]:
    used = None if member.rows is None else np.unique(np.concatenate(member.rows))
    columns, start = ["scene", "split", "tasks", "questions", "source_focal_px"], 0
    for batch in file.iter_batches(batch_size=16_384, columns=columns):
        end = start + batch.num_rows
        if used is not None:
            inside = used[np.searchsorted(used, start) : np.searchsorted(used, end)] - start
            batch = batch.take(inside)
        yield batch.to_pydict()
        start = end


def _sides(matches: list[tuple[list[float], list[float]]]) -> list[tuple[int, list[list[float]]]]:
    return [(side, [match[side] for match in matches]) for side in (0, 1)]


def _hull_share(points_px: Float64Array, size_px: tuple[int, int]) -> float:
    """Return the area of the convex hull of points (n, 2) as a share of the image."""
    hull = cv2.convexHull(points_px.astype(np.float32))
    return float(cv2.contourArea(hull)) / (size_px[0] * size_px[1])
