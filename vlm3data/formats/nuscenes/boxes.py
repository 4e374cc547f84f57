"""nuScenes' annotated boxes as columns, sorted by sample."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vlm3data.formats.nuscenes.reader import TableReader
from vlm3data.formats.nuscenes.records import Category, Instance, SampleAnnotation, Visibility
from vlm3data.formats.nuscenes.sensors import faults_of_poses
from vlm3data.types import Float64Array, Int64Array, UserError

_LEVEL = re.compile(r"v(\d+)-(\d+)")


@dataclass(frozen=True, slots=True)
class Boxes:
    """The columns of `nuscenes.Tables` with these names."""

    category: pa.Array
    box_first: Int64Array
    box_problem: pa.Array
    box: Float64Array
    box_category: npt.NDArray[np.int32]
    box_instance: npt.NDArray[np.int32]
    box_visibility: Float64Array


def read_boxes(table: TableReader, sample_row: Mapping[str, int]) -> Boxes:
    """Read `category`, `instance`, `visibility` and `sample_annotation`."""
    categories = table.all("category", Category)
    instance_row, category_of = _instances(table, {each.token: row for row, each in enumerate(categories)})
    visible = {each.token: _share(each.level) for each in table.all("visibility", Visibility)}
    name = table.name("sample_annotation")
    samples: list[npt.NDArray[np.int32]] = []
    instances: list[npt.NDArray[np.int32]] = []
    visibility: list[Float64Array] = []
    boxes: list[Float64Array] = []
    for records in table.pieces("sample_annotation", SampleAnnotation):
        samples.append(_rows(name, records, "sample_token", sample_row, "sample"))
        instances.append(_rows(name, records, "instance_token", instance_row, "instance"))
        visibility.append(np.array([visible.get(each.visibility_token, math.nan) for each in records]))
        numbers = chain.from_iterable((*each.translation, *each.size, *each.rotation) for each in records)
        boxes.append(np.fromiter(numbers, float, count=len(records) * 10).reshape(-1, 10))
    sample, box = np.concatenate([*samples, np.empty(0, np.int32)]), np.concatenate([*boxes, np.empty((0, 10))])
    box[:, 3:5] = box[:, 4:2:-1]  # width, length -> length, width
    problems = {
        int(sample[row]): f"bad_annotation: {name}: record {row}: {fault}" for row, fault in _faults(box).items()
    }
    order = np.argsort(sample, kind="stable")
    instance = np.concatenate([*instances, np.empty(0, np.int32)])[order]
    return Boxes(
        category=pa.array([each.name for each in categories], pa.large_string()),
        box_first=np.searchsorted(sample[order], np.arange(len(sample_row) + 1)).astype(np.int64),
        box_problem=pa.array([problems.get(row) for row in range(len(sample_row))], pa.large_string()),
        box=box[order],
        box_category=category_of[instance],
        box_instance=instance,
        box_visibility=np.concatenate([*visibility, np.empty(0)])[order],
    )


def _instances(table: TableReader, category_row: Mapping[str, int]) -> tuple[dict[str, int], npt.NDArray[np.int32]]:
    """Return the row of each instance by its token, and their categories."""
    instances = table.all("instance", Instance)
    category = _rows(table.name("instance"), instances, "category_token", category_row, "category")
    return {each.token: row for row, each in enumerate(instances)}, category


def _rows(
    name: str, records: list[SampleAnnotation] | list[Instance], field: str, rows: Mapping[str, int], table: str
) -> npt.NDArray[np.int32]:
    """Return the rows that the tokens in `field` point to; one that points nowhere is a UserError."""
    found = [rows.get(getattr(record, field), -1) for record in records]
    if -1 in found:
        record = records[found.index(-1)]
        raise UserError(
            f"{name}: token {record.token!r}: {field} {getattr(record, field)!r} is in no record of {table}.json"
        )
    return np.array(found, np.int32)


def _share(level: str) -> float:
    """Return the middle of a visibility bin such as `v40-60`; NaN where the level names none."""
    bounds = _LEVEL.fullmatch(level)
    return (int(bounds[1]) + int(bounds[2])) / 200 if bounds else math.nan


def _faults(boxes: Float64Array) -> dict[int, str]:
    """Return which of the boxes (n, 10) are none, and why."""
    faults = faults_of_poses(boxes[:, [6, 7, 8, 9, 0, 1, 2]])
    sound = ((boxes[:, 3:6] > 0) & (boxes[:, 3:6] < 1e4)).all(axis=1)
    return faults | {int(row): f"size {boxes[row, 3:6].tolist()} is none" for row in np.flatnonzero(~sound)}
