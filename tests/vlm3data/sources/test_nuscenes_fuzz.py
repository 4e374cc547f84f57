"""Damaged nuScenes roots: a UserError of one line, a drop by name, or sound frames; never anything else.

NUSCENES_FUZZ=100000 in the environment tries more, NUSCENES_FUZZ_SEED=1000 others.
"""

from __future__ import annotations

import copy
import json
import math
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.tiny_nuscenes import Tiny, tiny
from vlm3data.formats.nuscenes.reader import TABLES
from vlm3data.images import decode_rgb
from vlm3data.sources.nuscenes import NuscenesSource
from vlm3data.types import Drop, Frame, UserError

CASES = int(os.environ.get("NUSCENES_FUZZ", "200"))
SEED = int(os.environ.get("NUSCENES_FUZZ_SEED", "0"))
JUNK: tuple[Any, ...] = (
    None, True, 0, -1, 1, 0.5, 1e-300, 1e308, -1e308, math.nan, math.inf, 2**53 + 1, 2**63, 10**30, "", "x", "\0",
    "é世", "../../outside", "/etc/passwd", "samples", "a" * 5000, "\ud800", [], {}, [[]], [0, 0, 0, 0],
    [0, 0, 0], [1e200] * 4, [1e200] * 3, [0.5, 0.5, 0.5, 0.51], [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    [[1e-300, 0, 0], [0, 1e-300, 0], [0, 0, 1]],
    {"token": "x"},
)  # fmt: skip


def damage(rng: np.random.Generator, made: Tiny) -> dict[str, bytes]:
    """Damage the tables or files of `made`; return tables that are to be written as these bytes."""
    raw: dict[str, bytes] = {}
    for _ in range(int(rng.integers(1, 4))):
        table = TABLES[rng.integers(len(TABLES))]
        records = made.tables[table]
        record = records[rng.integers(len(records))] if records else {}
        key = list(record)[rng.integers(len(record))] if record else ""
        match rng.choice(
            ["value", "value", "field", "part", "remove", "twice", "swap", "text", "file", "file", "order"]
        ):
            case "value" if record:
                record[key] = JUNK[rng.integers(len(JUNK))]
            case "field" if record:
                del record[key]
            case "part" if record and isinstance(record[key], list) and record[key]:
                record[key][rng.integers(len(record[key]))] = JUNK[rng.integers(len(JUNK))]
            case "remove" if record:
                records.remove(record)
            case "twice" if record:
                records.append(copy.deepcopy(record))
            case "swap" if record:
                other = records[rng.integers(len(records))]
                record[key], other[key] = other.get(key), record[key]
            case "order":
                rng.shuffle(records)
            case "text":
                raw[table] = bent(rng, json.dumps(records, indent=0 if rng.random() < 0.5 else None).encode())
            case "file":
                name = list(made.files)[rng.integers(len(made.files))]
                made.files[name] = bent(rng, made.files[name])
    return raw


def bent(rng: np.random.Generator, data: bytes) -> bytes:
    """Return the bytes cut, with some changed, some missing or some more."""
    at = int(rng.integers(len(data) + 1))
    match rng.choice(["cut", "flip", "skip", "more", "zero"]):
        case "cut":
            return data[:at]
        case "flip" if at < len(data):
            return data[:at] + bytes([data[at] ^ (1 << int(rng.integers(8)))]) + data[at + 1 :]
        case "skip":
            return data[:at] + data[at + int(rng.integers(1, 40)) :]
        case "zero":
            return data[:at] + bytes(min(16, len(data) - at)) + data[at + 16 :]
        case _:
            return data[:at] + rng.choice([b'"', b"[", b"{", b",", b"\xff", b"}", rng.bytes(20)]) + data[at:]


def outcomes(root: Path, rng: np.random.Generator) -> Iterator[str]:
    options = {"published": bool(rng.random() < 0.2)}
    if not options["published"]:
        options |= {"sweeps": int(rng.random() < 0.3), "occlusion": bool(rng.random() < 0.8)}
    try:
        source = NuscenesSource(str(root), NuscenesSource.Options(**options), 0)
    except UserError as error:
        yield f"refused: {error}"
        return
    for scene in source.scenes(None):
        frames = list(source.frames(scene))
        assert len(frames) == scene.num_frames
        for frame in frames:
            try:
                check(frame, source.facts.depth_range_m)
            except Drop as drop:
                yield drop.reason
            else:
                yield "kept"


def check(frame: Frame, depth_range_m: tuple[float, float]) -> None:
    image = frame.image()
    assert isinstance(image, bytes)
    assert frame.camera is not None
    assert frame.points is not None
    assert frame.boxes is not None
    assert frame.world_from_cam is not None
    size = (frame.camera.width_px, frame.camera.height_px)
    decode_rgb(image, size)
    points = frame.points()
    assert ((points.pixel_px >= 0) & (points.pixel_px < size)).all()
    assert ((points.depth_m >= depth_range_m[0]) & (points.depth_m <= depth_range_m[1])).all()
    poses = [frame.world_from_cam, *(box.world_from_box for box in frame.boxes())]
    for pose in poses:
        assert np.isfinite(pose).all()
        np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-9)
    for box in frame.boxes():
        assert min(box.size_m) > 0
        assert box.visibility is None or 0 <= box.visibility <= 1


def test_nothing_but_errors_in_one_line_named_drops_and_sound_frames(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    whole = tiny(("scene-0061",), samples=2)
    whole.write(tmp_path / "root")
    tally = Counter[str]()
    changed: set[str] = set()
    for case in range(SEED, SEED + CASES):
        rng = np.random.default_rng(case)
        made = copy.deepcopy(whole)
        raw = damage(rng, made)
        for name in changed:
            (tmp_path / "root" / name).write_bytes(whole.files[name])
        changed = {name for name, data in made.files.items() if data != whole.files[name]}
        for name in changed:
            (tmp_path / "root" / name).write_bytes(made.files[name])
        for table, records in made.tables.items():
            text = json.dumps(records, indent=0 if case % 2 else None).encode()
            made.write_text(tmp_path / "root", table, raw.get(table, text))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                found = list(outcomes(tmp_path / "root", rng))
        except Exception as error:
            error.add_note(f"NUSCENES_FUZZ_SEED={case}")
            raise
        for outcome in found:
            assert re.fullmatch(r"refused: v1\.0-mini/\w+\.json: .+|[a-z_]+", outcome), f"{case}: {outcome}"
        tally.update(outcome.partition(":")[0] for outcome in found)
    assert tally["refused"] > 0.2 * CASES
    assert tally["kept"] > CASES
    assert len(tally) > 5, tally
