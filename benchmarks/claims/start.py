"""The models that runs begin from: one for each size and seed, all with the same tokenizer."""

from __future__ import annotations

import string
from collections.abc import Iterator
from pathlib import Path

import yaml

from benchmarks.claims.pictures import WORDINGS
from vlm3data.randomness import rng_for

TEXTS = 3000


def untrained(work: Path, size: str, seed: int) -> Path:
    """Return the directory of an untrained model, written where it is not there yet."""
    out = work / "models" / f"{size}-{seed}"
    if not (out / "config.json").exists():
        from vlm3train.tiny import size_named, write_tiny_model

        write_tiny_model(out, size_named(size), _texts(), seed)
    return out


def _texts() -> Iterator[str]:
    """Yield what the wordings may come to, with made-up numbers; the tokenizer is the same for every arm and seed."""
    rng = rng_for(0, "claims tokenizer")
    wordings = yaml.safe_load(Path(WORDINGS).read_text())["wordings"]
    templates = [wording[part] for wording in wordings for part in ("question", "answer")]
    yield from ("user\n", "assistant\n") * TEXTS
    for _ in range(TEXTS):
        for template in templates:
            parts = string.Formatter().parse(template)
            yield "".join(text + (str(rng.integers(2000)) if name else "") for text, name, _, _ in parts)
