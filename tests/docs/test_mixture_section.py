"""README, "Mix, train, score": a real dataset and a generated one, from their shards to what a study proposes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REALDATA, jsonl_line, write_jsonl
from tests.docs.blocks import SHELLS
from tests.docs.test_commands import PAGES, here, provide, run, shared, write_small  # noqa: F401
from vlm3data.cli import app
from vlm3data.command import run_app
from vlm3data.mixture import Mixture

SECTION = [block for block in PAGES["README.md"] if block.section == "Mix, train, score"]


def test_the_section_runs_word_for_word_and_says_what_it_promises(here: Path, shared: Path, capsys) -> None:  # noqa: F811
    (here / "data").mkdir()
    if (REALDATA / "ibims1").exists():
        (here / "data/ibims1").symlink_to(REALDATA / "ibims1")
    else:
        write_jsonl(here / "data/ibims1", [jsonl_line(i) for i in range(6)], "ibims1_val.jsonl")
    said = dict(_run_all(here, shared, capsys))

    shown = _json(capsys, "show", "mix.yaml")["datasets"]
    assert {row["dataset"]: (row["share"], row["samples"]) for row in shown} == {
        "ibims": (0.25, 2000), "rooms": (0.75, 6000)
    }  # fmt: skip
    assert all(row["answer_chars"] > 0 and row["bytes"] > 0 for row in shown)
    assert all(f"{Mixture.load(name).shares()[0]:.4f}" in said["mix diff"] for name in ("mix.yaml", "by_size.yaml"))
    for name in ("out/shares.png", "out/study/study.png"):
        assert Path(name).read_bytes()[:4] == b"\x89PNG"
    assert json.loads(Path("out/mix.lock.json").read_bytes()) == Mixture.load("mix.yaml").lock()

    (*_, line) = Path("out/trained/log.jsonl").read_text().splitlines()
    trained = json.loads(line)
    assert sum(row["drawn"] for row in trained["datasets"].values()) == trained["samples"]
    assert trained["datasets"]["rooms"]["planned"] == pytest.approx(0.75 * trained["samples"], abs=0.1)

    runs = json.loads(Path("out/study/study.json").read_text())["runs"]
    assert [run["shares"]["ibims"] for run in runs] == pytest.approx([0, 1 / 4, 1 / 2, 3 / 4])
    assert all(run["run"] in said["study weights.yaml"] for run in runs)
    proposed = {row["dataset"]: row["share"] for row in _json(capsys, "show", "out/study/proposed.yaml")["datasets"]}
    assert sum(proposed.values()) == pytest.approx(1)
    assert f"ibims {proposed['ibims']:.3f}" in said["study weights.yaml"]


def _run_all(here: Path, shared: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[tuple[str, str]]:  # noqa: F811
    """Do what the section says, in order; yield the first words of each command, and what it printed."""

    def do(line: str) -> None:
        provide(line, here, shared, do)
        run(line)

    for block in SECTION:
        if block.title:
            write_small(block)
        for line in block.lines() if block.language in SHELLS else ():
            capsys.readouterr()
            do(line)
            yield " ".join(line.split()[1:3]), capsys.readouterr().out


def _json(capsys: pytest.CaptureFixture[str], *command: str) -> dict:
    capsys.readouterr()
    assert run_app(app, ["mix", *command, "--json"]) == 0
    return json.loads(capsys.readouterr().out)
