"""`mix show --html`: the page computes what Python does, saves what it shows, and runs nothing that a name says."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.browser import opened
from vlm3data.build import BuildConfig, build
from vlm3data.cli import app
from vlm3data.command import run_app
from vlm3data.mixture import Mixture
from vlm3data.report.mixtures import warnings_of

ODD = "1e3: 'x' \u2028 \x85 é 😀"
EVIL = '<img src=x onerror="document.title=`owned`">'
GROUPS: dict[str, Any] = {
    "samples": 123457,
    "datasets": {
        "rooms": {"size": 4000, "weight": 2},
        "null": {"size": 250000, "weight": 0.25},
        ODD: {"size": 70, "weight": 1},
        "wild": {
            "weight": 1.5,
            "weighting": {"scheme": "temperature", "temperature": 3.0, "cap": 5e5},
            "datasets": {"a": {"size": 10**6}, "b": {"size": 300}, "c": {"size": 9, "weight": 0}},
        },
        "deep": {
            "weight": 0.7,
            "weighting": {"scheme": "unimax", "epochs": 2},
            "datasets": {
                EVIL: {"size": 8000},
                "in": {"datasets": {"x": {"size": 50}, "y": {"size": 60000}}},
                "tasked": {"size": 2000, "tasks": {"pose": 1, "depth": 3}},
            },
        },
    },
}
STAGES = {
    "schedule": [
        {"until": 0.21, "weights": {"rooms": 0}},
        {"until": 0.77, "weights": {"wild": 9, "rooms": 1.5}, "ramp": True},
        {"until": 0.9, "weights": {"null": 3}},
    ]
}


def write(folder: Path, spec: dict[str, Any], name: str = "m.yaml") -> Path:
    path = folder / name
    path.write_text(yaml.safe_dump(spec, sort_keys=False, allow_unicode=True))
    return path


def make_page(spec: Path, *flags: str) -> Path:
    out = spec.with_suffix(".html")
    assert run_app(app, ["mix", "show", str(spec), "--html", str(out), *flags]) == 0
    return out


def shown(page: Any) -> dict[str, dict[str, float | None]]:
    """Return the values behind what stands in the table, by part."""
    rows = page.evaluate(
        """() => [...document.querySelectorAll("tr[data-row]")].map((row) => [row.dataset.row,
          [...row.querySelectorAll("td")].map((cell) => [cell.dataset.name || cell.className,
            cell.querySelector("data")?.value])])"""
    )
    return {name: {key: float(value) for key, value in cells if value} for name, cells in rows}


def same_as_python(page: Any, mixture: Mixture, max_epochs: float = 4.0) -> None:
    """Hold every number and warning on the page against those of `mix show --json`."""
    plan, found = mixture.plan(), shown(page)
    names = {"share-cell": "share", "Size": "size", "Samples": "samples", "Epochs": "epochs", "GB": "bytes"}
    for row in plan:
        # A dataset with one task has the task's numbers in its own row.
        values = found.get(row["dataset"]) or found[row["dataset"].partition("#")[0]]
        for column, key in (names | {"Tokens": "answer_chars"}).items():
            if row[key] is not None:
                assert values[column] == pytest.approx(row[key], rel=1e-9, abs=1e-12), (row["dataset"], column)
            else:
                assert column not in values
    assert page.locator("#warnings li").all_text_contents() == warnings_of(mixture, plan, max_epochs)


def save(page: Any, beside: Path) -> Path:
    """Press the button, and put the file where its comment says."""
    assert page.text_content("#mistake") == ""
    with page.expect_download() as download:
        page.click("#save")
    path = beside.parent / download.value.suggested_filename
    download.value.save_as(path)
    return path


def slide(page: Any, path: str, key: str, place: int) -> None:
    """Move a slider as a person does, to one of its thousand places."""
    page.evaluate(
        """([path, key, place]) => {
          const slider = [...document.querySelectorAll("input[type=range]")]
            .find((one) => one.dataset.path === path && one.dataset.key === key);
          slider.value = place;
          slider.dispatchEvent(new Event("input", { bubbles: true }));
        }""",
        [path, key, place],
    )


@pytest.mark.parametrize("stages", [{}, STAGES], ids=["even", "staged"])
def test_random_weights_mean_on_the_page_what_they_mean_in_python(stages, browser, tmp_path):
    spec = write(tmp_path, GROUPS | stages)
    rng = np.random.default_rng(4)
    with opened(browser, make_page(spec)) as page:
        same_as_python(page, Mixture.load(spec))
        assert page.text_content("#changed") == "as in the file"
        paths = ["rooms", "null", ODD, "wild", "deep"]
        for setting in range(6):
            for path in rng.permutation(paths)[: rng.integers(1, 5)]:
                slide(page, str(path), "weight", int(rng.integers(0, 1001)))
            page.fill("[data-option='wild:temperature']", str(round(rng.uniform(1, 9), 3)))
            page.fill("[data-option='wild:cap']", ["", "123456", "70"][setting % 3])
            page.fill("[data-option='deep:epochs']", str(round(rng.uniform(0.2, 5), 3)))
            page.fill("#samples", str(rng.integers(1000, 10**7)))
            page.locator(f"[data-path='{['wild/b', 'deep/tasked'][setting % 2]}']").set_checked(setting > 3)
            saved = Mixture.load(save(page, spec))
            assert saved.samples == int(page.input_value("#samples"))
            same_as_python(page, saved)
        page.click("#reset")
        same_as_python(page, Mixture.load(spec))
        assert page.text_content("#yaml").splitlines()[1:] == ["extends: m.yaml"]


def test_a_group_without_a_share_is_computed(browser, tmp_path):
    inside = {"a": {"size": 5, "weight": 0}, "b": {"size": 9, "weight": 0}}
    off = {"weight": 0, "weighting": {"scheme": "unimax"}, "datasets": inside}
    spec = write(tmp_path, {"samples": 90, "datasets": {"on": {"size": 5, "weight": 1}, "off": off}})
    with opened(browser, make_page(spec)) as page:
        same_as_python(page, Mixture.load(spec))


@pytest.mark.parametrize("scheme", ["uniform", "size", "temperature", "unimax", "repeat", "explicit"])
def test_another_scheme_is_computed_and_saved(scheme, browser, tmp_path):
    datasets = {
        "a": {"size": 900, "weight": 3},
        "b": {"size": 90000},
        "g": {"datasets": {"c": {"size": 7}, "d": {"size": 8}}},
    }
    spec = write(tmp_path, {"datasets": datasets, "weighting": {"scheme": "size"}, "samples": 5000})
    with opened(browser, make_page(spec)) as page:
        page.select_option("[data-scheme='']", scheme)
        saved = Mixture.load(save(page, spec))
        assert saved.spec.weighting.get("scheme") == scheme
        same_as_python(page, saved)
        page.select_option("[data-scheme='g']", "repeat")
        slide(page, "g/d", "repeat", 700)
        saved = Mixture.load(save(page, spec))
        assert saved.spec.datasets["g"].weighting == {"scheme": "repeat"}
        assert saved.spec.weighting.get("scheme") == scheme
        same_as_python(page, saved)


def test_with_shards_tokens_and_bytes_are_computed_too(browser, toy_root, tmp_path):
    config = BuildConfig(source="jsonl", root=str(toy_root), options={"depth_kind": "z"}, focal_px=150, shard_size=5)
    build(config, str(tmp_path / "s"), workers=1)
    (tmp_path / "s" / "shard-000001.tar").unlink()
    datasets = {
        "a": {"shards": str(tmp_path / "s"), "weight": 1, "pixels": 3},
        "b": {"shards": str(tmp_path / "s"), "weight": 2, "limit": 5},
        "g": {
            "weight": 1,
            "weighting": {"scheme": "explicit"},
            "datasets": {
                "c": {"shards": str(tmp_path / "s"), "weight": 1, "limit": 4, "pixels": 1},
                "d": {"shards": str(tmp_path / "s"), "weight": 2, "limit": 3, "pixels": 8},
            },
        },
    }
    spec = write(tmp_path, {"datasets": datasets, "weighting": {"scheme": "tokens"}})
    with opened(browser, make_page(spec, "--samples", "100", "--max-epochs", "9")) as page:
        slide(page, "b", "weight", 900)
        slide(page, "g/c", "weight", 950)
        saved = Mixture.load(save(page, spec))
        assert saved.samples == 100
        same_as_python(page, saved, max_epochs=9)
        assert "shard-000001.tar of" in page.locator("#warnings li").last.text_content()


def test_a_file_of_weights_is_shown_as_it_is_and_may_be_left(browser, tmp_path):
    (tmp_path / "w.yaml").write_text("{a: 3, b: 1}")
    weighting = {"scheme": "imported", "file": str(tmp_path / "w.yaml")}
    spec = write(tmp_path, {"datasets": {"a": {"size": 9}, "b": {"size": 9}}, "weighting": weighting, "samples": 10})
    with opened(browser, make_page(spec)) as page:
        same_as_python(page, Mixture.load(spec))
        page.select_option("[data-scheme='']", "explicit")
        saved = Mixture.load(save(page, spec))
        assert [entry.weight for entry in saved.spec.datasets.values()] == [0.75, 0.25]
        same_as_python(page, saved)


def test_a_mistake_is_said_and_not_saved(browser, tmp_path):
    datasets = {"a": {"size": 9, "weight": 1}, "b": {"size": 9, "weight": 1}}
    spec = write(tmp_path, {"datasets": datasets, "samples": 10})
    with opened(browser, make_page(spec)) as page:
        slide(page, "a", "weight", 0)
        slide(page, "b", "weight", 0)
        assert page.text_content("#mistake") == "the weights of a mixture must not all be zero"
        assert page.is_disabled("#save")
        page.fill("input[type=number][data-path=a]", "-1")
        assert page.get_attribute("input[type=number][data-path=a]", "aria-invalid") == "true"
        page.fill("input[type=number][data-path=a]", "1e-7")
        assert page.is_hidden("#mistake")
        changed = yaml.safe_load(save(page, spec).read_text())["datasets"]
        assert changed == {"a": {"weight": 1e-7}, "b": {"weight": 0}}


def test_names_are_text_and_the_page_works_with_the_keyboard(browser, tmp_path):
    spec = write(tmp_path, {"datasets": {EVIL: {"size": 9, "weight": 1}, "b": {"size": 9, "weight": 1}}, "samples": 10})
    with opened(browser, make_page(spec)) as page:
        assert EVIL in page.text_content("#rows")
        assert page.locator("img").count() == 0
        assert page.title() == "m.yaml · vlm3 mixture"
        for _ in range(30):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.type === 'range' && document.activeElement.dataset.path === 'b'"):
                break
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        place = 750 + 2
        assert shown(page)["b"]["share-cell"] > 0.5
        weight = float(page.input_value("input[type=number][data-path=b]"))
        assert weight == pytest.approx(10 * 10 ** (4 * (place / 1000 - 1)), rel=5e-3)
        effect = page.text_content("#effect")
        twice = 2 * weight / (2 * weight + 1)
        assert effect.startswith("b: now")
        assert f"with twice the weight {100 * twice:.2f} %" in effect


@pytest.mark.parametrize("width_px", [390, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_fits_its_window(width_px, dark, browser, tmp_path):
    with opened(browser, make_page(write(tmp_path, GROUPS | STAGES)), width_px, dark=dark) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width_px
        assert page.is_visible("#course")
        page.screenshot(path=tmp_path / "page.png", full_page=True)
        assert math.prod(page.locator("#stack").bounding_box()[side] for side in ("width", "height")) > 5000


def test_a_scheme_from_outside_is_refused(tmp_path, capsys, monkeypatch):
    spec = write(tmp_path, {"datasets": {"a": {"size": 9}}, "weighting": {"scheme": "mine"}, "samples": 10})
    assert run_app(app, ["mix", "show", str(spec), "--html", str(tmp_path / "x.html")]) == 1
    assert "--html knows the schemes" in capsys.readouterr().err


def test_the_page_is_what_json_says_before_anything_moves(tmp_path, capsys):
    spec = write(tmp_path, GROUPS)
    capsys.readouterr()
    assert run_app(app, ["mix", "show", str(spec), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["datasets"]
    assert [row["dataset"] for row in rows] == [row["dataset"] for row in Mixture.load(spec).plan()]
