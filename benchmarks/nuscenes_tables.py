"""nuScenes' JSON tables at any size, written as the official ones are: every field, one value a line.

850 scenes of 40 samples give trainval's counts: 34,000 samples, 2.6 million readings and ego poses, 1.2 million
annotations, about 2.5 GB. There are no images behind them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import cv2
import numpy as np
import orjson

from vlm3data.formats.nuscenes import CAMERAS
from vlm3data.formats.nuscenes.splits import SCENES

SAMPLES, BOXES = 40, 34
"""A scene's, a sample's."""
RATES = {**dict.fromkeys(CAMERAS, 6), "LIDAR_TOP": 10} | {
    f"RADAR_{place}": rate
    for place, rate in (("FRONT", 7), ("FRONT_LEFT", 6), ("FRONT_RIGHT", 6), ("BACK_LEFT", 6), ("BACK_RIGHT", 6))
}
"""Readings between one key frame and the next."""
CATEGORIES = ("vehicle.car", "human.pedestrian.adult", "movable_object.barrier", "vehicle.truck", "vehicle.bicycle")

_READING = """{
"token": "%s",
"sample_token": "%s",
"ego_pose_token": "%s",
"calibrated_sensor_token": "%s",
"timestamp": %d,
"fileformat": "%s",
"is_key_frame": %s,
"height": %d,
"width": %d,
"filename": "%s",
"prev": "%s",
"next": "%s"
}"""
_POSE = """{
"token": "%s",
"timestamp": %d,
"rotation": [
%r,
%r,
%r,
%r
],
"translation": [
%r,
%r,
0.0
]
}"""
_BOX = """{
"token": "%s",
"sample_token": "%s",
"instance_token": "%s",
"visibility_token": "%d",
"attribute_tokens": [
"%s"
],
"translation": [
%.3f,
%.3f,
%.3f
],
"size": [
%.3f,
%.3f,
%.3f
],
"rotation": [
%r,
0.0,
0.0,
%r
],
"prev": "%s",
"next": "%s",
"num_lidar_pts": %d,
"num_radar_pts": %d
}"""


def write_tables(root: Path, scenes: int = 850, version: str = "v1.0-trainval") -> None:
    """Write the tables of `scenes` scenes below `root`; the same ones every time."""
    folder = root / version
    folder.mkdir(parents=True)
    (root / "maps").mkdir()
    cv2.imwrite(str(root / "maps" / "blank.png"), np.zeros((8, 8), np.uint8))
    rng = np.random.default_rng(0)
    names = sorted(SCENES["train"] | SCENES["val"])[:scenes]
    sensors = {channel: _token(rng) for channel in RATES}
    categories = {name: _token(rng) for name in CATEGORIES}
    attribute, log = _token(rng), _token(rng)
    small: dict[str, list[dict[str, Any]]] = {
        "sensor": [{"token": t, "channel": c, "modality": c.split("_")[0].lower()} for c, t in sensors.items()],
        "category": [{"token": t, "name": name, "description": ""} for name, t in categories.items()],
        "attribute": [{"token": attribute, "name": "vehicle.moving", "description": ""}],
        "visibility": [
            {"token": str(n), "level": level, "description": ""}
            for n, level in enumerate(("v0-40", "v40-60", "v60-80", "v80-100"), 1)
        ],
        "log": [{"token": log, "logfile": "n015", "vehicle": "n015", "date_captured": "", "location": "nowhere"}],
        "map": [{"token": _token(rng), "category": "", "filename": "maps/blank.png", "log_tokens": [log]}],
        "scene": [],
        "sample": [],
        "calibrated_sensor": [],
        "instance": [],
    }
    large = {name: (folder / f"{name}.json").open("w") for name in ("sample_data", "ego_pose", "sample_annotation")}
    for number, name in enumerate(names):
        _write_scene(name, number, log, attribute, sensors, list(categories.values()), small, large, rng)
    for file in large.values():
        file.write("\n]")
        file.close()
    for name, records in small.items():
        (folder / f"{name}.json").write_bytes(orjson.dumps(records, option=orjson.OPT_INDENT_2))


def _write_scene(
    name: str,
    number: int,
    log: str,
    attribute: str,
    sensors: dict[str, str],
    categories: list[str],
    small: dict[str, list[dict[str, Any]]],
    large: dict[str, TextIO],
    rng: np.random.Generator,
) -> None:
    start_us = 1_531_883_530_412_460 + number * 20_000_000
    scene, samples = _token(rng), list(_tokens(rng, SAMPLES))
    small["scene"].append(
        {
            "token": scene, "log_token": log, "nbr_samples": SAMPLES, "first_sample_token": samples[0],
            "last_sample_token": samples[-1], "name": name, "description": "Parked cars, {turn left}, \"bus stop\"",
        }
    )  # fmt: skip
    for i, (token, before, after) in enumerate(_chain(samples)):
        timestamp = start_us + i * 500_000
        small["sample"].append(
            {"token": token, "timestamp": timestamp, "prev": before, "next": after, "scene_token": scene}
        )
    readings, poses = [], []
    for channel, rate in RATES.items():
        calibrated, is_camera = _token(rng), channel.startswith("CAM")
        small["calibrated_sensor"].append(
            {
                "token": calibrated, "sensor_token": sensors[channel], "translation": [1.7, 0.01, 1.5],
                "rotation": [0.5, -0.5, 0.5, -0.5],
                "camera_intrinsic": [[1266.4, 0.0, 816.2], [0.0, 1266.4, 491.5], [0.0, 0.0, 1.0]] if is_camera else [],
            }
        )  # fmt: skip
        count = SAMPLES * rate
        angles, places = rng.normal(0, 0.01, (count, 2)).tolist(), (rng.random((count, 2)) * 2000).tolist()
        end = "jpg" if is_camera else "pcd"
        for i, (token, before, after) in enumerate(_chain(list(_tokens(rng, count)))):
            key, timestamp = i % rate == 0, start_us + i * 500_000 // rate
            folder = "samples" if key else "sweeps"
            filename = f"{folder}/{channel}/n015-2018-07-18-11-07-57+0800__{channel}__{timestamp}.{end}"
            readings.append(
                _READING
                % (
                    token, samples[i // rate], token, calibrated, timestamp, end, "true" if key else "false",
                    900 if is_camera else 0, 1600 if is_camera else 0, filename, before, after,
                )
            )  # fmt: skip
            a, b = angles[i]
            w = (1 - a * a - b * b) ** 0.5
            poses.append(_POSE % (token, timestamp, w, a, 0.0, b, *places[i]))
    boxes = []
    for tokens in np.reshape(list(_tokens(rng, SAMPLES * BOXES)), (BOXES, SAMPLES)).tolist():
        instances = list(_tokens(rng, 2))
        small["instance"] += [
            {
                "token": token, "category_token": categories[int(rng.integers(len(categories)))],
                "nbr_annotations": SAMPLES // 2, "first_annotation_token": tokens[0],
                "last_annotation_token": tokens[-1],
            }
            for token in instances
        ]  # fmt: skip
        numbers = (rng.random((SAMPLES, 6)) * (2000, 2000, 2, 2, 5, 2) + 0.1).tolist()
        for i, (token, before, after) in enumerate(_chain(tokens)):
            angle = numbers[i][0]
            rotation = (float(np.cos(angle)), float(np.sin(angle)))
            instance = instances[2 * i // SAMPLES]
            boxes.append(
                _BOX % (token, samples[i], instance, i % 4 + 1, attribute, *numbers[i], *rotation, before, after, i, 0)
            )
    for file, records in zip(large.values(), (readings, poses, boxes), strict=True):
        file.write("[\n" if number == 0 else ",\n")
        file.write(",\n".join(records))


def _token(rng: np.random.Generator) -> str:
    return rng.bytes(16).hex()


def _tokens(rng: np.random.Generator, count: int) -> Iterator[str]:
    text = rng.bytes(16 * count).hex()
    return (text[i : i + 32] for i in range(0, len(text), 32))


def _chain(tokens: list[str]) -> Iterator[tuple[str, str, str]]:
    """Yield each token with the one before and the one after; empty at the ends."""
    return zip(tokens, ["", *tokens[:-1]], [*tokens[1:], ""], strict=True)
