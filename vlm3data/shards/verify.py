"""Checking a finished dataset from the bytes up: hashes, tar structure, images, records, every question."""

from __future__ import annotations

import hashlib
import io
import math
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vlm3data import registry
from vlm3data.images import decode_rgb
from vlm3data.shards.index import INDEX_ARROW, INDEX_PARQUET, fingerprint, index_tables
from vlm3data.shards.ranges import StoreError, read_file
from vlm3data.shards.read import CorruptSampleError, Dataset
from vlm3data.shards.write import committed
from vlm3data.storage import open_store
from vlm3data.types import Drop, Question, Sample, UserError


@dataclass(slots=True)
class Findings:
    """What a verification saw; the dataset is sound when `problems` is empty."""

    shards: int = 0
    samples: int = 0
    questions: int = 0
    problems: list[str] = field(default_factory=list)


def verify(url: str, progress: Callable[[int, int], None] = lambda done, total: None) -> Findings:
    """Check every byte, image and question of the dataset at `url`; problems are listed, not raised."""
    dataset = Dataset(url)
    fs, directory = open_store(url)
    findings, keys, start = Findings(), set[str](), 0
    manifests = committed(fs, directory)
    listed = list(dataset.about["shards"])
    if [manifest["shard"] for manifest in manifests.values()] != listed:
        findings.problems.append("dataset.json lists other shards than there are manifests")
    if fingerprint(list(manifests.values())) != dataset.fingerprint:
        findings.problems.append("dataset.json's fingerprint does not match the manifests")
    findings.problems += _index_problems(fs, directory, list(manifests.values()))
    try:
        readable = len(dataset.shard_sizes) > 0
    except UserError as error:  # samples cannot be found by this index; it is said once
        findings.problems.append(str(error))
        readable = False
    for name, manifest in manifests.items():
        findings.shards += 1
        findings.problems += (f"{name}.tar: {problem}" for problem in _shard_problems(fs, directory, manifest))
        for i, member in enumerate(manifest["members"], start):
            findings.samples += 1
            if member["key"] in keys:
                findings.problems.append(f"{name}.tar: key {member['key']} appears twice")
            keys.add(member["key"])
            if not readable:
                continue
            try:
                sample = dataset.stored(i)
                findings.questions += len(sample.record["questions"])
                findings.problems += (
                    f"{name}.tar: {member['key']}: {problem}" for problem in _sample_problems(sample, member["key"])
                )
            except (CorruptSampleError, StoreError, IndexError, ValueError, KeyError, TypeError, OSError) as error:
                findings.problems.append(f"{name}.tar: {member['key']}: cannot be read: {error!r}")
            progress(i + 1, len(dataset))
        start += len(manifest["members"])
    if start != len(dataset):
        findings.problems.append(f"the index has {len(dataset)} samples, the manifests have {start}")
    return findings


def _index_problems(fs: Any, directory: str, manifests: list[dict[str, Any]]) -> Iterator[str]:
    """Yield where one of the two index files does not say what the manifests do; both can be made again from them."""
    expected = dict(zip((INDEX_PARQUET, INDEX_ARROW), index_tables(manifests), strict=True))
    for name, table in expected.items():
        try:
            data = read_file(fs, f"{directory}/{name}")
            found = pq.read_table(io.BytesIO(data)) if name == INDEX_PARQUET else pa.ipc.open_file(data).read_all()
        except (OSError, StoreError, ValueError, pa.ArrowException) as error:
            yield f"{name} cannot be read: {error}"
            continue
        if not found.schema.equals(table.schema) or len(found) != len(table):
            yield f"{name} has {len(found)} rows and columns {found.column_names}, the manifests make it otherwise"
            continue
        for column in table.column_names:
            if not found[column].combine_chunks().equals(table[column].combine_chunks()):
                one, other = found[column].to_pylist(), table[column].to_pylist()
                row = next(row for row, pair in enumerate(zip(one, other, strict=True)) if pair[0] != pair[1])
                yield f"{name}: row {row}: {column} is {one[row]!r}, the manifest says {other[row]!r}"
        if (found.schema.metadata or {}).get(b"shards") != (table.schema.metadata or {}).get(b"shards"):
            yield f"{name} lists other shards than there are manifests"


def _shard_problems(fs: Any, directory: str, manifest: dict[str, Any]) -> Iterator[str]:
    try:
        data = fs.cat_file(f"{directory}/{manifest['shard']}")
    except FileNotFoundError:
        yield "the manifest is there, the tar is not"
        return
    if hashlib.sha256(data).hexdigest() != manifest["sha256"]:
        yield "sha256 differs from the manifest's"
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:  # nothing is unpacked
            found = [[info.name, info.offset_data, info.size] for info in tar]
    except (tarfile.TarError, ValueError, OverflowError) as error:
        yield f"not a readable tar: {error}"
        return
    if found != [file for member in manifest["members"] for file in member["files"]]:
        yield "its members are not those of the manifest"


def _sample_problems(sample: Sample, key: str) -> Iterator[str]:
    record = sample.record
    if not sample.key == record["key"] == key:
        yield f"keys differ: tar {sample.key}, record {record['key']}"
    if len(sample.images) != len(record["views"]):
        yield f"{len(sample.images)} images for {len(record['views'])} views"
    for number, (image, view) in enumerate(zip(sample.images, record["views"], strict=False)):
        camera = view["camera"]
        if problem := _camera_problem(view):
            yield f"view {number}: {problem}"
        if problem := _calibration_problem(view):
            yield f"view {number}: {problem}"
        try:
            decode_rgb(image, (camera["width_px"], camera["height_px"]))
        except Drop as drop:
            yield f"image {number}: {drop}"
    for number, question in enumerate(record["questions"]):
        try:
            task_class = registry.load("task", question["task"])
        except UserError as error:
            yield f"question {number}: {error}"
            continue
        problem = task_class.problem_with(Question(**question), record)
        if problem:
            yield f"question {number}: {problem}"


def _calibration_problem(view: dict[str, Any]) -> str | None:
    """Return what is wrong with the record of how a camera was estimated; there is none where the source knows it."""
    if "calibration" not in view:
        return None
    calibration = view["calibration"]
    method, sigma = calibration["method"], calibration["focal_sigma_rel"]
    if not (isinstance(method, str) and method):
        return f"calibration by no method: {method!r}"
    if sigma is not None and not (isinstance(sigma, float) and 0 < sigma < math.inf):
        return f"focal_sigma_rel is {sigma!r}, neither null nor a positive share"
    if not isinstance(calibration["evidence"], dict):
        return "calibration without its evidence"
    return "an estimated camera is a pinhole one" if view["source_camera"]["distortion"] else None


def _camera_problem(view: dict[str, Any]) -> str | None:
    """Return where a view's camera is not its source's, scaled and cropped as the view says."""
    source, camera = view["source_camera"], view["camera"]
    for axis, scale, offset in zip("xy", view["scale"], view["crop_xy_px"], strict=True):
        moved = {f"f{axis}_px": source[f"f{axis}_px"] * scale, f"c{axis}_px": source[f"c{axis}_px"] * scale - offset}
        for name, expected in moved.items():
            if not math.isclose(camera[name], expected, rel_tol=1e-9, abs_tol=1e-6):
                return f"{name} is {camera[name]}, but source, scale and crop make it {expected}"
    return None
