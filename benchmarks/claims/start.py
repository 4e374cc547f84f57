"""The models that runs begin from: one for each size and seed, all with the same tokenizer."""

from __future__ import annotations

import string
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import yaml

from benchmarks.claims.pictures import WORDINGS
from vlm3data.randomness import rng_for

TEXTS = 400
"""Of each wording."""


def untrained(work: Path, size: str, seed: int) -> Path:
    """Return the directory of an untrained model, written where it is not there yet."""
    out = work / "models" / f"{size}-{seed}"
    if not (out / "config.json").exists():
        from vlm3train.tiny import size_named, write_tiny_model

        write_tiny_model(out, size_named(size), _texts(), seed)
    return out


@cache
def _texts() -> tuple[str, ...]:
    return tuple(_made_up())


def _made_up() -> Iterator[str]:
    """Yield what the wordings may come to, with made-up numbers; the tokenizer is the same for every arm and seed."""
    rng = rng_for(0, "claims tokenizer")
    packs = [yaml.safe_load(Path(path).read_text())["wordings"] for path in WORDINGS.values()]
    templates = [wording[part] for pack in packs for wording in pack for part in ("question", "answer")]
    for template in templates:
        parts = list(string.Formatter().parse(template))
        for _ in range(TEXTS):
            yield "".join(text + (str(rng.integers(2000)) if name else "") for text, name, _, _ in parts)
            yield from ("user\n", "assistant\n")
