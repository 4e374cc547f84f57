"""nuScenes' tables: every scene's records by themselves, joined in the end, so that memory stays flat."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any, cast

import orjson
from fsspec import AbstractFileSystem

from vlm3data.randomness import key_for
from vlm3data.storage import write_whole

Record = dict[str, Any]

OF_SCENES = ("calibrated_sensor", "ego_pose", "instance", "log", "sample", "sample_annotation", "sample_data", "scene")
"""The tables that every scene adds to."""
CATEGORIES = {
    "vehicle.car": "A car.",
    "human.pedestrian.adult": "A grown-up person.",
    "movable_object.barrier": "A post that keeps cars out.",
    "movable_object.trafficcone": "A drum that keeps cars out.",
    "movable_object.debris": "Something left on the ground.",
}
ATTRIBUTES = {
    "vehicle.parked": "It stands still and nobody is about to drive it.",
    "pedestrian.standing": "The person stands still.",
}
VISIBILITY = {"1": "v0-40", "2": "v40-60", "3": "v60-80", "4": "v80-100"}


def token(*what: str | int) -> str:
    """Return the name of a record: 32 hexadecimal digits that depend on `what` alone."""
    return f"{key_for('nuscenes', *what):032x}"


def linked(records: list[Record]) -> list[Record]:
    """Set `prev` and `next` of records that follow each other in time."""
    for record in records:
        record["prev"] = record["next"] = ""
    for earlier, later in pairwise(records):
        earlier["next"], later["prev"] = later["token"], earlier["token"]
    return records


def write_part(fs: AbstractFileSystem, root: str, index: int, tables: dict[str, list[Record]]) -> None:
    """Write what one scene adds to its tables."""
    for name in OF_SCENES:
        write_whole(fs, _part(root, name, index), b",\n".join(map(orjson.dumps, tables[name])))


def join_parts(fs: AbstractFileSystem, root: str, version: str, num_scenes: int) -> None:
    """Make the tables from the parts, and remove those."""
    for name in OF_SCENES:
        with cast("Any", fs.open(f"{root}/{version}/{name}.json", "wb")) as file:
            separator = b"[\n"
            for index in range(num_scenes):
                if part := fs.cat_file(_part(root, name, index)):
                    file.write(separator)
                    file.write(part)
                    separator = b",\n"
            file.write(b"\n]" if separator == b",\n" else b"[]")
    fs.rm(f"{root}/{_PARTS}", recursive=True)


def make_room_for_parts(fs: AbstractFileSystem, root: str) -> None:
    """Make the directories of the parts."""
    for name in OF_SCENES:
        fs.makedirs(f"{root}/{_PARTS}/{name}", exist_ok=True)


_PARTS = ".parts"


def _part(root: str, name: str, index: int) -> str:
    return f"{root}/{_PARTS}/{name}/{index:06d}"


def write_fixed_tables(
    fs: AbstractFileSystem, root: str, version: str, seed: int, channels: Iterable[str], map_file: str, logs: list[str]
) -> None:
    """Write the tables that do not grow with the scenes; `logs` are the tokens of those that the map is of."""
    tables: dict[str, list[Record]] = {
        "attribute": [_named(seed, "attribute", name, text) for name, text in ATTRIBUTES.items()],
        "category": [_named(seed, "category", name, text) for name, text in CATEGORIES.items()],
        "map": [{"category": "semantic_prior", "token": token(seed, "map"), "filename": map_file, "log_tokens": logs}],
        "sensor": [
            {
                "token": token(seed, "sensor", channel),
                "channel": channel,
                "modality": "camera" if channel.startswith("CAM") else "lidar",
            }
            for channel in channels
        ],
        "visibility": [
            {"token": level, "level": bounds, "description": f"visibility of whole object is {bounds[1:]} %"}
            for level, bounds in VISIBILITY.items()
        ],
    }
    for name, records in tables.items():
        write_whole(fs, f"{root}/{version}/{name}.json", orjson.dumps(records, option=orjson.OPT_INDENT_2))


def _named(seed: int, table: str, name: str, description: str) -> Record:
    return {"token": token(seed, table, name), "name": name, "description": description}
