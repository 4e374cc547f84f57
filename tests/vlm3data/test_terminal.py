"""How the commands look and complete: narrow and wide terminals, one plugin or all, three shells."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_contracts import root_of
from vlm3data import __version__, registry
from vlm3data.cli import app
from vlm3data.command import run_app
from vlm3data.flags import options_of

COMMANDS = ("build", "doctor", "export", "mix show", "new-source", "sources", "synth", "verify")


def run(*arguments: object) -> int:
    return run_app(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize("width", [80, 200])
def test_nothing_is_wider_than_the_terminal(width, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    root = root_of("jsonl", tmp_path)
    run("sources")
    for name in registry.names("source"):
        run("sources", name)
    assert run("doctor", "jsonl", "--root", root) == 0
    run("doctor", "nuscenes", "--root", root)
    for command in COMMANDS:
        run(*command.split(), "--help")
    printed = capsys.readouterr().out
    widest = max(map(len, printed.splitlines()))
    assert width * 0.9 < widest <= width


def test_the_list_has_a_line_for_each(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    run("sources")
    lines = capsys.readouterr().out.splitlines()
    named = [name for kind in ("source", "task", "calibrator", "layout") for name in registry.names(kind)]
    assert [line.split()[0] for line in lines if line.startswith("  ")] == named
    assert len(lines) == len(named) + 4 + 2


@pytest.mark.parametrize("name", registry.names("source"))
def test_a_name_says_everything_about_one(name, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    run("sources", name)
    printed = capsys.readouterr().out
    assert f"source {name}" in printed
    assert all(f"--{flag.replace('_', '-')}" in printed for flag in options_of("source", name))
    run("sources", name, "--json")
    about = json.loads(capsys.readouterr().out)
    assert about["source"][0]["flags"].keys() == options_of("source", name).keys()
    assert (about["source"][0]["downloads"] is None) == (name == "synthetic")


def test_a_name_that_is_none(capsys):
    assert run("sources", "nonsense") == 2
    assert "there is no 'nonsense'; known: anycalib, " in capsys.readouterr().err


def test_each_command_has_an_example_and_the_version_is_said(capsys):
    for command in COMMANDS:
        run(*command.split(), "--help")
        assert f"Example: vlm3data {command}" in capsys.readouterr().out
    run("--version")
    assert capsys.readouterr().out.strip() == __version__


ASK = {
    "bash": """
source {script}
COMP_WORDS=({words}); COMP_CWORD={last}
$(complete -p {name} | sed 's/.*-F \\([^ ]*\\).*/\\1/')
echo "${{COMPREPLY[@]}}"
""",
    "fish": 'source {script}\ncomplete --do-complete "{words}"',
    "zsh": "autoload -Uz compinit; compinit -u; echo $_comps[{name}]; autoload +X $_comps[{name}]",
}


@pytest.mark.parametrize("shell", ASK)
@pytest.mark.parametrize(
    ("name", "words", "expected"),
    [
        ("vlm3data", "vlm3data ver", "verify"),
        ("vlm3data", "vlm3data build --foc", "--focal-mode"),
        ("vlm3train", "vlm3train s", "sft"),
    ],
)
def test_shells_complete(shell, name, words, expected, tmp_path):
    env = os.environ | {"HOME": str(tmp_path), "SHELL": f"/bin/{shell}"}
    command = [sys.executable, "-m", f"{name}.cli", "--install-completion", "--shell", shell]
    subprocess.run(command, check=True, env=env, capture_output=True)
    scripts = [path for path in tmp_path.rglob(f"*{name}*") if path.is_file()]
    assert len(scripts) == 1
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    ask = ASK[shell].format(script=scripts[0], words=words, last=len(words.split()) - 1, name=name)
    interactive = "-ic" if shell == "zsh" else "-c"  # which alone reads the start file that the command has added to
    said = subprocess.run([shell, interactive, ask], env=env, capture_output=True, text=True).stdout
    assert (f"_cyclopts_{name}" if shell == "zsh" else expected) in said
    assert expected in scripts[0].read_text()


def test_installing_completion_writes_nowhere_but_home(tmp_path):
    env = os.environ | {"HOME": str(tmp_path / "home"), "SHELL": "/bin/bash"}
    Path(env["HOME"]).mkdir()
    command = [sys.executable, "-m", "vlm3data.cli", "--install-completion"]
    subprocess.run(command, check=True, env=env, capture_output=True, cwd=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
