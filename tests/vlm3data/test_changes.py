"""What changed since a lock: every change is named, and nothing is where nothing changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import jsonl_line, write_jsonl
from vlm3data.build import BuildConfig, build
from vlm3data.mixture import Mixture
from vlm3data.stream import open_stream
from vlm3data.types import UserError


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("changes")
    for name, size in (("a", 4), ("b", 3), ("more", 6), ("other", 4)):
        numbers = range(20, 20 + size) if name == "other" else range(size)
        write_jsonl(root / name, [jsonl_line(i, image=f"rgb/{i - min(numbers)}.jpg") for i in numbers])
        config = BuildConfig(source="jsonl", root=str(root / name), focal_px=150, shard_size=2)
        build(config, str(root / "s" / name), workers=1)
    return root / "s"


def mixture(root: Path, **changes: object) -> Mixture:
    entries = {name: {"shards": str(root / name), "weight": 1} for name in ("a", "b")}
    for name, entry in changes.pop("entries", {}).items():  # pyright: ignore[reportAttributeAccessIssue]
        entries[name] = entries.get(name, {"weight": 1}) | entry
    for name in changes.pop("without", ()):  # pyright: ignore[reportGeneralTypeIssues]
        del entries[name]
    return Mixture.check({"seed": 1, "datasets": entries, **changes}, "mix.yaml")


def test_shares_that_change_over_the_run_are_the_same_after_writing_them_down(root):
    mixed = mixture(root, samples=100, schedule=[{"until": 0.5, "weights": {"a": 2}, "ramp": True}])
    assert mixed.changes_since(json.loads(json.dumps(mixed.lock()))) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, []),
        ({"max_bad": 7, "read_ahead": 3}, []),
        ({"seed": 2}, ["the seed is 2, was 1"]),
        ({"entries": {"a": {"weight": 3}}}, ["a has a share of 0.75, had 0.5", "b has a share of 0.25, had 0.5"]),
        ({"entries": {"a": {"pixels": 4}}}, ["a has 4 pixels, had 10"]),
        ({"entries": {"a": {"limit": 2}}}, ["a has another selection (limit 2, was everything)"]),
        ({"entries": {"c": {"shards": "{root}/more"}}}, ["c is new"]),
        ({"without": ["b"]}, ["b is gone"]),
        (
            {"entries": {"a": {"shards": "{root}/more"}}},
            ["a has other shards (3 with 6 samples, were 2 with 4: 2 samples more)"],
        ),
        (
            {"entries": {"a": {"shards": "{root}/other"}}},
            ["a has other shards (2 with 4 samples, were 2 with 4: as many samples)"],
        ),
        (
            {"samples": 100, "schedule": [{"until": 0.5, "weights": {"a": 2}}]},
            ["the shares change in another way over the run (weights, `schedule` or `samples`)"],
        ),
    ],
)
def test_every_change_is_named(root, changes, said):
    changes = json.loads(json.dumps(changes).replace("{root}", str(root)))
    lock = json.loads(json.dumps(mixture(root).lock()))
    changed = mixture(root, **changes)
    assert changed.changes_since(lock) == said
    if not said:
        assert next(open_stream(changed, lock=lock))
        return
    with pytest.raises(UserError, match=r"\Amix\.yaml: the data are not those of the lock: ") as caught:
        open_stream(changed, lock=lock)
    assert all(line in str(caught.value) for line in said)
