"""Every reader and command that damaged files are given to, by the name in the table; and how one case is made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tests.gauntlet import commands, configs, formats, roots
from tests.gauntlet.mutations import mutated
from vlm3data.randomness import rng_for

Run = Callable[[int], str]


class Share(NamedTuple):
    """Which kind of target, and how many of 100,000 cases it is given."""

    group: str
    cases: int


TARGETS: dict[str, Share] = {
    **{f"reader: {name}": Share("reader", 4400) for name in formats.READERS},
    **{f"source: {name}": Share("source", 900 if root.build is None else 150) for name, root in roots.ROOTS.items()},
    **{f"config: {name}": Share("config", 700) for name in configs.CONFIGS},
    **{f"shards: {name}": Share("shards", command.cases) for name, command in commands.COMMANDS.items()},
}


def opened(name: str, seed: int, work: Path) -> Run:
    """Make the sound files of a target below `work`; return what runs one case by its number."""
    group, _, rest = name.partition(": ")
    if group == "reader":
        return _reader(name, formats.READERS[rest], seed, work)
    if group == "source":
        return _root(name, roots.ROOTS[rest], seed, work)
    if group == "config":
        return configs.opened(rest, seed, work)
    return commands.opened(rest, seed, work)


def _reader(name: str, reader: formats.Reader, seed: int, work: Path) -> Run:
    seeds, path = list(reader.seeds()), work / "file"

    def run(case: int) -> str:
        rng = rng_for(seed, name, case)
        data = mutated(rng, seeds[case % len(seeds)], seeds)
        if reader.by_path:
            path.write_bytes(data)
        reader.read(data, path)
        return "read"

    for number, data in enumerate(seeds):  # what is not damaged is read
        path.write_bytes(data)
        reader.read(data, path)
        del number
    return run


def _root(name: str, spec: roots.Root, seed: int, work: Path) -> Run:
    spec.write(work)
    root = work / spec.root
    roots.walk(spec, root)  # what is not damaged is not refused
    files = sorted(path for path in root.rglob("*") if path.is_file())
    sound = {path: path.read_bytes() for path in files}
    alike = {path: [data for other, data in sound.items() if other.suffix == path.suffix] for path in files}

    def run(case: int) -> str:
        rng = rng_for(seed, name, case)
        path = files[int(rng.integers(len(files)))]
        path.write_bytes(damaged(rng, sound[path], alike[path]))
        try:
            return roots.walk(spec, root)
        finally:
            path.write_bytes(sound[path])

    return run


def damaged(rng: np.random.Generator, data: bytes, others: list[bytes]) -> bytes:
    """Return `data` damaged, and never as it was."""
    for _ in range(100):
        if (found := mutated(rng, data, others)) != data:
            return found
    return data[:-1]
