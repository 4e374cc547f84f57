"""Randomness as an argument: generators and permutations derived from a seed and a position, nothing global."""

from __future__ import annotations

import hashlib

import numpy as np

from vlm3data.types import Int64Array


def key_for(*position: str | int) -> int:
    """Return a 128-bit key that depends on nothing but `position` (names and numbers, in order)."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in position)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little")


def rng_for(*position: str | int) -> np.random.Generator:
    """Return a generator for `position`, by convention (seed, purpose, name or index, ...)."""
    return np.random.Generator(np.random.Philox(key=key_for(*position)))


def split_off(rng: np.random.Generator) -> np.random.Generator:
    """Return a generator of its own, whose key is what `rng` gives next.

    What is drawn from it depends on where `rng` stood, and on nothing that is drawn from `rng` afterwards.
    """
    return np.random.Generator(np.random.Philox(key=int.from_bytes(rng.bytes(16), "little")))


def permutation(count: int, *position: str | int) -> Int64Array:
    """Return a permutation of range(count) for `position`.

    Built from raw Philox words, a stream that numpy promises never to change, and not from
    `Generator.permutation`, which it may improve: a run must resume in the same order after an upgrade.
    """
    words = np.random.Philox(key=key_for(*position)).random_raw(count)
    return np.argsort(words, kind="stable")
