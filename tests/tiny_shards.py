"""A small dataset of shards written by hand: records that hold whatever a test wants to see."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tests.conftest import photo
from vlm3data.budget import total_of
from vlm3data.shards import ShardTally, committed, write_index, write_shard
from vlm3data.storage import open_store
from vlm3data.types import Sample

SIZE_PX = (160, 120)
CAMERA = {
    "fx_px": 150.0, "fy_px": 150.0, "cx_px": 80.0, "cy_px": 60.0, "width_px": 160, "height_px": 120, "distortion": None,
}  # fmt: skip
FACTS = {
    "name": "toy", "licence": "CC0", "metric": True, "depth_kind": "z", "depth_range_m": [0.1, 100.0],
    "pixel_centre": "as everywhere", "splits": ["train"], "world_up": None, "depth_noise": [0.0, 0.01],
    "pair_overlap": [0.25, 0.95], "endless": False,
}  # fmt: skip
CONFIG = {"focal_px": 150.0, "align": "none", "label_depth": "z", "options": {}, "tasks": {"depth": {"pixels": 3}}}
_photo = cache(photo)
SIN10, COS10 = 0.17364817766693033, 0.984807753012208


def depth_question(pixel_px: Sequence[int], depth_m: float, **changes: Any) -> dict[str, Any]:
    """Return a depth question with `changes`."""
    grid_xy = [round(pixel_px[0] * 2000 / SIZE_PX[0]), round(pixel_px[1] * 2000 / SIZE_PX[1])]
    truth = {"pixel_px": [*pixel_px], "grid_xy": grid_xy, "grid": 2000, "depth_m": depth_m, "depth_kind": "z"}
    asked = f"How deep is it at ({grid_xy[0]}, {grid_xy[1]})?"
    return {"task": "depth", "question": asked, "answer": f"{depth_m:.2f} meters", "truth": truth} | changes


def match_question(pixel_px: Sequence[int], pixel2_px: Sequence[float]) -> dict[str, Any]:
    """Return a correspondence question."""
    truth = {"pixel_px": [*pixel_px], "pixel2_px": [*pixel2_px], "sizes_px": [[*SIZE_PX]] * 2}
    return {"task": "correspondence", "question": f"Where is {pixel_px} again?", "answer": "there", "truth": truth}


def pose_question() -> dict[str, Any]:
    """Return a pose question: camera 2 stands 2 m to the right of camera 1, turned right by 10 degrees."""
    truth = {
        "kind": "rotation_angle", "rotation": [[COS10, 0, SIN10], [0, 1, 0], [-SIN10, 0, COS10]],
        "rotation_angle_deg": 10.0, "yaw_deg": 10.0, "pitch_deg": 0.0, "roll_deg": 0.0,
        "translation_direction": [1.0, 0.0, 0.0], "distance_m": 2.0,
    }  # fmt: skip
    return {"task": "pose", "question": "Turned by how much?", "answer": "10.0 degrees", "truth": truth}


def box_question(label: str = "crate") -> dict[str, Any]:
    """Return a question about a box 4 m ahead of the camera, 1 m a side."""
    region = {"box": [328, 271, 672, 729], "label": label, "size_m": [1.0, 1.0, 1.0],
              "cam_from_box": [[1, 0, 0, 0.0], [0, 1, 0, 0.0], [0, 0, 1, 4.0]]}  # fmt: skip
    truth = {"category": "width_data", "kind": "length", "regions": [region], "length_m": 1.0}
    return {"task": "objects", "question": f"How wide is the {label}?", "answer": "1 meter", "truth": truth}


def sample(number: int, questions: Sequence[dict[str, Any]], views: int = 1, **changes: Any) -> Sample:
    """Return a sample that asks `questions`, with `changes` to its record."""
    names = [f"frame-{number}-{view}" for view in range(views)]
    record = {
        "key": f"sample-{number:04d}", "source": "toy", "scene": f"scene-{number // 2}", "frames": names,
        "split": "train", "licence": "CC0", "metric": True, "config": "x",
        "views": [{"frame": name, "source_camera": CAMERA, "camera": CAMERA, "scale": [1.0, 1.0],
                   "crop_xy_px": [0, 0]} for name in names],
        "questions": list(questions),
    }  # fmt: skip
    return Sample.of(record | changes, tuple(_photo(number % 5 + view) for view in range(views)))


def write_dataset(
    directory: Path, shards: Sequence[Sequence[Sample]], tallies: Sequence[ShardTally] | None = None, **about: Any
) -> str:
    """Write samples as shards with their index, and return the dataset's path; `about` changes `dataset.json`."""
    fs, path = open_store(str(directory))
    fs.makedirs(path, exist_ok=True)
    for number, samples in enumerate(shards):
        tally = tallies[number] if tallies else ShardTally()
        write_shard(fs, path, f"shard-{number:06d}", samples, tally, "x")
    manifests = list(committed(fs, path).values())
    about = {"facts": FACTS, "config": CONFIG, "digest": "0123"} | about
    write_index(fs, path, manifests, about | total_of(manifests))
    return path


def every_kind() -> list[Sample]:
    """Return one sample of each kind of question."""
    return [
        sample(0, [depth_question((40, 30), 2.0), depth_question((120, 90), 8.0), box_question()]),
        sample(1, [match_question((20, 20), (40.25, 30.5)), match_question((100, 40), (120.75, 50.0)),
                   match_question((60, 100), (80.0, 110.0)), pose_question()], views=2),
    ]  # fmt: skip
