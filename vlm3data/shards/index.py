"""The index of a dataset, made from its manifests alone, and `dataset.json`, which completes it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import orjson
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem

from vlm3data.storage import open_whole, write_whole

INDEX_PARQUET = "index.parquet"
INDEX_ARROW = "index.arrow"
DATASET = "dataset.json"

PLACE = pa.schema({"shard": pa.uint32(), "offset": pa.uint64(), "length": pa.uint32(), "xxh3": pa.uint64()})
_TABLE = pa.schema(
    {
        "key": pa.string(),
        **{field.name: field.type for field in PLACE},
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

_POLARS = {
    pa.string(): pl.String,
    pa.bool_(): pl.Boolean,
    pa.uint8(): pl.UInt8,
    pa.uint32(): pl.UInt32,
    pa.uint64(): pl.UInt64,
    pa.float64(): pl.Float64,
}

ROWS = 1 << 17
"""In a row group of the Parquet index, about: what is held in memory while it is written."""


def write_index(
    fs: AbstractFileSystem, directory: str, manifests: Iterable[dict[str, Any]], about: dict[str, Any]
) -> dict[str, Any]:
    """Write both index files and, last of all, `dataset.json`, which is returned.

    The manifests are looked at one by one: of each sample only its place, 24 bytes, is held in memory.
    """
    places, shards, sizes = list[pa.Table](), dict[str, str](), list[int]()
    least, most = math.inf, 0
    with (
        open_whole(fs, f"{directory}/{INDEX_PARQUET}") as file,
        pq.ParquetWriter(file, _TABLE, compression="zstd") as writer,
    ):
        waiting: list[pa.Table] = []
        for number, manifest in enumerate(manifests):
            table = _table(number, manifest)
            pixels = [member["row"]["width_px"] * member["row"]["height_px"] for member in manifest["members"]]
            least, most = min([least, *pixels]), max([most, *pixels])
            shards[manifest["shard"]] = manifest["sha256"]
            sizes.append(manifest["bytes"])
            places.append(table.select(PLACE.names))
            waiting.append(table)
            if sum(map(len, waiting)) >= ROWS:
                writer.write_table(pa.concat_tables(waiting))
                waiting.clear()
        if waiting:
            writer.write_table(pa.concat_tables(waiting))
    fixed = _fixed(places, list(shards))
    with open_whole(fs, f"{directory}/{INDEX_ARROW}") as file, pa.ipc.new_file(file, fixed.schema) as writer:
        # one batch, uncompressed: a reader maps each column as one flat array
        writer.write_table(fixed.combine_chunks(), max_chunksize=max(1, len(fixed)))
    dataset = about | {
        "samples": len(fixed),
        "bytes": sum(sizes),
        "image_pixels": {"min": least, "max": most},
        "fingerprint": _fingerprint(shards),
        "shards": shards,
    }
    write_whole(fs, f"{directory}/{DATASET}", orjson.dumps(dataset, option=orjson.OPT_INDENT_2))
    return dataset


def index_tables(manifests: Sequence[dict[str, Any]]) -> tuple[pa.Table, pa.Table]:
    """Return what the two index files hold, Parquet's and Arrow's, of shards with these manifests."""
    tables = [_table(number, manifest) for number, manifest in enumerate(manifests)]
    places = [table.select(PLACE.names) for table in tables]
    return pa.concat_tables(tables), _fixed(places, [manifest["shard"] for manifest in manifests])


def fingerprint(manifests: Sequence[dict[str, Any]]) -> str:
    """Return a digest that changes when any shard's bytes, or their order, do."""
    return _fingerprint({manifest["shard"]: manifest["sha256"] for manifest in manifests})


def _fingerprint(shards: Mapping[str, str]) -> str:
    text = "\n".join(f"{shard} {sha256}" for shard, sha256 in shards.items())
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _table(number: int, manifest: dict[str, Any]) -> pa.Table:
    """Return the rows of one shard: key, place and what the manifest says of each sample."""
    members = manifest["members"]
    rows = [
        member["row"]
        | {
            "key": member["key"],
            "shard": number,
            "offset": member["offset"],
            "length": member["length"],
            "xxh3": int(member["xxh3"], 16),
        }
        for member in members
    ]
    arrays = [_column([row[name] for row in rows], kind) for name, kind in zip(_TABLE.names, _TABLE.types, strict=True)]
    return pa.Table.from_arrays(arrays, schema=_TABLE)


def _column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Return a column of the index.

    Through polars: pyarrow, given Python's own objects, imports pandas first, which takes a third of a second.
    """
    if not pa.types.is_list(kind):
        return pl.Series(values, dtype=_POLARS[kind]).to_arrow().cast(kind)
    ends = pl.Series(np.cumsum([0, *map(len, values)], dtype=np.int32))
    within = _column([text for texts in values for text in texts], pa.string())
    return pa.ListArray.from_arrays(ends.to_arrow(), within)


def _fixed(places: Sequence[pa.Table], shards: Sequence[str]) -> pa.Table:
    return pa.concat_tables(places).replace_schema_metadata({"shards": orjson.dumps(shards)})
