"""LLaVA's `--data_path` file: an array of `conversations` between human and gpt, `image` relative to a folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vlm3data.export.drawn import Item
from vlm3data.export.rows import RowFormat, provenance, turns


def row(item: Item, images: Sequence[str]) -> dict[str, Any]:
    """Return one entry; `image` is a string for one image, a list for several (LLaVA-NeXT)."""
    said = [
        {"from": speaker, "value": text}
        for turn in turns(item, between="\n")
        for speaker, text in zip(("human", "gpt"), turn, strict=True)
    ]
    return provenance(item) | {"image": images[0] if len(images) == 1 else list(images), "conversations": said}


LLAVA = RowFormat("data.json", row, {})
QWEN_VL = RowFormat("data.jsonl", row, {})
"""The Qwen-VL fine-tuning scripts read the same rows, also line by line, and strip the newlines around images."""
