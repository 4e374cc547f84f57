"""Parquet with the images' bytes inside, as Hugging Face's `datasets` loads and TRL's SFTTrainer reads it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from vlm3data.export.drawn import Item
from vlm3data.export.rows import provenance

ROWS_PER_FILE, ROWS_PER_GROUP = 1000, 100
"""A reader holds a row group in memory: 100 pictures rather than a million."""

_TEXT = {"dtype": "string", "_type": "Value"}
_FEATURES = {
    **dict.fromkeys(("id", "source", "split", "licence"), _TEXT),
    "images": [{"_type": "Image"}],
    "messages": [{"role": _TEXT, "content": [{"type": _TEXT, "text": _TEXT}]}],
}
"""Tells `datasets` that the structs are images, in the notation that all its versions read."""

_SCHEMA = pa.schema(
    {
        **dict.fromkeys(("id", "source", "split", "licence"), pa.string()),
        "images": pa.list_(pa.struct({"bytes": pa.binary(), "path": pa.string()})),
        "messages": pa.list_(
            pa.struct({"role": pa.string(), "content": pa.list_(pa.struct({"type": pa.string(), "text": pa.string()}))})
        ),
    },
    metadata={"huggingface": orjson.dumps({"info": {"features": _FEATURES}})},
)


def row(item: Item, names: Iterable[str]) -> dict[str, Any]:
    """Return one row; `names` of the images are kept as their paths."""
    sample = item.sample
    messages = []
    for question in sample.questions:
        images = [] if messages else [{"type": "image", "text": None}] * len(sample.images)
        asked = [*images, {"type": "text", "text": question.question}]
        messages.append({"role": "user", "content": asked})
        messages.append({"role": "assistant", "content": [{"type": "text", "text": question.answer}]})
    images = [{"bytes": data, "path": name} for data, name in zip(sample.images, names, strict=True)]
    return provenance(item) | {"images": images, "messages": messages}


def write_rows(file: Any, rows: Iterator[dict[str, Any]]) -> None:
    """Write one file, a row group at a time."""
    # JPEGs do not get smaller; statistics of them would be as large as they are.
    with pq.ParquetWriter(file, _SCHEMA, compression="zstd", use_dictionary=False, write_statistics=False) as writer:
        while group := list(itertools.islice(rows, ROWS_PER_GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema=_SCHEMA))
