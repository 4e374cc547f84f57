"""new-source: what it writes is a package that builds, verifies and passes its own tests before anything is changed."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.test_contracts import root_of
from vlm3data import registry
from vlm3data.checking import check_source
from vlm3data.cli import app
from vlm3data.command import run_app
from vlm3data.newsource import new_source

REPOSITORY = Path(registry.__file__).parents[1]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    new_source("my_rooms", tmp_path / "package")
    return tmp_path / "package"


def run(arguments: list[str], *paths: Path) -> str:
    python_path = os.pathsep.join(map(str, (*paths, REPOSITORY)))
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": python_path}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def installed_by_hand(package: Path, site: Path) -> Path:
    """Do what an installation does for entry points."""
    about = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    info = site / "vlm3_my_rooms-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {about['name']}\nVersion: {about['version']}\n")
    lines = [f"{name} = {value}" for name, value in about["entry-points"]["vlm3.source"].items()]
    (info / "entry_points.txt").write_text("\n".join(["[vlm3.source]", *lines, ""]))
    return site


def test_the_package_builds_verifies_and_passes_its_own_tests(package, tmp_path):
    paths = (installed_by_hand(package, tmp_path / "site"), package)
    out, example = str(tmp_path / "out"), str(package / "example")
    cli = ["-m", "vlm3data.cli"]
    run([*cli, "build", "my_rooms", "--root", example, "--out", out, "--focal", "320", "--workers", "1"], *paths)
    assert "as the source says" in run([*cli, "verify", out, "--deep", "--root", example], *paths)
    printed = run(["-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, str(package / "tests")], *paths)
    assert "6 passed" in printed


def test_pip_installs_it(package, tmp_path):
    pytest.importorskip("setuptools", minversion="70")
    pip = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--prefix"]
    run([*pip, str(tmp_path / "prefix"), "-e", str(package)])
    (site,) = (tmp_path / "prefix").glob("lib*/python*/site-packages")
    assert "first-pixel-centre" in run(["-m", "vlm3data.cli", "sources", "my_rooms"], site, package)


def test_it_is_formatted_and_checked_as_we_are(package):
    pytest.importorskip("ruff")
    for command in (["check"], ["format", "--check"]):
        run(["-m", "ruff", *command, "--config", str(REPOSITORY / "pyproject.toml"), str(package)])
    text = "\n".join(path.read_text() for path in package.rglob("*") if path.suffix in (".py", ".toml", ".md"))
    assert "newsource" not in text.lower()


@pytest.mark.parametrize(
    ("name", "message"),
    [("My Rooms", "small letters"), ("scannet", "there is a source scannet already"), ("7rooms", "a letter first")],
)
def test_names_that_cannot_be(name, message, tmp_path, capsys):
    assert run_app(app, ["new-source", name, "--out", str(tmp_path / "p")]) == 2
    assert message in capsys.readouterr().err


def test_nothing_is_overwritten(package, capsys):
    assert run_app(app, ["new-source", "other", "--out", str(package)]) == 1
    assert "is not empty" in capsys.readouterr().err


class Broken:
    """A sound source, with one thing changed."""

    def __init__(self, root: str, change) -> None:
        kind = registry.load("source", "jsonl")
        self._source, self._change = kind(root, kind.Options(), 0), change
        self.facts = self._source.facts

    def scenes(self, split):
        return self._change("scenes", list(self._source.scenes(split)))

    def frames(self, scene):
        return self._change("frames", list(self._source.frames(scene)))


def with_frame(**changes):
    def change(what, items):
        return [replace(items[0], **changes), *items[1:]] if what == "frames" else items

    return change


def depth(values, dtype=np.float32):
    return with_frame(points=None, depth_m=lambda: np.full((120, 160), values, dtype))


mirror = np.diag([-1.0, 1.0, 1.0, 1.0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda what, items: items[:-1] if what == "frames" else items, "num_frames"),
        (lambda what, items: items * 2 if what == "scenes" else items, "two scenes have one name"),
        (lambda what, items: [replace(one, split="other") for one in items] if what == "scenes" else items, "split"),
        (depth(0.0), "never 0"),
        (depth(2000.0), "above the range"),
        (depth(1.0, np.float64), "float64"),
        (with_frame(depth_m=lambda: np.ones((12, 16), np.float32)), "the depth map is"),
        (with_frame(world_from_cam=mirror), "mirror"),
        (with_frame(world_from_cam=np.eye(4) * 2), "not rigid"),
        (with_frame(image=lambda: np.zeros((12, 16, 3), np.uint8)), "its camera says"),
    ],
)
def test_the_contract_check_finds_what_is_broken(change, message, tmp_path):
    root = root_of("jsonl", tmp_path)
    check_source(lambda: Broken(root, lambda what, items: items))
    with pytest.raises(AssertionError, match=message):
        check_source(lambda: Broken(root, change))
