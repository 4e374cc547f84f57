"""The commands `preview`, `stats` and `card`: what they print, write and refuse."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.tiny_shards import depth_question, every_kind, sample, write_dataset
from vlm3data.cli import app
from vlm3data.command import run_app


def run(*arguments: object) -> int:
    return run_app(app, [str(argument) for argument in arguments])


@pytest.fixture
def shards(tmp_path: Path) -> str:
    return write_dataset(tmp_path / "toy", [every_kind()])


def test_preview_writes_one_page_and_says_its_size(tmp_path, shards, capsys):
    out = tmp_path / "new" / "page.html"
    assert run("preview", shards, "--out", out) == 0
    assert re.search(r"wrote .*page.html: 2 samples, 0\.\d MB", capsys.readouterr().out)
    assert run("preview", shards, "--out", out, "--limit", 1, "--json") == 0
    written = json.loads(capsys.readouterr().out)
    assert written == {"samples": 1, "bytes": out.stat().st_size, "image_px": 640}
    assert [path.name for path in out.parent.iterdir()] == ["page.html"]


def test_stats_prints_tables_or_json_and_writes_plots(tmp_path, shards, capsys):
    assert run("stats", shards, "--plots", tmp_path / "plots") == 0
    printed = capsys.readouterr().out
    assert re.search(r"toy +│ +2 │ +1 │ +7 │", printed)
    assert "depth_m.png" in printed
    assert (tmp_path / "plots" / "image_plane.png").exists()
    assert run("stats", shards, "--json") == 0
    assert json.loads(capsys.readouterr().out)["datasets"][0]["questions"] == 7


def test_names_are_not_read_as_markup_in_the_terminal(tmp_path, capsys):
    url = write_dataset(tmp_path / "[bold]x", [[sample(0, [depth_question((1, 1), 2.0, task="[red]y[/none]")])]])
    assert run("stats", url) == 0
    printed = capsys.readouterr().out
    assert "● [bold]x" in printed
    assert "[red]y[/none]" in printed


def test_card_is_printed_or_written(tmp_path, shards, capsys):
    assert run("card", shards) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("# toy\n")
    assert run("card", shards, "--out", tmp_path / "CARD.md") == 0
    assert (tmp_path / "CARD.md").read_text() == printed


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["preview", "nowhere", "--out", "{tmp}/p.html"], 1, "no dataset at nowhere"),
        (["preview", "nowhere.yaml", "--out", "{tmp}/p.html"], 1, "there is no such file"),
        (["preview", "{shards}"], 2, "out"),
        (["preview", "{shards}", "--out", "{tmp}/p.html", "--limit", "0"], 2, "--limit must be at least 1"),
        (["preview", "{shards}", "--out", "{tmp}/p.html", "--image-px", "3"], 2, "--image-px at least 16"),
        (["stats", "{shards}", "--limit", "-1"], 2, "--limit must be at least 1"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, shards, capsys, arguments, code, message):
    assert run(*(part.format(tmp=tmp_path, shards=shards) for part in arguments)) == code
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "p.html").exists()


def test_damage_is_named_and_not_shown(tmp_path, shards, capsys):
    tar = Path(shards) / "shard-000000.tar"
    data = bytearray(tar.read_bytes())
    data[700] ^= 1
    tar.write_bytes(data)
    assert run("preview", shards, "--out", tmp_path / "p.html") == 1
    assert "vlm3data verify" in capsys.readouterr().err
