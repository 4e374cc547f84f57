"""The command line: help at once, and a user's mistake in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import vlm3train.sft
from vlm3data.command import run_app
from vlm3train.cli import app

LOADED = "import sys, vlm3train.cli; print([m for m in ('torch', 'transformers', 'numpy') if m in sys.modules])"


def test_the_command_line_imports_nothing_heavy():
    assert subprocess.check_output([sys.executable, "-c", LOADED], text=True).strip() == "[]"


@pytest.mark.parametrize("command", ["init-tiny", "sft", "eval", "predict"])
def test_every_commands_help_has_an_example(command, capsys):
    run_app(app, [command, "--help"])
    assert f"Example: vlm3train {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["sft", "--model", "m", "--mixture", "x.yaml", "--out", "o"], 2, "steps: Field required"),
        (["sft", "{bare}.yaml"], 1, "bare.yaml: steps: Field required"),
        (["sft", "none.yaml"], 1, "none.yaml: there is no such file"),
        (["sft", "{bad}"], 1, "bad.yaml: learning_rate: unknown key; known: model, mixture"),
        (["sft", "{list}"], 1, "list.yaml: "),
        (["sft", "{good}", "--steps", "0"], 2, "steps: Input should be greater than 0"),
        (["sft", "{good}", "--mixture", "none.yaml"], 1, "none.yaml"),
        (["sft", "{good}", "--schedule", "cosin"], 2, "cosin"),
        (["sft", "{good}", "--steps", "many"], 2, "steps"),
        (["sft", "{good}", "--model", "{tmp}"], 1, "no config.json in it"),
        (["sft", "{good}", "--model", "{tmp}/none"], 1, "no such directory"),
        (["sft", "{good}", "--model", "{bert}"], 1, "is a bert model; only a model that takes images"),
        (["sft", "{good}", "--model", "{model}", "--shard", "grads"], 1, "start it with torchrun"),
        (["sft", "{good}", "--model", "{model}", "--report-to", "wandbb"], 1, "report_to: wandbb is not known, or its"),
        (["init-tiny", "--out", "{tmp}/m", "--size", "huge"], 2, "unknown size 'huge'; known: tiny, "),
        (["sft", "{zero}"], 1, "steps: Input should be greater than 0"),
        (["sft", "{good}", "--lora-rank", "0"], 2, "lora.rank: Input"),
        (["sft", "{good}", "--lr", "inf"], 2, "lr: Input should be a finite number"),
        (["sft", "{good}", "--seed", "-1"], 2, "seed: Input"),
        (["sft", "{good}", "--out", ""], 2, "out: String should have at least 1 character"),
        (["init-tiny"], 2, "--out"),
        (["init-tiny", "--out", ""], 2, "for --out. It must name"),
        (["init-tiny", "--out", "{tmp}/m", "--seed", "-1"], 2, "--seed must be from 0"),
        (["study", "none.yaml", "--out", ""], 2, "for --out. It must name"),
        (["eval", "--model", "m", "--shards", "s", "--limit", "-1"], 2, "for --limit. Must be"),
        (["eval", "--model", "m", "--shards", "s", "--questions-per-image", "0"], 2, "--questions-per-image"),
        (["eval", "--model", "m", "--shards", "s", "--batch-size", "0"], 2, "--batch-size"),
        (["eval", "--model", "m", "--shards", "s", "--batch-tokens", "-1"], 2, "--batch-tokens"),
        (["eval", "--model", "m", "--shards", "s", "--max-new-tokens", "0"], 2, "--max-new-tokens"),
        (["eval", "--model", "m", "--shards", "s", "--json", ""], 2, "for --json. It must name"),
        (["eval", "--model", "m", "--source", "jsonl", "--half-pixel", "x"], 2, "source jsonl: half_pixel"),
        (["predict", "p.jpg", "--model", "m", "--at", "1,1", "--focal", "-1"], 2, "--focal must be a positive"),
        (["predict", "p.jpg", "--model", "m", "--at", "1,1", "--batch-size", "0"], 2, "--batch-size"),
        (
            ["predict", "p.jpg", "--model", "m", "--at", "1,1", "--colour", "x"],
            2,
            "unknown flag --colour; the calibrator",
        ),
        (["predict", "p.jpg", "--model", "m", "--at", "1,1", "--calibrator", "fov", "--hfov-deg", "x"], 2, "hfov_deg"),
        (["eval", "--model", "{bert}", "--shards", "{tmp}/none"], 1, "none"),
        (["eval", "--model", "{bare}", "--shards", "{shards}"], 1, "no tokenizer or image processor"),
        (["evaluate"], 2, "evaluate"),
    ],
)
def test_a_mistake_is_one_line(arguments, code, said, tmp_path: Path, mixture, shards, model_dir, capsys):
    (tmp_path / "bad.yaml").write_text("learning_rate: 1e-5\n")
    (tmp_path / "list.yaml").write_text("- 1\n")
    (tmp_path / "good.yaml").write_text(f"{{model: m, mixture: {mixture}, out: {tmp_path / 'run'}, steps: 1}}\n")
    (tmp_path / "bare.yaml").write_text("{model: m, mixture: x, out: o}\n")
    (tmp_path / "zero.yaml").write_text("{model: m, mixture: x, out: o, steps: 0}\n")
    for name, config in (("bert", '{"model_type": "bert"}'), ("bare", (model_dir / "config.json").read_text())):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(config)
    places = {name: str(tmp_path / f"{name}.yaml") for name in ("bad", "list", "good", "zero")}
    places |= {"tmp": str(tmp_path), "bert": str(tmp_path / "bert"), "bare": str(tmp_path / "bare"), "shards": shards}
    places["model"] = str(model_dir)
    assert run_app(app, [argument.format(**places) for argument in arguments]) == code
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error


def test_a_flag_for_the_adapters_rank_leaves_the_rest_of_them_as_the_file_has_it(tmp_path: Path, monkeypatch):
    trained = []
    monkeypatch.setattr(vlm3train.sft, "train", trained.append)
    path = tmp_path / "run.yaml"
    path.write_text("{model: m, mixture: x, out: o, steps: 1, lora: {rank: 4, alpha: 8, targets: [q_proj]}}\n")
    assert run_app(app, ["sft", str(path), "--lora-rank", "32"]) == 0
    lora = trained[0].lora
    assert (lora.rank, lora.alpha, lora.targets) == (32, 8.0, ("q_proj",))
