"""The site builds with every link and anchor in order, asks nobody for anything, and its pictures are of this code."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, pages

FETCHED = re.compile(
    r"""<(?:script|img|link|iframe|source)\b[^>]*?(?:src|href|srcset)=["']?(?:https?:)?//|url\(["']?(?:https?:)?//"""
)
PICTURE = re.compile(r'(?:srcset|src)="(?:docs/)?images/(\w+)\.svg"')


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    config = ROOT / "docs" / "site" / "mkdocs.yml"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(config), "-d", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


def test_every_page_is_there(site):
    for page in pages():
        assert (site / ("index.html" if page.name == "README.md" else f"{page.stem}.html")).exists(), page


def test_nothing_is_fetched_from_elsewhere(site):
    found = [path for path in site.rglob("*") if path.suffix in (".html", ".css")]
    assert len(found) > 20
    for path in found:
        for match in FETCHED.finditer(path.read_text(encoding="utf-8")):
            assert 'rel="canonical"' in match[0], f"{path}: {match[0]}"


def test_pictures_follow_light_and_dark(site):
    page = (site / "conventions.html").read_text(encoding="utf-8")
    assert 'src="images/axes.svg#only-light"' in page
    assert 'src="images/axes_dark.svg#only-dark"' in page
    assert 'src="images/flow.svg#only-light"' in (site / "index.html").read_text(encoding="utf-8")


def test_the_pictures_are_those_that_the_code_draws(tmp_path):
    """All but what matplotlib itself may draw differently from version to version."""
    drawn = runpy.run_path(str(ROOT / "docs" / "pictures.py"))
    drawn["main"](tmp_path, {"": drawn["LIGHT"]})
    names = {path.name for path in tmp_path.iterdir()}
    used = {f"{name}.svg" for page in pages() for name in PICTURE.findall(page.read_text(encoding="utf-8"))}
    assert names | {name.replace(".svg", "_dark.svg") for name in names} <= used
    for name in names:
        assert texts(tmp_path / name) == texts(ROOT / "docs" / "images" / name), f"{name}: say `make pictures`"


def texts(path: Path) -> list[str]:
    """Return what a picture says; the SVG names each text in a comment before its outline."""
    return re.findall(r"<!-- (.*?) -->", path.read_text(encoding="utf-8"), re.DOTALL)
