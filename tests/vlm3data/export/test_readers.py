"""Shards and exports, read by the loaders of other projects.

`datasets` is installed with the training side. The others want dependencies of their own: each runs where an
environment variable names a Python that has it, as `PEER_ENERGON=~/energon/bin/python pytest tests/vlm3data/export`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from vlm3data.export import export
from vlm3data.export.drawn import of_shards
from vlm3data.shards import read_samples

READERS = Path(__file__).parents[2] / "readers"


def peer(name: str) -> str:
    """Return the Python that has another project's package; skip where none is named."""
    variable = f"PEER_{name.upper()}"
    python = os.environ.get(variable)
    if python is None:
        pytest.skip(f"{variable} names no Python that has {name}")
    return python


def run(name: str, *arguments: object, cwd: Path) -> list[dict[str, Any]]:
    line = [peer(name), str(READERS / f"{name}_reader.py"), *map(str, arguments)]
    # Nothing of ours in its way, and nothing from a hub.
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(line, capture_output=True, text=True, cwd=cwd, env=env, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(text) for text in done.stdout.splitlines() if text.startswith("{")]


def held(shards: Path) -> list[dict[str, Any]]:
    """Return what the shards hold as the readers print it."""
    return [
        {
            "key": sample.key,
            "images": [hashlib.sha256(image).hexdigest() for image in sample.images],
            "turns": [[question.question, question.answer] for question in sample.questions],
        }
        for sample in read_samples(str(shards))
    ]


@pytest.fixture(scope="module")
def hf(tmp_path_factory: pytest.TempPathFactory):
    """Return the package `datasets`, and a directory for its cache."""
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    return datasets, str(tmp_path_factory.mktemp("hf"))


@pytest.mark.parametrize("streaming", [False, True])
def test_datasets_reads_shards_as_docs_other_loaders_says(hf, shards, streaming):
    datasets, cache = hf
    image = datasets.Image(decode=False)
    text = datasets.Value("string")
    features = {"__key__": text, "jpg": image, "0.jpg": image, "1.jpg": image, "json": datasets.Json()}
    rows = datasets.load_dataset(
        "webdataset",
        data_files=sorted(map(str, shards.glob("*.tar"))),
        features=datasets.Features(features),
        split="train",
        streaming=streaming,
        cache_dir=cache,
    )
    for row, sample in zip(rows, read_samples(str(shards)), strict=True):
        assert row["__key__"] == sample.key
        # Its JSON keeps ten digits of a number.
        assert row["json"]["views"][0]["scale"] == pytest.approx(sample.record["views"][0]["scale"], rel=1e-9)
        found, stored = row["json"]["questions"], sample.record["questions"]
        assert [question["truth"].keys() for question in found] == [question["truth"].keys() for question in stored]
        for name in ("task", "question", "answer"):
            assert [question[name] for question in found] == [question[name] for question in stored]
        assert tuple(row[name]["bytes"] for name in ("jpg", "0.jpg", "1.jpg") if row[name]) == sample.images


def test_datasets_guesses_wrong_from_the_first_samples_without_features(hf, shards):
    """What the docs warn of: should it ever guess right, they may stop."""
    datasets, cache = hf
    with pytest.raises(ValueError, match="don't share the same prefix or the same types"):
        datasets.load_dataset("webdataset", data_files=[str(p) for p in shards.glob("*.tar")], cache_dir=cache)


def test_datasets_reads_the_parquet_export_with_pictures(hf, shards, tmp_path):
    datasets, cache = hf
    export(of_shards(str(shards), None, None), "parquet", str(tmp_path / "x"), lambda done, total: None)
    rows = datasets.load_dataset(str(tmp_path / "x"), split="train", cache_dir=cache)
    pictures = rows[1]["images"]
    assert [type(picture).__name__ for picture in pictures] == ["JpegImageFile"] * len(pictures)
    bare = rows.cast_column("images", datasets.List(datasets.Image(decode=False)))
    for row, sample in zip(bare, read_samples(str(shards)), strict=True):
        assert tuple(image["bytes"] for image in row["images"]) == sample.images
        said = [message["content"][-1]["text"] for message in row["messages"]]
        assert said == [text for question in sample.questions for text in (question.question, question.answer)]


def test_datasets_reads_the_sharegpt_export(hf, shards, tmp_path):
    datasets, cache = hf
    export(of_shards(str(shards), None, None), "sharegpt", str(tmp_path / "x"), lambda done, total: None)
    rows = datasets.load_dataset("json", data_files=str(tmp_path / "x/data.jsonl"), split="train", cache_dir=cache)
    assert [len(row["images"]) for row in rows] == [len(sample.images) for sample in read_samples(str(shards))]


def test_energon_prepares_and_reads_shards(shards, tmp_path):
    copy = shutil.copytree(shards, tmp_path / "shards")
    assert run("energon", copy, cwd=tmp_path) == held(shards)


def test_mosaicml_streaming_reads_shards_converted_to_mds(shards, tmp_path):
    assert run("streaming", shards, tmp_path / "mds", cwd=tmp_path) == held(shards)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tiny Qwen3-VL with tokenizer and image processor."""
    tiny = pytest.importorskip("vlm3train.tiny")
    out = tmp_path_factory.mktemp("model")
    tiny.write_tiny_model(out, tiny.SIZES["tiny"], list(tiny.example_texts(count=300)), seed=0)
    return out


def test_llamafactory_tokenizes_the_sharegpt_export_as_it_was_meant(shards, model, tmp_path):
    export(of_shards(str(shards), None, None), "sharegpt", str(tmp_path / "x"), lambda done, total: None)
    _as_it_was_meant(run("llamafactory", tmp_path / "x", model, cwd=tmp_path), shards)


def test_the_qwen_vl_scripts_read_the_qwen_vl_export_as_it_was_meant(shards, model, tmp_path):
    peer("qwen_vl")
    scripts = os.environ.get("QWEN_VL_FINETUNE")
    if scripts is None:
        pytest.skip("QWEN_VL_FINETUNE names no directory qwen-vl-finetune of QwenLM/Qwen3-VL")
    export(of_shards(str(shards), None, None), "qwen-vl", str(tmp_path / "x"), lambda done, total: None)
    _as_it_was_meant(run("qwen_vl", tmp_path / "x", model, scripts, cwd=tmp_path), shards)


def test_ms_swift_loads_the_sharegpt_export(shards, tmp_path):
    peer("swift")
    export(of_shards(str(shards), None, None), "sharegpt", str(tmp_path / "x"), lambda done, total: None)
    rows = run("swift", "data.jsonl", cwd=tmp_path / "x")
    for row, sample in zip(rows, held(shards), strict=True):
        assert row["images"] == sample["images"]
        (question, answer), *others = sample["turns"]
        turns = [("<image>" * len(sample["images"]) + question, answer), *others]
        assert row["said"] == [
            [role, text] for turn in turns for role, text in zip(("user", "assistant"), turn, strict=True)
        ]


def _as_it_was_meant(rows: list[dict[str, Any]], shards: Path) -> None:
    """Images in front of the first question and nothing between, every answer learnt and nothing else."""
    for row, sample in zip(rows, held(shards), strict=True):
        assert row["images"] == sample["images"]
        (_, first), *others = row["said"]
        pictures, _, question = first.rpartition("<|vision_end|>")
        assert pictures.count("<|vision_start|>") == len(sample["images"])
        said = [question, *(text for _, text in others)]
        assert said == [text for turn in sample["turns"] for text in turn]
        assert [speaker for speaker, _ in row["said"]] == ["user", "assistant"] * len(sample["turns"])
        if "learnt" not in row:
            continue
        answers = "".join(f"{answer}<|im_end|>\n" for _, answer in sample["turns"])
        assert row["learnt"].split() == answers.split()
