"""What stands in a dataset's own files, checked before it is believed: disks rot, and shards come from strangers.

The bytes of samples have their hashes; what names and places them is held against its types here.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Annotated, Any

import msgspec
import orjson
import pyarrow as pa
from msgspec import Meta, Struct

from vlm3data.types import UserError

Name = Annotated[str, Meta(pattern=r"^[^/\\\x00-\x1f]+\.tar\Z")]
"""Of a shard: a file in the dataset's own directory."""
Count = Annotated[int, Meta(ge=0, le=2**62)]
Short = Annotated[int, Meta(ge=0, lt=2**32)]
Counts = dict[str, Count]


class _Row(Struct, gc=False):
    source: str
    scene: str
    split: str
    metric: bool
    views: Annotated[int, Meta(ge=0, lt=256)]
    width_px: Short
    height_px: Short
    focal_px: float
    source_focal_px: float
    tasks: list[str]
    questions: Short
    question_chars: Short
    answer_chars: Short


class _Member(Struct, gc=False):
    key: str
    offset: Count
    length: Short
    xxh3: Annotated[str, Meta(pattern=r"^[0-9a-f]{16}\Z")]
    files: list[tuple[str, Count, Count]]
    row: _Row


class _Labels(Struct, gc=False):
    kept: Count
    cut: Counts
    dropped: Counts


class _Manifest(Struct, gc=False):
    shard: Name
    sha256: str
    bytes: Count
    samples: Count
    drops: Counts
    cuts: Counts
    unasked: Counts
    labels: _Labels
    config: str
    members: list[_Member]
    quarantined: list[dict[str, str]] = []


class _About(Struct, gc=False):
    samples: Count
    fingerprint: Annotated[str, Meta(pattern=r"^[0-9a-f]+\Z")]
    shards: dict[Name, str]
    config: dict[str, Any] = {}
    facts: dict[str, Any] = {}
    digest: str = ""
    bytes: Count = 0
    drops: Counts = {}
    cuts: Counts = {}
    unasked: Counts = {}
    labels: _Labels | None = None
    image_pixels: dict[str, float] = {}


class _Camera(Struct, gc=False):
    fx_px: float
    fy_px: float
    cx_px: float
    cy_px: float
    width_px: Short
    height_px: Short


class _View(Struct, gc=False):
    frame: str
    source_camera: _Camera
    camera: _Camera
    scale: tuple[float, float]
    crop_xy_px: tuple[float, float]


class _Question(Struct, gc=False):
    task: str
    question: str
    answer: str
    truth: dict[str, Any]


class _Record(Struct, gc=False):
    key: str
    source: str
    scene: str
    frames: list[str]
    split: str
    licence: str
    metric: bool
    views: Annotated[list[_View], Meta(min_length=1)]
    questions: list[_Question]


_MANIFEST, _ABOUT = msgspec.json.Decoder(_Manifest), msgspec.json.Decoder(_About)
_DAMAGE = (msgspec.MsgspecError, ValueError, RecursionError)


def manifest_from(data: bytes, path: str) -> dict[str, Any]:
    """Return a shard's manifest; raises UserError where it is damaged."""
    try:
        checked = _MANIFEST.decode(data)
        if checked.samples != len(checked.members):
            raise ValueError(f"says {checked.samples} samples, lists {len(checked.members)}")
        return orjson.loads(data)
    except _DAMAGE as error:
        raise UserError(f"{path}: is damaged ({error}); delete it, and its shard is built again") from error


def about_from(data: bytes, path: str) -> dict[str, Any]:
    """Return what `dataset.json` holds; raises UserError where it is damaged."""
    try:
        _ABOUT.decode(data)
        return orjson.loads(data)
    except _DAMAGE as error:
        raise UserError(f"{path} is damaged ({error}); run its `vlm3data build` again") from error


def check_record(parsed: object) -> None:
    """Raise ValueError where a sample's parsed JSON is not a record as `docs/conventions.md` has it."""
    try:
        msgspec.convert(parsed, _Record)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(str(error)) from error


def check_places(table: pa.Table, places: pa.Schema, about: dict[str, Any]) -> None:
    """Raise ValueError where the index is not that of the samples that `dataset.json` lists."""
    table.validate()
    if not table.schema.remove_metadata().equals(places) or len(table) != about["samples"]:
        raise ValueError(f"{len(table)} rows of {table.schema.names}, but {about['samples']} samples")
    if any(table[name].null_count or table[name].num_chunks > 1 for name in places.names):
        raise ValueError("places that are unknown")
    if orjson.loads((table.schema.metadata or {}).get(b"shards", b"null")) != list(about["shards"]):
        raise ValueError("it lists other shards than dataset.json")


@contextmanager
def damage_named(path: str) -> Generator[None]:
    """Turn what reading a damaged or missing index or config raises into a UserError that names the file."""
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file; run its `vlm3data build` again") from error
    except (*_DAMAGE, pa.ArrowException, OSError, LookupError, TypeError, AttributeError) as error:
        told = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise UserError(f"{path}: is damaged ({told}); run its `vlm3data build` again") from error
