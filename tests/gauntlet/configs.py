"""Every YAML and JSON that a person writes: damaged text, and what only an attacker would write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import yaml

from tests.gauntlet.mutations import mutated
from vlm3data.config import read_yaml
from vlm3data.formats.rgbd.patterns import Patterns
from vlm3data.mixture import Mixture
from vlm3data.randomness import rng_for
from vlm3train.study_spec import StudySpec

REPOSITORY = Path(__file__).parents[2]


class Kind(NamedTuple):
    """Sound texts, and how the file at a path is read."""

    texts: Callable[[], list[bytes]]
    read: Callable[[Path], object]


def _found(pattern: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted(REPOSITORY.glob(pattern))]


def _studies() -> list[bytes]:
    study = {
        "models": ["m"], "steps": [10, 20], "mixtures": {"a": "mixtures/demo.yaml"}, "evaluate": {"shards": ["s"]},
        "grid": {"mixture": "mixtures/demo.yaml", "weights": {"a": [0.5, 1]}},
    }  # fmt: skip
    return [yaml.safe_dump(study).encode()]


def _hostile() -> list[bytes]:
    return [text if isinstance(text, bytes) else text.encode() for text in HOSTILE.values()]


def _bomb(levels: int = 12) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(lines) + "\n"


def _merge_bomb(levels: int = 9) -> str:
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, levels)]
    return "\n".join(lines) + "\n"


HOSTILE: dict[str, str | bytes] = {
    "aliases that multiply": _bomb(),
    "merge keys that multiply": _merge_bomb(),
    "a merge of itself": "a: &a\n  <<: *a\n  b: 1\n",
    "a list of itself": "datasets: &a [*a]\n",
    "a mapping of itself": "datasets: &a {a: *a}\n",
    "a python object": "datasets: !!python/object/apply:os.system ['touch /tmp/ran']\n",
    "a python name": "datasets: !!python/name:os.system\n",
    "an unknown tag": "datasets: !thing {a: 1}\n",
    "a huge int": "seed: " + "9" * 6000 + "\n",
    "a huge int in base 60": "seed: " + ":".join(["59"] * 3000) + "\n",
    "a huge float": "seed: 1e999999\n",
    "a date that is none": "seed: 2001-99-99\n",
    "a time zone that is none": "seed: 2001-12-14 21:59:43.10 -99:99\n",
    "a year zero": "seed: 0000-01-01\n",
    "equal keys": "seed: 1\nseed: 2\n",
    "keys equal as numbers": "{1: a, 1.0: b, true: c}\n",
    "a key that is a list": "? [a, b]\n: 1\n",
    "a key that is a mapping": "? {a: b}\n: 1\n",
    "nan for a key": "{.nan: 1, .nan: 2}\n",
    "deep lists": "[" * 20_000 + "]" * 20_000,
    "deep mappings": "{a: " * 5_000 + "1" + "}" * 5_000,
    "deep blocks": "".join("  " * n + "a:\n" for n in range(400)),
    "many keys": "".join(f"k{n}: 1\n" for n in range(20_000)),
    "several documents": "a: 1\n---\nb: 2\n",
    "binary that is none": "seed: !!binary '@@@@'\n",
    "a set": "seed: !!set {a, b}\n",
    "pairs": "seed: !!pairs [a: 1, a: 2]\n",
    "an ordered mapping": "seed: !!omap [a: 1, b]\n",
    "an int that is none": "seed: !!int abc\n",
    "a float that is none": "seed: !!float abc\n",
    "an int of nothing": "seed: !!int ''\n",
    "a float of nothing": "seed: !!float ''\n",
    "a bool that is none": "seed: !!bool abc\n",
    "a time that is none": "seed: !!timestamp abc\n",
    "a null byte": b"seed: \x00\n",
    "half a surrogate": b'seed: "\\ud800"\n',
    "utf-16": "seed: 1\n".encode("utf-16"),
    "not utf-8": b"seed: \xff\xfe\xfd\n",
    "escapes for the terminal": 'datasets: {"\\e[2J\\e]0;owned\\a": {shards: x}}\n',
    "nothing": "",
    "a word": "word",
    "a directive": "%YAML 9.9\n---\na: 1\n",
    "tags of a directive": "%TAG ! tag:yaml.org,2002:python/\n---\n!object/apply:os.system [ls]\n",
    "extends itself": "extends: file.yaml\n",
    "extends a device": "extends: /dev/zero\n",
    "extends a process": "extends: /proc/self/mem\n",
    "extends a directory": "extends: /\n",
    "extends a number": "extends: 7\n",
    "shards in a device": "datasets: {a: {shards: /dev/zero}}\n",
    "shards at a url that is none": "datasets: {a: {shards: 'nothing://x'}}\n",
    "shards at a chain of urls": "datasets: {a: {shards: 'zip://x::nothing://y'}}\n",
}  # fmt: skip


def _mixture(path: Path) -> None:
    mixture = Mixture.load(path)
    _ = mixture.spec


CONFIGS = {
    "yaml": Kind(lambda: _found("mixtures/*.yaml") + _hostile(), read_yaml),
    "mixture": Kind(lambda: _found("mixtures/*.yaml"), _mixture),
    "patterns": Kind(lambda: _found("docs/rgbd/*.yaml"), Patterns.load),
    "study": Kind(_studies, StudySpec.load),
}


def opened(name: str, seed: int, work: Path) -> Callable[[int], str]:
    """Return what runs one case: the hostile texts first as they are, then damaged ones."""
    kind, path = CONFIGS[name], work / "file.yaml"
    sound, hostile = kind.texts(), _hostile()

    def run(case: int) -> str:
        rng = rng_for(seed, "config", name, case)
        if case < len(hostile):
            data = hostile[case]
        elif rng.random() < 0.1:
            data = mutated(rng, hostile[int(rng.integers(2, len(hostile)))], sound)
        else:
            data = mutated(rng, sound[case % len(sound)], sound)
        path.write_bytes(data)
        kind.read(path)
        return "read"

    return run
