"""From a source to a score through the commands a user types, on data that is made here and on real images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import vlm3data.cli
import vlm3train.cli
from tests.conftest import needs_realdata
from vlm3data.command import run_app

SMALL = ("--width-px", 96, "--height-px", 64, "--size-jitter", 0, "--hfov-deg", "60,60", "--views", 1)


def vlm3data_(*arguments: object) -> None:
    assert run_app(vlm3data.cli.app, [str(argument) for argument in arguments]) == 0


def vlm3train_(*arguments: object) -> None:
    assert run_app(vlm3train.cli.app, [str(argument) for argument in arguments]) == 0


def mixture_of(path: Path, **weights: tuple[Path, float]) -> Path:
    entries = "".join(f"  {name}: {{shards: {url}, weight: {weight}}}\n" for name, (url, weight) in weights.items())
    path.write_text(f"seed: 1\ndatasets:\n{entries}")
    return path


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    vlm3train_("init-tiny", "--out", tmp_path / "tiny")
    return tmp_path / "tiny"


def test_build_mix_train_score(tmp_path, tiny, capsys):
    for split, domain, limit in (("train", "room", 24), ("train", "street", 12), ("test", "room", 6)):
        out = tmp_path / f"{domain}-{split}"
        vlm3data_(
            "build", "synthetic", "--out", out, "--split", split, "--domains", domain, "--limit", limit,
            "--focal", 80, "--workers", 1, *SMALL,
        )  # fmt: skip
        vlm3data_("verify", out)
    spec = mixture_of(tmp_path / "mix.yaml", room=(tmp_path / "room-train", 2), street=(tmp_path / "street-train", 1))
    vlm3data_("mix", "show", spec, "--samples", 300)
    assert "0.6667" in capsys.readouterr().out

    vlm3train_(
        "sft", "--model", tiny, "--mixture", spec, "--out", tmp_path / "run", "--steps", 3, "--batch-size", 4,
        "--workers", 0,
    )  # fmt: skip
    vlm3train_(
        "eval", "--model", tmp_path / "run", "--shards", tmp_path / "room-test",
        "--train-shards", tmp_path / "room-train", "--train-shards", tmp_path / "street-train",
        "--questions-per-image", 2, "--json", tmp_path / "eval.json",
    )  # fmt: skip
    (row,) = json.loads((tmp_path / "eval.json").read_text())["rows"]
    assert row["questions"] == 12
    for scores in (row["scores"], row["swapped_images"], row["median"], row["location"]):
        assert 0 <= scores["delta1"] <= 1


def test_a_training_step_on_the_real_ibims_images(tmp_path, tiny):
    root = needs_realdata("ibims1")
    out = tmp_path / "ibims1"
    vlm3data_("build", "jsonl", "--root", root, "--out", out)
    vlm3data_("verify", out)
    spec = mixture_of(tmp_path / "mix.yaml", ibims1=(out, 1))
    vlm3train_(
        "sft", "--model", tiny, "--mixture", spec, "--out", tmp_path / "run", "--steps", 1, "--batch-size", 1,
        "--workers", 0,
    )  # fmt: skip
    assert (tmp_path / "run" / "model.safetensors").exists()
