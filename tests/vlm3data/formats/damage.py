"""Seeded damage to files, and the proof that a reader survives it: a refusal, or a result, never anything else."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vlm3data.types import Drop, UserError

CASES = int(os.environ.get("FUZZ_CASES", "250"))
"""Set FUZZ_CASES for a longer run."""
MAX_BYTES = 64 << 20
"""What reading a damaged small file may allocate at most."""


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Return `data` cut, with bytes flipped, overwritten, repeated or removed, once or a few times."""
    for _ in range(int(rng.integers(1, 4))):
        if len(data) < 2:
            return data
        at = int(rng.integers(len(data)))
        # Headers are short and matter most, so they are hit more often than their share.
        at = at % 700 if rng.random() < 0.5 else at
        at = min(at, len(data) - 1)
        size = int(rng.integers(1, 17))
        noise = rng.choice([rng.bytes(size), b"\xff" * size, b"\0" * size, b"9" * size, b' -inf nan [{"\n'[:size]])
        match int(rng.integers(5)):
            case 0:
                data = data[:at]
            case 1:
                data = data[:at] + bytes([data[at] ^ (1 << int(rng.integers(8)))]) + data[at + 1 :]
            case 2:
                data = data[:at] + bytes(noise) + data[at + size :]
            case 3:
                data = data[:at] + bytes(noise) + data[at:]
            case _:
                data = data[:at] + data[at + size :]
    return data


def survives(good: bytes, path: Path, read: Callable[[], object], seed: int = 0, cases: int = CASES) -> dict[str, int]:
    """Read `cases` damaged versions of `good` at `path`; return how many gave a result and how many a refusal."""
    came_of = {"result": 0, "refused": 0}
    for case in range(cases):
        path.write_bytes(damaged(good, np.random.default_rng([seed, case])))
        tracemalloc.start()
        try:
            read()
            came_of["result"] += 1
        except (UserError, Drop):
            came_of["refused"] += 1
        except Exception as error:
            error.add_note(f"damage case {case} of {path.name}")
            raise
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < MAX_BYTES, f"case {case} allocated {peak} bytes"
    path.write_bytes(good)
    read()
    return came_of
