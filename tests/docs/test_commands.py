"""Every command in the documentation runs, in order, page by page, on tiny data; or a line says why it does not."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import tomllib
from itertools import pairwise
from pathlib import Path

import matplotlib
import pytest

from tests.docs import tiny
from tests.docs.blocks import ROOT, SHELLS, Block, blocks, pages, words
from vlm3data.cli import app as data_app
from vlm3data.command import run_app
from vlm3data.flags import options_of
from vlm3data.registry import names
from vlm3train import study
from vlm3train.cli import app as train_app

APPS = {"vlm3data": data_app, "vlm3train": train_app}
PAGES = {page.name: blocks(page) for page in pages()}
OWN_TESTS = {"own_data.md": "test_own_data.py"}
"""Pages whose commands are run by a test that also looks at what comes out."""
OWN_SECTIONS = {("README.md", "Mix, train, score"): "docs/test_mixture_section.py"}
"""And parts of pages."""
COMMANDS = [block for found in PAGES.values() for block in found if block.language in SHELLS]
NOT_RUN = [block for block in COMMANDS if block.reason]
MOST_NOT_RUN = 13
"""Raise it only for what needs a GPU, a cluster, a network, a real download or hours."""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Work in a directory with what a clone of the repository has."""
    for name in ("docs", "mixtures", "vlm3data"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    matplotlib.get_cachedir()  # it remembers where its list of fonts is; making a new one takes long
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(study, "_call", lambda command, log: run_here(command[command.index("-m") + 1 :]))
    return tmp_path


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """Return where data that several pages use is made once, whatever the number of test processes."""
    folder = tmp_path_factory.getbasetemp()
    folder = (folder.parent if folder.name.startswith("popen-") else folder) / "docs-data"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.mark.parametrize("page", sorted({block.page for block in COMMANDS if not block.reason} - OWN_TESTS.keys()))
def test_the_commands_of_a_page_run(page, here, shared):
    def do(line: str) -> None:
        provide(line, here, shared, do)
        run(line)

    for block in PAGES[page]:
        if (page, block.section) in OWN_SECTIONS:
            continue
        if block.title:
            write_small(block)
        if block.language in SHELLS and not block.reason:
            for line in block.lines():
                do(line)


def write_small(block: Block) -> None:
    """Write the file that a page shows, with less to do in it."""
    text = block.text
    for pattern, smaller in tiny.SMALLER_IN_FILES:
        text = re.sub(pattern, smaller, text)
    Path(block.title).parent.mkdir(parents=True, exist_ok=True)
    Path(block.title).write_text(text)


def provide(line: str, here: Path, shared: Path, do: tiny.Do) -> None:
    """Make what `line` reads and nobody has made."""
    given = words(line)
    read = [word for flag, word in zip(["", *given], given, strict=False) if flag not in tiny.WRITE]
    read += [name for word in read for name in tiny.NEEDS.get(word, ())]
    for name in tiny.MADE:
        wanted = any(f"{word}/".startswith(f"{name}/") or name.startswith(f"{word}/") for word in read)
        if wanted and not (here / name).exists():
            tiny.place(name, here, shared, do)


def run(line: str) -> None:
    """Run a line of a page: our programs within this process, anything else in a shell."""
    if words(line)[0] in APPS:
        run_here(words(line))
        return
    done = subprocess.run(["bash", "-ec", line], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"


def run_here(command: list[str]) -> None:
    """Run one of our programs, in small."""
    program, *arguments = command
    code = run_app(APPS[program.removesuffix(".cli")], in_small(arguments))
    finds = " ".join(arguments[:2]) in tiny.FINDS
    assert code == 0 or (finds and code == 1), " ".join(command)


def in_small(arguments: list[str]) -> list[str]:
    """Return a command line that does the same with less."""
    small = [arguments[0]]
    for flag, value in pairwise(arguments):
        if flag in tiny.SMALLER and value.isdigit():
            value = str(min(int(value), tiny.SMALLER[flag]))
        small.append(tiny.INSTEAD.get(value, value))
    given = words(
        tiny.LAYOUTS[small[small.index("--layout") + 1]] if small[0] == "synth" else tiny.MORE.get(small[0], "")
    )
    for flag, value in zip(given[::2], given[1::2], strict=True):
        if flag not in small:
            small += [flag, value]
        elif value.isdigit():
            small[small.index(flag) + 1] = str(min(int(small[small.index(flag) + 1]), int(value)))
    return small


def test_what_has_a_test_of_its_own_has_it():
    for page, name in [*OWN_TESTS.items(), *((section, name) for (_, section), name in OWN_SECTIONS.items())]:
        assert page in (ROOT / "tests" / name).read_text(encoding="utf-8")


def test_what_is_not_run_is_little_and_says_why():
    listed = "\n".join(f"{block.page}: {block.reason}: {block.lines()[0]}" for block in NOT_RUN)
    assert len(NOT_RUN) <= MOST_NOT_RUN, listed


@pytest.mark.parametrize("block", NOT_RUN, ids=lambda block: f"{block.page}-{words(block.lines()[0])[0]}")
def test_what_is_not_run_is_not_made_up(block):
    for line in block.lines():
        check(words(line))


def check(command: list[str]) -> None:
    """Check that there is what a command names: programs, their flags, modules, extras, targets of make."""
    ours = [word.removesuffix(".cli") in APPS for word in command]
    if any(ours):
        program, *arguments = command[ours.index(True) :]
        known = help_of(program.removesuffix(".cli"), arguments)
        unknown = {word for word in arguments if word.startswith("--")} - known
        assert not unknown, f"{' '.join(command)}: no {unknown}"
    elif command[:2] == ["python", "-m"]:
        spec = importlib.util.find_spec(command[2])
        assert spec is not None, f"{command[2]}: no such module"
        assert spec.origin is not None
        file = Path(spec.origin)
        files = file.parent.glob("*.py") if file.name == "__init__.py" else [file]
        text = "".join(path.read_text(encoding="utf-8") for path in files)
        flags = [word.removeprefix("--").replace("-", "[-_]") for word in command[3:] if word.startswith("--")]
        assert all(re.search(rf"\b{flag}\b", text) for flag in flags), f"{' '.join(command)}: not all flags are there"
    elif command[0] == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        assert set(re.findall(r"vlm3\[(.+?)\]", command[2])) <= extras.keys(), command
    elif command[0] == "make":
        assert f"\n{command[1]}:" in (ROOT / "Makefile").read_text(), command
    else:
        assert command[0] in {"cp", "ray", "energon"}, command


def help_of(program: str, arguments: list[str]) -> set[str]:
    """Return the flags of a command, those of the plugins it names included."""
    command = APPS[program][arguments[0]]
    known = {name for argument in command.assemble_argument_collection() for name in argument.names}
    for kind in ("source", "task", "calibrator", "layout"):
        for name in names(kind):
            if any(name in word.split(",") for word in arguments):
                known |= {f"--{option.replace('_', '-')}" for option in options_of(kind, name)}
    return known
