"""`vlm3data export`: what comes back is what the shards hold; what is half done goes on; nothing is overwritten."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import pytest

from tests.conftest import directory_bytes
from vlm3data.cli import app
from vlm3data.command import run_app
from vlm3data.export import FORMATS, export, parquet
from vlm3data.export.drawn import of_mixture, of_shards
from vlm3data.export.llava import row as llava_row
from vlm3data.shards import read_samples
from vlm3data.stream import open_stream
from vlm3data.types import Sample, UserError


class Told(NamedTuple):
    """A sample as a trainer would be told of it."""

    images: tuple[bytes, ...]
    turns: list[tuple[str, str]]


def told(sample: Sample) -> Told:
    return Told(sample.images, [(question.question, question.answer) for question in sample.questions])


def quiet(done: int, total: int) -> None:
    """Show no progress."""


def read_back(name: str, out: Path) -> Iterator[Told]:
    """Read an export with nothing of what wrote it."""
    if name == "parquet":
        for path in sorted((out / "data").iterdir()):
            for row in pq.read_table(path).to_pylist():
                yield Told(tuple(image["bytes"] for image in row["images"]), _turns_of_parts(row))
        return
    text = (out / ("data.json" if name == "llava" else "data.jsonl")).read_text()
    for row in json.loads(text) if name == "llava" else map(json.loads, text.splitlines()):
        if name == "sharegpt":
            paths, said, between = row["images"], [(m["role"], m["content"]) for m in row["messages"]], ""
        else:
            paths = [row["image"]] if isinstance(row["image"], str) else row["image"]
            said, between = [(turn["from"], turn["value"]) for turn in row["conversations"]], "\n"
        assert {speaker for speaker, _ in said[::2]} <= {"user", "human"}
        assert {speaker for speaker, _ in said[1::2]} <= {"assistant", "gpt"}
        texts = [text for _, text in said]
        placeholders = f"<image>{between}" * len(paths)
        assert texts[0].startswith(placeholders)
        texts[0] = texts[0].removeprefix(placeholders)
        assert not any("<image>" in text for text in texts)
        images = tuple((out / path).read_bytes() for path in paths)
        yield Told(images, list(zip(texts[::2], texts[1::2], strict=True)))


def _turns_of_parts(row: dict[str, Any]) -> list[tuple[str, str]]:
    texts = []
    for place, message in enumerate(row["messages"]):
        *images, text = message["content"]
        assert message["role"] == ("assistant" if place % 2 else "user")
        assert images == ([{"type": "image", "text": None}] * len(row["images"]) if place == 0 else [])
        assert text["type"] == "text"
        texts.append(text["text"])
    return list(zip(texts[::2], texts[1::2], strict=True))


@pytest.mark.parametrize("name", FORMATS)
def test_questions_answers_and_image_bytes_come_back_equal(name, shards, tmp_path):
    about = export(of_shards(str(shards), None, None), name, str(tmp_path / "x"), quiet)
    samples = list(read_samples(str(shards)))
    assert {len(sample.images) for sample in samples} == {1, 2}
    assert list(read_back(name, tmp_path / "x")) == [told(sample) for sample in samples]
    assert about["samples"] == len(samples)
    assert about["questions"] == sum(len(sample.questions) for sample in samples)


@pytest.mark.parametrize("name", FORMATS)
def test_a_mixture_is_exported_as_its_stream_draws_it(name, spec, tmp_path):
    export(of_mixture(str(spec), 40), name, str(tmp_path / "x"), quiet)
    with open_stream(spec) as stream:
        drawn = [sample for _, sample in islice(stream, 40)]
    assert len({sample.key for sample in drawn}) < 40
    assert list(read_back(name, tmp_path / "x")) == [told(sample) for sample in drawn]


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_request_gives_the_same_bytes_and_is_not_done_twice(name, shards, tmp_path):
    for out in ("a", "b"):
        export(of_shards(str(shards), None, 7), name, str(tmp_path / out), quiet)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "a").rglob("*")}
    export(of_shards(str(shards), None, 7), name, str(tmp_path / "a"), quiet)
    assert directory_bytes(tmp_path / "a") == directory_bytes(tmp_path / "b")
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "a").rglob("*")}
    assert not list((tmp_path / "a").rglob("*.part")) + list((tmp_path / "a").rglob("*.tmp"))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("after", [0, 1, 9, 17])
def test_a_stopped_export_shows_and_goes_on(name, after, shards, tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "ROWS_PER_FILE", 5)
    monkeypatch.setattr(parquet, "ROWS_PER_GROUP", 2)

    def stop(done: int, total: int) -> None:
        if done > after:
            raise KeyboardInterrupt

    export(of_shards(str(shards), None, None), name, str(tmp_path / "whole"), quiet)
    half = tmp_path / "half"
    with pytest.raises(KeyboardInterrupt):
        export(of_shards(str(shards), None, None), name, str(half), stop)
    assert (half / "export.unfinished.json").exists()
    assert not (half / "export.json").exists()
    assert not [path for path in half.rglob("*") if path.name.startswith("data.") and path.suffix != ".part"]
    assert not list(half.rglob("*.parquet"))
    with pytest.raises(UserError, match="holds another export"):
        export(of_shards(str(shards), None, 3), name, str(half), quiet)
    images = {path: path.stat().st_ino for path in half.rglob("*.jpg")}
    export(of_shards(str(shards), None, None), name, str(half), quiet)
    assert images == {path: path.stat().st_ino for path in images}  # not written again
    assert directory_bytes(half) == directory_bytes(tmp_path / "whole")


def test_nothing_else_is_overwritten(shards, tmp_path):
    (tmp_path / "mine.txt").write_text("thesis")
    with pytest.raises(UserError, match="not empty and no export"):
        export(of_shards(str(shards), None, None), "llava", str(tmp_path), quiet)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_sample_that_comes_again_has_one_file_and_its_own_id(spec, tmp_path):
    export(of_mixture(str(spec), 40), "sharegpt", str(tmp_path / "x"), quiet)
    rows = [json.loads(line) for line in (tmp_path / "x" / "data.jsonl").read_text().splitlines()]
    assert len({row["id"] for row in rows}) == 40
    paths = [path for row in rows for path in row["images"]]
    assert len(set(paths)) == len(list((tmp_path / "x" / "images").rglob("*.jpg"))) < len(paths)
    assert {Path(path).parts[1] for path in paths} == {"00-all", "01-few-two"}
    assert all(row["licence"] == "Apache-2.0" and row["source"] == "synthetic" for row in rows)


def test_many_images_are_spread_over_folders(shards, tmp_path, monkeypatch):
    monkeypatch.setattr("vlm3data.export.drawn.FILES_PER_FOLDER", 5)
    export(of_shards(str(shards), None, None), "qwen-vl", str(tmp_path / "x"), quiet)
    images = tmp_path / "x" / "images"
    folders = Counter(path.parent for path in images.rglob("*.jpg"))
    assert {folder.parent for folder in folders} == {images}
    assert len(folders) > 2
    assert max(folders.values()) < 15
    assert list(read_back("qwen-vl", tmp_path / "x")) == [told(sample) for sample in read_samples(str(shards))]


def test_parquet_is_cut_into_files(shards, tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "ROWS_PER_FILE", 10)
    export(of_shards(str(shards), None, None), "parquet", str(tmp_path / "x"), quiet)
    names = sorted(path.name for path in (tmp_path / "x" / "data").iterdir())
    assert names == [f"train-0000{i}-of-00003.parquet" for i in range(3)]
    assert list(read_back("parquet", tmp_path / "x")) == [told(sample) for sample in read_samples(str(shards))]


def test_a_text_that_holds_a_placeholder_is_refused(shards):
    item = next(of_shards(str(shards), None, None).items())
    record = item.sample.record | {
        "questions": [{"task": "t", "question": "What is <image>?", "answer": "a", "truth": {}}]
    }
    with pytest.raises(UserError, match="<image> in 'What is <image>\\?' would be taken for an image"):
        llava_row(item._replace(sample=Sample.of(record, item.sample.images)), ["a.jpg"])


def test_a_damaged_sample_stops_the_export_and_is_named(shards, tmp_path):
    copy = Path(shutil.copytree(shards, tmp_path / "shards"))
    tar = bytearray((copy / "shard-000001.tar").read_bytes())
    tar[5000] ^= 1
    (copy / "shard-000001.tar").write_bytes(tar)
    with pytest.raises(UserError, match=r"shard-000001\.tar: sample 8 at byte 0 is damaged"):
        export(of_shards(str(copy), None, None), "llava", str(tmp_path / "x"), quiet)
    assert not (tmp_path / "x" / "data.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["SPEC"], "say how many --samples"),
        (["SPEC", "--samples", "4", "--limit", "3"], "a mixture's file has keys of these names"),
        (["SHARDS", "--samples", "4"], "shards take --limit"),
        (["SHARDS", "--limit", "0"], "must be at least 1"),
    ],
)
def test_flags_that_do_not_fit_are_refused(arguments, message, spec, shards, tmp_path, capsys):
    named = {"SPEC": str(spec), "SHARDS": str(shards)}
    line = ["export", *(named.get(word, word) for word in arguments), "--format", "llava", "--out", str(tmp_path / "x")]
    assert run_app(app, line) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_the_command_says_what_it_wrote(shards, tmp_path, capsys):
    out = str(tmp_path / "x")
    assert run_app(app, ["export", str(shards), "--format", "parquet", "--out", out, "--limit", "5"]) == 0
    assert "5 samples (train 5)" in capsys.readouterr().out
    assert run_app(app, ["export", str(shards), "--format", "parquet", "--out", out, "--limit", "5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["splits"] == {"train": 5}
    assert run_app(app, ["export", str(shards), "--format", "llava", "--out", out, "--split", "val"]) == 1
    assert "there are no samples with split val" in capsys.readouterr().err
