"""Damaged samples: how many a run bears, what it says, and that whatever else is wrong is not among them."""

from __future__ import annotations

import shutil
from itertools import islice
from pathlib import Path

import pytest

from tests.conftest import jsonl_line, write_jsonl
from vlm3data.build import BuildConfig, build
from vlm3data.mixture import Mixture
from vlm3data.shards import Dataset
from vlm3data.skips import A_FEW, Skips
from vlm3data.stream import open_stream
from vlm3data.types import UserError


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("skips")
    write_jsonl(root / "d", [jsonl_line(i) for i in range(12)])
    build(BuildConfig(source="jsonl", root=str(root / "d"), focal_px=150, shard_size=4), str(root / "s"), workers=1)
    return root / "s"


def damaged(built: Path, out: Path, samples: range) -> Path:
    shutil.copytree(built, out)
    dataset = Dataset(str(out))
    for i in samples:
        path = out / dataset.key(i)[0]
        data = bytearray(path.read_bytes())
        data[dataset.where(i).offset + 800] ^= 1
        path.write_bytes(data)
    return out


def mixture(shards: Path, **changes: object) -> Mixture:
    entry = {"shards": str(shards), "weight": 1, **changes.pop("entry", {})}  # pyright: ignore[reportGeneralTypeIssues]
    return Mixture.check({"datasets": {"d": entry}, **changes}, "mix.yaml")


def read(spec: Mixture, many: int = 24) -> list[str]:
    return [sample.key for _, sample in islice(open_stream(spec), many)]


def test_a_few_are_borne_over_many_epochs(built, tmp_path):
    stream = open_stream(mixture(damaged(built, tmp_path / "s", range(A_FEW))))
    for _ in islice(stream, 120):
        pass
    assert stream.skips.counts == {"d": 10 * A_FEW}


@pytest.mark.parametrize(("max_bad", "borne"), [(0, 0), (2, 2), (5, 5)])
def test_more_than_max_bad_end_the_run_in_one_line(built, tmp_path, max_bad, borne):
    read(mixture(damaged(built, tmp_path / "borne", range(borne)), max_bad=max_bad))
    with pytest.raises(
        UserError,
        match=r"mix\.yaml: datasets\.d: .*/shard-00000\d\.tar: sample \d+ at byte \d+ is damaged; with it \d of the "
        r"\d+ samples of d read here are damaged, and max_bad is \d: mend the dataset",
    ) as caught:
        read(mixture(damaged(built, tmp_path / "more", range(borne + 1)), max_bad=max_bad))
    assert "\n" not in str(caught.value)


def test_a_share_counts_each_sample_once_and_grows_with_what_was_read():
    skips = Skips(0.01)
    for _ in range(50):
        skips.note("d", 1, 50, 10**6, "x")
    for i in range(A_FEW + 10):
        skips.note("d", i, 1000, 10**6, "x")
    with pytest.raises(UserError, match=r"\Ax; with it 19 of the 1,000 samples of d read here"):
        skips.note("d", 99, 1000, 10**6, "x")


def test_a_shard_that_ends_early_is_damage_and_one_that_is_missing_is_not(built, tmp_path):
    cut = tmp_path / "cut"
    shutil.copytree(built, cut)
    path = cut / "shard-000001.tar"
    path.write_bytes(path.read_bytes()[:15_000])
    stream = open_stream(mixture(cut))
    keys = {sample.key for _, sample in islice(stream, 12)}
    assert len(keys) == 9
    assert {(skip.shard, skip.offset > 0) for skip in stream.skips.listed} == {("shard-000001.tar", True)}
    path.write_bytes(b"")
    assert len(read(mixture(cut), 12)) == 12
    path.unlink()
    with pytest.raises(UserError, match=r"shard-000001\.tar: there is no such file"):
        read(mixture(cut))


def test_a_stand_in_is_one_of_those_selected_and_is_asked_other_questions(built, tmp_path):
    where = {"entry": {"where": "key LIKE '%1%'", "pixels": 3}}
    expected = read(mixture(built, **where), 8)
    chosen = mixture(built, **where).parts[0].selected
    assert chosen is not None
    spec = mixture(damaged(built, tmp_path / "s", range(int(chosen[0]), int(chosen[0]) + 1)), **where)
    keys = [Dataset(str(built)).key(int(i))[1] for i in chosen]
    assert read(spec, 8) == [keys[1] if key == keys[0] else key for key in expected]
    asked: dict[str, list[tuple[str, ...]]] = {}
    for _, sample in islice(open_stream(spec), len(keys)):
        asked.setdefault(sample.key, []).append(tuple(question.question for question in sample.questions))
    first, second = asked[keys[1]]
    assert first != second


def test_where_everything_is_damaged_that_is_said(built, tmp_path, monkeypatch):
    stream = open_stream(mixture(damaged(built, tmp_path / "s", range(12)), max_bad=100))
    noted: list[int] = []
    monkeypatch.setattr(stream.skips, "note", lambda name, sample, *_: noted.append(sample))
    with pytest.raises(UserError, match="every sample is damaged"):
        next(stream)
    assert sorted(noted) == list(range(12)), "each one once"
