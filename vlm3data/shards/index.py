"""The index of a dataset, made from its manifests alone, and `dataset.json`, which completes it."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem

from vlm3data.storage import write_whole

INDEX_PARQUET = "index.parquet"
INDEX_ARROW = "index.arrow"
DATASET = "dataset.json"

_ROW = pa.schema(
    {
        "source": pa.string(),
        "scene": pa.string(),
        "split": pa.string(),
        "metric": pa.bool_(),
        "views": pa.uint8(),
        "width_px": pa.uint32(),
        "height_px": pa.uint32(),
        "focal_px": pa.float64(),
        "source_focal_px": pa.float64(),
        "tasks": pa.list_(pa.string()),
        "questions": pa.uint32(),
        "question_chars": pa.uint32(),
        "answer_chars": pa.uint32(),
    }
)
"""The Parquet index: what `write.py` says of a sample, behind its key and place."""


def write_index(
    fs: AbstractFileSystem, directory: str, manifests: Sequence[dict[str, Any]], about: dict[str, Any]
) -> dict[str, Any]:
    """Write both index files and, last of all, `dataset.json`, which is returned."""
    table, fixed = index_tables(manifests)
    parquet, arrow = io.BytesIO(), io.BytesIO()
    pq.write_table(table, parquet, compression="zstd")
    with pa.ipc.new_file(arrow, fixed.schema) as writer:
        # one batch, uncompressed: a reader maps each column as one flat array
        writer.write_table(fixed, max_chunksize=max(1, len(fixed)))
    write_whole(fs, f"{directory}/{INDEX_PARQUET}", parquet.getvalue())
    write_whole(fs, f"{directory}/{INDEX_ARROW}", arrow.getvalue())
    rows = [member["row"] for manifest in manifests for member in manifest["members"]]
    pixels = [row["width_px"] * row["height_px"] for row in rows]
    dataset = about | {
        "samples": len(rows),
        "bytes": sum(manifest["bytes"] for manifest in manifests),
        "image_pixels": {"min": min(pixels), "max": max(pixels)},
        "fingerprint": fingerprint(manifests),
        "shards": {manifest["shard"]: manifest["sha256"] for manifest in manifests},
    }
    write_whole(fs, f"{directory}/{DATASET}", orjson.dumps(dataset, option=orjson.OPT_INDENT_2))
    return dataset


def index_tables(manifests: Sequence[dict[str, Any]]) -> tuple[pa.Table, pa.Table]:
    """Return what the two index files hold, Parquet's and Arrow's, of shards with these manifests."""
    rows = [(number, member) for number, manifest in enumerate(manifests) for member in manifest["members"]]
    place = {
        "shard": pa.array([number for number, _ in rows], pa.uint32()),
        "offset": pa.array([member["offset"] for _, member in rows], pa.uint64()),
        "length": pa.array([member["length"] for _, member in rows], pa.uint32()),
        "xxh3": pa.array([int(member["xxh3"], 16) for _, member in rows], pa.uint64()),
    }
    about_rows = pa.Table.from_pylist([member["row"] for _, member in rows], schema=_ROW)
    table = pa.table({"key": pa.array([m["key"] for _, m in rows], pa.string())} | place)
    for name in about_rows.column_names:
        table = table.append_column(name, about_rows[name])
    shards = [manifest["shard"] for manifest in manifests]
    return table, pa.table(place).replace_schema_metadata({"shards": orjson.dumps(shards)})


def fingerprint(manifests: Sequence[dict[str, Any]]) -> str:
    """Return a digest that changes when any shard's bytes, or their order, do."""
    text = "\n".join(f"{manifest['shard']} {manifest['sha256']}" for manifest in manifests)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
