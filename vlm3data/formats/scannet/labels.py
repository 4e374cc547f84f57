"""ScanNet's instances: which vertices of a scan's mesh belong to which object.

A mesh is cut into segments, an annotation groups segments into objects. A scan has two such sets, one on the
decimated mesh and one on the full one; their segments have different numbers, and a file of one set read with a
file of the other gives boxes that look sound and are wrong. The two are therefore never mixed, and what the files
say of each other is checked.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import orjson
from fsspec import AbstractFileSystem

from vlm3data.formats.ply import read_vertices, write_mesh
from vlm3data.storage import read_whole, write_whole
from vlm3data.types import Float64Array, Int64Array, UserError

LABEL_SETS = (
    ("_vh_clean_2.ply", "_vh_clean_2.0.010000.segs.json", ".aggregation.json"),
    ("_vh_clean.ply", "_vh_clean.segs.json", "_vh_clean.aggregation.json"),
)
"""Mesh, segments, annotation: how the names of each set end. The first complete one is read."""


class Instance(NamedTuple):
    """One annotated object."""

    label: str
    """As the annotators wrote it."""
    vertices_m: Float64Array
    """(n, 3), in the mesh's own world, before axis alignment."""


def find_labels(directory: str, scan: str, names: set[str]) -> tuple[str, str, str] | None:
    """Return the paths of the first complete set among the file `names` in `directory`; None where there is none."""
    for endings in LABEL_SETS:
        if {scan + ending for ending in endings} <= names:
            mesh, segments, annotation = (posixpath.join(directory, scan + ending) for ending in endings)
            return mesh, segments, annotation
    return None


def read_instances(fs: AbstractFileSystem, mesh: str, segments: str, annotation: str) -> list[Instance]:
    """Return the objects of one set of files; raise UserError where they are damaged or do not belong together."""
    of_vertex = _segment_of_vertices(_json(fs, segments), segments)
    groups = _groups(_json(fs, annotation), annotation, posixpath.basename(segments))
    vertices = read_vertices(fs, mesh)
    if len(vertices) != len(of_vertex):
        raise UserError(
            f"{segments}: has segments for {len(of_vertex)} vertices, but {mesh} has {len(vertices)}: they are not "
            "of the same mesh"
        )
    known = np.unique(of_vertex)
    instances = []
    for label, numbers in groups:
        if not np.isin(numbers, known).all():
            raise UserError(f"{annotation}: object {label!r} has segments that are not in {segments}")
        instances.append(Instance(label, vertices[np.isin(of_vertex, numbers)]))
    return instances


def write_instances(
    fs: AbstractFileSystem,
    directory: str,
    scan: str,
    vertices_m: Float64Array,
    faces: npt.ArrayLike,
    segment_of_vertex: Int64Array,
    objects: Sequence[tuple[str, Sequence[int]]],
) -> None:
    """Write the set of the decimated mesh: `objects` are (label, numbers of segments)."""
    mesh, segments, annotation = LABEL_SETS[0]
    with cast("Any", fs.open(f"{directory}/{scan}{mesh}", "wb")) as file:
        write_mesh(file, vertices_m, faces)
    segs = {"params": {}, "sceneId": scan, "segIndices": segment_of_vertex.tolist()}
    write_whole(fs, f"{directory}/{scan}{segments}", orjson.dumps(segs))
    groups = [
        {"id": number, "objectId": number, "segments": list(numbers), "label": label}
        for number, (label, numbers) in enumerate(objects)
    ]
    about = {"sceneId": f"scannet.{scan}", "segGroups": groups, "segmentsFile": f"scannet.{scan}{segments}"}
    write_whole(fs, f"{directory}/{scan}{annotation}", orjson.dumps(about))


def _json(fs: AbstractFileSystem, path: str) -> dict[str, Any]:
    try:
        found = orjson.loads(read_whole(fs, path))
    except orjson.JSONDecodeError as error:
        raise UserError(f"{path}: is damaged: {error}") from error
    if not isinstance(found, dict):
        raise UserError(f"{path}: holds no object, as a ScanNet file of this name does")
    return found


def _segment_of_vertices(found: dict[str, Any], path: str) -> Int64Array:
    numbers = _whole_numbers(found.get("segIndices"))
    if numbers is None:
        raise UserError(f"{path}: segIndices is not a list of whole numbers")
    return numbers


def _groups(found: dict[str, Any], path: str, segments_name: str) -> list[tuple[str, Int64Array]]:
    """Return (label, segments) of each object that has any."""
    # "scannet.scene0000_00_vh_clean_2.0.010000.segs.json"; where the file says nothing, numbers must do
    refers_to = found.get("segmentsFile")
    if isinstance(refers_to, str) and refers_to and refers_to.removeprefix("scannet.") != segments_name:
        raise UserError(f"{path}: belongs to {refers_to}, not to {segments_name}")
    groups = found.get("segGroups")
    if not isinstance(groups, list):
        raise UserError(f"{path}: segGroups is not a list")
    read = []
    for number, group in enumerate(groups):
        segments = _whole_numbers(group.get("segments")) if isinstance(group, dict) else None
        if segments is None or not isinstance(group.get("label"), str):
            raise UserError(f"{path}: segGroups.{number} has no label, or no list of segments")
        if len(segments):
            read.append((group["label"], segments))
    return read


def _whole_numbers(values: Any) -> Int64Array | None:
    """Return a list of whole numbers as an array; None for anything else."""
    if not isinstance(values, list):
        return None
    try:
        numbers = np.asarray(values)
    except (ValueError, OverflowError):  # lists of several lengths, numbers that no type holds
        return None
    if numbers.ndim != 1 or (len(numbers) and numbers.dtype.kind != "i"):
        return None
    return numbers.astype(np.int64)
