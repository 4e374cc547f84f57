"""The stream: the same positions for every topology and start, other pixels every epoch, clear mistakes."""

from __future__ import annotations

import pickle
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import jsonl_line, write_jsonl
from vlm3data.build import BuildConfig, build
from vlm3data.stream import open_stream
from vlm3data.types import UserError


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("stream")
    for name, count in (("a", 7), ("b", 5)):
        write_jsonl(root / name, [jsonl_line(i) for i in range(count)], f"{name}_train.jsonl")
        config = BuildConfig(source="jsonl", root=str(root / name), focal_px=150, shard_size=1)
        build(config, str(root / "shards" / name), workers=1)
    datasets = {
        name: {"shards": str(root / "shards" / name), "weight": w, "pixels": 5} for name, w in (("a", 3), ("b", 1))
    }
    path = root / "mixture.yaml"
    path.write_text(yaml.safe_dump({"seed": 3, "datasets": datasets}))
    return path


def seen(spec: Path, count: int, **where: Any) -> list[tuple[int, str, str, int, list[str]]]:
    stream = islice(open_stream(spec, **where), count)
    return [(n, s.dataset, s.key, s.epoch, [q.question for q in s.questions]) for n, s in stream]


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
@pytest.mark.parametrize("start", [0, 1, 5, 64])
def test_ranks_together_yield_every_position_once_and_the_same(spec, world_size, start):
    reference = seen(spec, 120)
    by_rank = [seen(spec, 4, rank=rank, world_size=world_size, start=start) for rank in range(world_size)]
    for rank, part in enumerate(by_rank):
        assert [n for n, *_ in part] == sorted(n for n, *_ in part)
        assert all(n % world_size == rank and n >= start for n, *_ in part)
    together = sorted(row for part in by_rank for row in part)
    assert together == reference[start : start + 4 * world_size]


def test_another_epoch_draws_other_pixels_of_the_same_sample(spec):
    draws: dict[str, set[tuple[str, ...]]] = {}
    for _, dataset, key, _, questions in seen(spec, 60):
        assert len(questions) == len(set(questions)) == 5
        draws.setdefault(dataset + key, set()).add(tuple(questions))
    assert all(len(different) > 1 for different in draws.values())


def test_a_far_start_is_as_good_as_a_near_one(spec):
    (row,) = seen(spec, 1, start=10**9)
    assert row[0] == 10**9


def test_samples_travel_to_other_processes(spec):
    _, sample = next(open_stream(spec))
    assert pickle.loads(pickle.dumps(sample)).questions == sample.questions  # noqa: S301


def test_nothing_is_decoded_or_parsed_until_asked_for(spec):
    _, sample = next(open_stream(spec))
    assert "record" not in sample.__dict__
    assert sample.images[0][:2] == b"\xff\xd8"
    assert sample.record["key"] == sample.key


@pytest.mark.parametrize(
    ("spec_text", "message"),
    [
        ("datasets: {a: {shards: nowhere, weight: 1}}", "no dataset at nowhere"),
        (
            "datasets: {a: {shards: x, wieght: 1}}",
            "datasets.a.wieght: unknown key; known: shards, size, datasets, weighting, weight",
        ),
        ("datasets: {a: {shards: x, weight: -1}}", r"datasets.a.weight: .*greater than or equal to 0.*-1"),
        ("datasets: {a: {shards: x, weight: .nan}}", "datasets.a.weight"),
        ("datasets: {a: {size: 5, weight: 0}}", "must not all be zero"),
        ("datasets: {a: {weight: 1}}", "needs `shards`"),
        ("datasets: {a: {size: 5}}", "needs a weight for: a"),
        (
            "datasets: {a: {size: 5, weight: 1}}\nweighting: {scheme: best}",
            "weighting: unknown weighting 'best'; known: explicit, imported",
        ),
        ("datasets: {a: {size: 5, weight: 1}}", "only a planned size"),
        ("datasets: {}", "datasets"),
        ("seeds: 1", "seeds: unknown key; known: seed, datasets, samples, weighting, schedule, cache"),
        ("datasets: [", "not valid YAML in line"),
        ("seed: 1\nseed: 2", "not valid YAML in line 2: key 'seed' appears twice"),
        ("- 1", "the file"),
    ],
)
def test_a_mistake_in_a_mixture_is_one_line_naming_file_and_key(tmp_path, spec_text, message):
    path = tmp_path / "broken.yaml"
    path.write_text(spec_text)
    with pytest.raises(UserError, match=message) as caught:
        open_stream(path)
    assert "\n" not in str(caught.value)
    assert "broken.yaml" in str(caught.value)


def test_a_missing_mixture_and_an_impossible_rank_are_mistakes(tmp_path, spec):
    with pytest.raises(UserError, match="no such file"):
        open_stream(tmp_path / "none.yaml")
    with pytest.raises(UserError, match="0 <= rank < world_size"):
        open_stream(spec, rank=2, world_size=2)
