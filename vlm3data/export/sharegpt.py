"""Messages with roles and `images` beside them: LLaMA-Factory's sharegpt formatting, and ms-swift's own format.

No newline follows a placeholder: both put the image's tokens in its place, and Qwen's template has none there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vlm3data.export.drawn import Item
from vlm3data.export.rows import RowFormat, provenance, turns

FILE = "data.jsonl"


def row(item: Item, images: Sequence[str]) -> dict[str, Any]:
    """Return one line."""
    said = [
        {"role": role, "content": text}
        for turn in turns(item, between="")
        for role, text in zip(("user", "assistant"), turn, strict=True)
    ]
    return provenance(item) | {"messages": said, "images": list(images)}


DATASET_INFO = {
    "vlm3": {
        "file_name": FILE,
        "formatting": "sharegpt",
        "columns": {"messages": "messages", "images": "images"},
        "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"},
    }
}
"""LLaMA-Factory finds the dataset `vlm3` by it: `dataset: vlm3`, `dataset_dir` and `media_dir` the export."""

SHAREGPT = RowFormat(FILE, row, {"dataset_info.json": DATASET_INFO})
