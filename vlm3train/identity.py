"""What tells one model, and one set of questions, from another: answers are only kept for the same two."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import xxhash

from vlm3data.build_config import BuildConfig
from vlm3data.plan import plan

BLOCK, BLOCKS = 1 << 16, 64
SUFFIXES = (".json", ".jinja", ".safetensors", ".txt", ".model")
NOT_THE_MODEL = ("run.json", "trainer_state.json", "vlm3.json", "generation_config.json")


def model_digest(name: str) -> str:
    """Return a digest of a model directory's files, or `name@commit` of a model from the hub.

    Of a large file it takes the size and blocks spread over it: training moves every weight, so two checkpoints differ
    in them, and reading all bytes of a large model takes longer than many an evaluation.
    """
    if not Path(name).is_dir():
        from transformers.utils import cached_file

        return f"{name}@{Path(cached_file(name, 'config.json') or '').parent.name}"
    digest = xxhash.xxh3_128()
    for path in sorted(Path(name).iterdir()):
        if path.is_file() and path.suffix in SUFFIXES and path.name not in NOT_THE_MODEL:
            digest.update(f"{path.name} {path.stat().st_size}\n".encode())
            for block in _blocks(path):
                digest.update(block)
    return digest.hexdigest()


def config_digest(config: BuildConfig) -> str:
    """Return a digest of what a build would write: of its config, its scenes, and their stamps."""
    return hashlib.sha256("\n".join(job.digest for job in plan(config)).encode()).hexdigest()[:32]


def _blocks(path: Path) -> Iterable[bytes]:
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= BLOCK * BLOCKS:
            yield file.read()
            return
        for number in range(BLOCKS):
            file.seek((size - BLOCK) * number // (BLOCKS - 1))
            yield file.read(BLOCK)
