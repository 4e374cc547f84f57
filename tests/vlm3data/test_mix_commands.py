"""`vlm3data mix`: what it says about mixtures, ours among them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.tiny_shards import depth_question, sample, write_dataset
from vlm3data.build import BuildConfig, build
from vlm3data.cli import app
from vlm3data.command import run_app
from vlm3data.mixture import Mixture
from vlm3data.simulate import simulate

MIXTURES = Path(__file__).parents[2] / "mixtures"


def shares(name: str) -> dict[str, float]:
    mixture = Mixture.load(MIXTURES / name)
    return {part.name: round(share, 4) for part, share in zip(mixture.parts, mixture.shares(), strict=True)}


def run(*arguments: str, capsys) -> tuple[int, str, str]:
    code = run_app(app, arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_papers_mixtures_have_the_papers_shares():
    paper = shares("depth_paper.yaml")
    assert list(paper.values()) == [0.0818, 0.0156, 0.0039, 0.0039, 0.1988, 0.304, 0.0023, 0.3897]
    assert list(shares("depth_open.yaml").values()) == [0.1341, 0.0255, 0.0064, 0.0064, 0.3257, 0.4981, 0.0038]
    by_size = shares("depth_by_size.yaml")
    assert by_size["street_view"] == round(10 / 26.09, 4)
    uniform = shares("depth_uniform.yaml")
    assert uniform["hm3d"] == uniform["nuscenes"] == pytest.approx(10 * uniform["matterport3d"], rel=0.01)
    pairs = Mixture.load(MIXTURES / "correspondence_paper.yaml")
    assert sum(part.size for part in pairs.parts) == 9_903_000
    assert [row["epochs"] for row in pairs.plan()] == pytest.approx([80 / 9.903] * len(pairs.parts))


def test_epochs_over_the_papers_run_are_the_papers():
    epochs = {row["dataset"]: round(row["epochs"], 2) for row in Mixture.load(MIXTURES / "depth_paper.yaml").plan()}
    assert epochs == {
        "argoverse2": 2.62, "waymo": 0.71, "nuscenes": 0.62, "scannetpp": 0.12, "taskonomy": 1.59, "hm3d": 1.08,
        "matterport3d": 0.39, "street_view": 1.25,
    }  # fmt: skip


@pytest.mark.parametrize("path", sorted(MIXTURES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_mixture_of_ours_is_sound(path):
    assert Mixture.load(path).spec.datasets


def test_show_warns_of_repeats_rarities_and_missing_shards(tmp_path, toy_root, capsys):
    build(
        BuildConfig(source="jsonl", root=str(toy_root), options={"depth_kind": "z"}, focal_px=150, shard_size=5),
        str(tmp_path / "s"),
        workers=1,
    )
    (tmp_path / "s" / "shard-000001.tar").unlink()
    spec = tmp_path / "m.yaml"
    spec.write_text(f"datasets: {{a: {{shards: {tmp_path / 's'}, weight: 1}}, b: {{size: 90000, weight: 0.0001}}}}")
    code, out, _ = run(
        "mix", "show", str(spec), "--steps", "25", "--batch", "2", "--world", "2", "--json", capsys=capsys
    )
    shown = json.loads(out)
    assert code == 0
    assert shown["samples"] == 100
    assert shown["datasets"][0]["bytes"] > 0
    assert shown["datasets"][0]["answer_chars"] > 0
    assert [warning.split(":")[0] for warning in shown["warnings"]] == ["a", "b", "a"]
    assert "every sample is seen 8.3 times over" in shown["warnings"][0]
    assert "fewer than one sample in a thousand" in shown["warnings"][1]
    assert "shard-000001.tar of" in shown["warnings"][2]
    code, out, _ = run("mix", "show", str(spec), capsys=capsys)
    assert "warning: a: shard-000001.tar of" in out
    (tmp_path / "s" / "shard-000002.tar").unlink()
    assert "warning: a: shard-000001.tar and 1 more of" in run("mix", "show", str(spec), capsys=capsys)[1]


def test_a_simulation_draws_what_is_planned_and_plots_it(tmp_path, capsys):
    plot = tmp_path / "plots" / "shares.png"
    spec = str(MIXTURES / "depth_paper.yaml")
    code, out, _ = run("mix", "simulate", spec, "--samples", "6400", "--plot", str(plot), "--json", capsys=capsys)
    drawn = json.loads(out)
    assert code == 0
    assert drawn["largest_deviation"] < 1
    assert sum(row["drawn"] for row in drawn["datasets"].values()) == 6400
    assert plot.read_bytes()[:4] == b"\x89PNG"
    code, out, _ = run("mix", "simulate", spec, "--samples", "6400", capsys=capsys)
    assert "never differ by more than 0." in out


def test_a_simulation_needs_a_length(capsys, tmp_path):
    spec = tmp_path / "m.yaml"
    spec.write_text("datasets: {a: {size: 9, weight: 1}}")
    code, _, err = run("mix", "simulate", str(spec), capsys=capsys)
    assert code == 1
    assert "how long is the run? give --samples" in err


def test_simulated_counts_are_those_of_the_schedule():
    mixture = Mixture.load(MIXTURES / "depth_open.yaml")
    drawn = simulate(mixture, 64 * 50, lambda done, total: None)
    assert (np.diff(drawn.drawn, axis=0) >= 0).all()
    np.testing.assert_allclose(drawn.drawn.sum(axis=1), drawn.positions)


def test_diff_names_what_changed_and_says_so_in_its_exit_code(capsys, tmp_path):
    paper, uniform = (str(MIXTURES / name) for name in ("depth_paper.yaml", "depth_open.yaml"))
    code, out, _ = run("mix", "diff", paper, uniform, "--json", capsys=capsys)
    rows = {row["dataset"]: row for row in json.loads(out)}
    assert code == 1
    assert rows["street_view"]["after"] is None
    assert all(row["differs"] for row in rows.values())
    assert run("mix", "diff", paper, paper, capsys=capsys)[0] == 0
    changed = tmp_path / "m.yaml"
    changed.write_text(f"extends: {paper}\ndatasets: {{waymo: {{pixels: 3}}}}")
    code, out, _ = run("mix", "diff", paper, str(changed), "--json", capsys=capsys)
    assert code == 1
    assert {row["dataset"]: row["changed"] for row in json.loads(out) if row["differs"]} == {"waymo": ["pixels"]}


@pytest.mark.parametrize(
    ("entry", "changed"),
    [
        ("shards: ROOT/one", []),
        ("shards: ROOT/copy", ["shards"]),
        ("shards: ROOT/other", ["shards", "data"]),
        ("shards: ROOT/one, limit: 2", ["selection"]),
        ("shards: ROOT/one, pixels: 3", ["pixels"]),
    ],
)
def test_diff_names_what_changed_of_the_data(capsys, tmp_path, entry, changed):
    for name, first in (("one", 0), ("copy", 0), ("other", 5)):
        samples = [sample(first + number, [depth_question((40, 30), 2.0)]) for number in range(3)]
        write_dataset(tmp_path / name, [samples])
    entries = ["shards: ROOT/one", entry]
    specs = [tmp_path / f"{number}.yaml" for number in range(2)]
    for spec, text in zip(specs, entries, strict=True):
        spec.write_text(f"datasets: {{a: {{{text.replace('ROOT', str(tmp_path))}, weight: 1}}}}")
    code, out, _ = run("mix", "diff", *map(str, specs), "--json", capsys=capsys)
    (row,) = json.loads(out)
    assert (code, row["changed"], row["differs"]) == (int(bool(changed)), changed, bool(changed))


def test_diff_names_shares_that_change_over_the_run(capsys, tmp_path):
    plain, staged, other = (tmp_path / f"{name}.yaml" for name in ("plain", "staged", "other"))
    plain.write_text("{samples: 100, datasets: {a: {size: 9, weight: 1}, b: {size: 9, weight: 1}}}")
    staged.write_text(f"extends: {plain}\nschedule: [{{until: 0.5, weights: {{a: 0}}}}, {{until: 1, weights: {{}}}}]")
    other.write_text(f"extends: {plain}\nschedule: [{{until: 0.5, weights: {{}}}}, {{until: 1, weights: {{a: 0}}}}]")
    code, out, _ = run("mix", "diff", str(plain), str(staged), "--json", capsys=capsys)
    rows = json.loads(out)
    assert (code, [row["after"] for row in rows]) == (1, pytest.approx([0.25, 0.75]))
    code, out, _ = run("mix", "diff", str(staged), str(other), "--json", capsys=capsys)
    assert (code, [row["after"] for row in json.loads(out)]) == (1, pytest.approx([0.25, 0.75]))
    assert [row["changed"] for row in json.loads(out)] == [["schedule"], ["schedule"]]


def test_lock_writes_what_the_order_follows_from(capsys, tmp_path):
    out = tmp_path / "lock.json"
    assert run("mix", "lock", str(MIXTURES / "depth_paper.yaml"), "--out", str(out), capsys=capsys)[0] == 0
    assert json.loads(out.read_text())["seed"] == 0
    assert set(json.loads(out.read_text())["datasets"]) >= {"waymo", "hm3d"}
