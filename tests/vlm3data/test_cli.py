"""The command line: exit codes, one-line mistakes, help without heavy imports, output that programs read."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import jsonl_line, needs_realdata, write_jsonl
from vlm3data.cli import app
from vlm3data.command import run_app
from vlm3data.shards import read_samples
from vlm3data.wording import PACKS


def run(*arguments: object) -> int:
    return run_app(app, [str(argument) for argument in arguments])


@pytest.fixture
def built(tmp_path: Path, toy_root: Path) -> Path:
    assert run("build", "jsonl", "--root", toy_root, "--out", tmp_path / "out", "--focal", 150, "--workers", 1) == 0
    return tmp_path / "out"


def test_build_says_what_it_built(tmp_path, toy_root, capsys):
    run("build", "jsonl", "--root", toy_root, "--out", tmp_path / "out", "--focal", 150, "--workers", 1)
    printed = capsys.readouterr().out
    assert re.search(r"samples +│ 12 ", printed)
    assert "stock Qwen3-VL processor enlarges" in printed


def test_verify_and_mix_show(built, tmp_path, capsys):
    assert run("verify", built) == 0
    assert "sound" in capsys.readouterr().out
    spec = tmp_path / "mix.yaml"
    spec.write_text(f"datasets:\n  a: {{shards: {built}, weight: 3}}\n  b: {{size: 100, weight: 1}}\n")
    assert run("mix", "show", spec, "--samples", 1600, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert [(row["dataset"], row["share"], row["samples"], row["epochs"]) for row in shown["datasets"]] == [
        ("a", 0.75, 1200, 100),
        ("b", 0.25, 400, 4),
    ]
    assert run("mix", "show", spec) == 0
    assert "0.7500" in capsys.readouterr().out


def test_json_output_is_json_alone(built, tmp_path, toy_root, capsys):
    capsys.readouterr()
    run("build", "jsonl", "--root", toy_root, "--out", tmp_path / "j", "--focal", 150, "--json", "--workers", 1)
    assert json.loads(capsys.readouterr().out)["samples"] == 12
    run("verify", built, "--json")
    assert json.loads(capsys.readouterr().out)["problems"] == []
    run("sources", "--json")
    assert "depth_kind" in json.loads(capsys.readouterr().out)["source"]["jsonl"]


def test_a_flag_reaches_the_source_and_the_task(tmp_path, toy_root, capsys):
    out = tmp_path / "out"
    run(
        "build",
        "jsonl",
        "--root",
        toy_root,
        "--out",
        out,
        "--focal",
        150,
        "--pixels",
        3,
        "--half-pixel",
        "add",
        "--json",
    )
    config = json.loads(capsys.readouterr().out)["config"]
    assert config["tasks"]["depth"]["pixels"] == 3
    assert config["options"] == {"depth_kind": None, "half_pixel": "add", "orientation": None}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["build"], 2, "source"),
        (["build", "jsonl"], 2, "out"),
        (["build", "jsnl", "--out", "o"], 2, "unknown source 'jsnl'; known: .*jsonl, .*synthetic"),
        (["build", "jsonl", "--out", "o", "--tasks", "deph"], 2, "unknown task 'deph'; known: .*depth"),
        (["build", "jsonl", "--out", "o", "--engine", "spark"], 2, "unknown engine 'spark'; known: local, ray"),
        (
            ["build", "jsonl", "--out", "o", "--colour", "red"],
            2,
            "unknown flag --colour; jsonl and its tasks know: --depth-kind",
        ),
        (["build", "synthetic", "--out", "o"], 2, "synthetic never ends: say how many samples with --limit"),
        (["build", "jsonl", "--out", "o", "--align", "left"], 2, "crop"),
        (["build", "jsonl", "--out", "o", "--focal", "-1"], 2, "focal_px: .*greater than 0"),
        (
            ["build", "jsonl", "--out", "o", "--root", "{tmp}", "--depth-kind", "y"],
            2,
            "depth_kind: .*'z' or 'euclidean'",
        ),
        (
            ["build", "jsonl", "--out", "o", "--root", "/none"],
            1,
            "--root /none: there is no such file or directory",
        ),
        (["build", "jsonl", "--out", "o", "--root", "{tmp}"], 1, "there is no .jsonl file"),
        (["build", "jsonl", "--out", "nonsense://o", "--root", "{toy}"], 1, "cannot open 'nonsense://o'"),
        (["build", "jsonl", "--out", ""], 2, "for --out. It must name a file or a directory"),
        (["build", "jsonl", "--out", "o", "--workers", "0"], 2, "--workers"),
        (
            ["build", "jsonl", "--out", "{toy}/toy_train.jsonl", "--root", "{toy}", "--focal", "150"],
            1,
            "toy_train.jsonl: File exists",
        ),
        (["build", "jsonl", "--out", "o"], 2, "error: --root is missing: say where the dataset lies$"),
        (["build", "jsonl", "--out", "o", "--task", "pose"], 2, "unknown flag --task; .*; did you mean --tasks\\?$"),
        (["build", "jsonl", "--out", "o", "--pixel", "3"], 2, "unknown flag --pixel; .*; did you mean --pixels\\?$"),
        (["build", "synthetic", "--out", "o", "--hfov-deg", "60"], 2, "hfov_deg: has too few values .found ..60..."),
        (
            ["build", "jsonl", "--out", "o", "--root", "{toy}", "--wordings", "depth_shrt"],
            1,
            "wordings depth_shrt: there is no such file, and of our own packs only .*depth_short",
        ),
        (
            ["build", "jsonl", "--out", "o", "--root", "{toy}", "--pixels", "x"],
            2,
            "task depth: pixels: .*valid integer",
        ),
        (["build", "jsonl", "--out", "o", "--root", "{toy}", "--reference", "marker"], 2, "say `pixels: 1`"),
        (["build", "jsonl", "--out", "o", "--calibrator", "fov", "--hfov-deg", "x"], 2, "calibrator fov: hfov_deg"),
        (["build", "jsonl", "--out", "o", "--seed", f"{1 << 63}"], 2, "vlm3data build: seed: .*less than"),
        (["build", "colmap", "--out", "o"], 2, "--root is missing"),
        (["synth", "--layout", "rgbd", "--out", "o", "--frames", "0"], 2, "layout rgbd: frames"),
        (["synth", "--layout", "rgbd", "--out", ""], 2, "for --out. It must name"),
        (["rerender", "{built}", "--out", "o", "--grid", "x"], 2, "task depth: grid: .*valid integer"),
        (["rerender", "{built}", "--out", "o", "--depth-pixels", "0"], 2, "task depth: pixels"),
        (["rerender", "{built}", "--out", "o", "--pixels", "999"], 1, "more than the 64 that they hold"),
        (["verify", "{built}", "--samples", "0"], 2, "--samples must be at least 1"),
        (["verify", "{built}", "--deep"], 2, "--root is missing"),
        (["verify", "{built}", "--deep", "--root", "{toy}", "--half-pixel", "x"], 2, "source jsonl: half_pixel"),
        (["doctor", "jsonl", "--root", "{toy}", "--half-pixel", "x"], 2, "source jsonl: half_pixel"),
        (["stats", "{built}", "--plots", ""], 2, "for --plots. It must name"),
        (["export", "{built}", "--format", "llava", "--out", "o", "--limit", "0"], 2, "must be at least 1"),
        (["mix", "show", "mixtures/demo.yaml", "--max-epochs", "-1"], 2, "--max-epochs must be above 0"),
        (["mix", "show", "mixtures/demo.yaml", "--steps", "1", "--samples", "1"], 2, "--samples or --steps, not both"),
        (["mix", "simulate", "mixtures/demo.yaml", "--samples", "-1"], 2, "--samples must be at least 1"),
        (["new-source", "Bad name", "--out", "o"], 2, "cannot be a source's name"),
        (["synth", "--layout", "rgbd", "--out", "o", "--frams", "3"], 2, "did you mean --frames"),
        (["mix", "show", "{tmp}"], 1, "is a directory; name a YAML file"),
        (["mix", "show", "mixtures/demo.yaml", "--samples", "0"], 2, "--samples, .* must be at least 1"),
        (["mix", "simulate", "mixtures/demo.yaml", "--plot", "p.txt"], 2, "p.txt: name a file that ends in .png"),
        (["verify", "{tmp}"], 1, "there is no dataset.json in it; name the directory that `vlm3data build` wrote"),
        (["verify", "{toy}/toy_train.jsonl"], 1, "no dataset at .*: it is a file; name the directory"),
        (["verify", "nowhere"], 1, "there is no such directory"),
        (["mix", "show", "nowhere.yaml"], 1, "nowhere.yaml: there is no such file"),
        (["dance"], 2, "dance"),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_code(tmp_path, toy_root, capsys, request, arguments, code, message):
    built = request.getfixturevalue("built") if "{built}" in arguments else ""
    filled = [part.format(tmp=tmp_path / "empty", toy=toy_root, built=built) for part in arguments]
    (tmp_path / "empty").mkdir()
    assert run(*filled) == code
    error = capsys.readouterr().err
    line = [part for part in error.splitlines() if part.strip()][-1]
    assert line.startswith("error: ")
    assert re.search(message, line)
    assert "Traceback" not in error


def test_a_path_that_cannot_be_written_is_named_without_the_name_it_is_first_written_under(tmp_path, toy_root, capsys):
    out = tmp_path / "out"
    assert run("build", "jsonl", "--root", toy_root, "--out", out, "--focal", 150, "--workers", 1) == 0
    for place, said in (
        (tmp_path, "Is a directory"),
        (tmp_path / "none" / "card.md", "No such file or directory .is "),
    ):
        capsys.readouterr()
        assert run("card", out, "--out", place) == 1
        assert re.match(rf"error: {re.escape(str(place))}: {said}", capsys.readouterr().err.splitlines()[-1])


def test_names_of_tasks_may_have_spaces_between_and_pairs_alone_have_no_labels(tmp_path, capsys):
    small = ["--limit", 2, "--workers", 1, "--width-px", 96, "--height-px", 96, "--focal", 80]
    assert run("build", "synthetic", "--out", tmp_path / "a", "--tasks", "depth, pose", *small) == 0
    assert "labels kept" in capsys.readouterr().out
    assert run("build", "synthetic", "--out", tmp_path / "b", "--tasks", "pose", *small) == 0
    assert "labels" not in capsys.readouterr().out


def test_a_pack_of_ours_is_named_or_given_by_its_path(tmp_path, toy_root):
    def build_with(pack: object) -> dict:
        shared = ["--root", toy_root, "--focal", 150, "--workers", 1, "--wordings", pack]
        assert run("build", "jsonl", "--out", tmp_path / Path(str(pack)).stem, *shared) == 0
        return json.loads((tmp_path / Path(str(pack)).stem / "dataset.json").read_bytes())["config"]["tasks"]

    copied = shutil.copy(PACKS / "depth_short.yaml", tmp_path / "mine.yaml")
    assert build_with("depth_short") == build_with(copied)


def test_too_many_drops_exit_with_1(tmp_path, capsys):
    root = write_jsonl(tmp_path / "root", [jsonl_line(0), "{"])
    assert run("build", "jsonl", "--root", root, "--out", tmp_path / "out", "--focal", 150) == 1
    assert "dropped 1 of 2 samples (bad_record 1)" in capsys.readouterr().err


@pytest.mark.parametrize("program", ["vlm3data", "vlm3train"])
def test_help_imports_nothing_heavy(program):
    code = (
        f"import sys; from {program}.cli import app; app(['--help'], result_action='return_value');"
        "heavy = {'numpy', 'torch', 'transformers', 'ray', 'polars', 'pyarrow', 'cv2', 'pydantic'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", [["build"], ["verify"], ["mix", "show"], ["sources"]])
def test_every_help_has_an_example(command, capsys):
    assert run(*command, "--help") == 0
    assert f"Example: vlm3data {' '.join(command)}" in capsys.readouterr().out


def test_the_real_ibims_images_build_verify_and_keep_their_depths(tmp_path, capsys):
    root = needs_realdata("ibims1")
    out = tmp_path / "ibims1"
    assert run("build", "jsonl", "--root", root, "--out", out, "--pixels", 100) == 0
    assert run("verify", out) == 0
    published = [json.loads(line) for line in (root / "ibims1_val.jsonl").read_text().splitlines()]
    built = list(read_samples(str(out)))
    assert len(built) == len(published) == 36
    for sample, record in zip(built, published, strict=True):
        assert sample.record["scene"] == record["image"].removesuffix(".png")
        assert sorted(q.truth["depth_m"] for q in sample.questions) == sorted(record["depth"])
        view = sample.record["views"][0]
        moved = {tuple(q.truth["pixel_px"]): q.truth["depth_m"] for q in sample.questions}
        s, (x0, y0) = 1000 / record["intrinsics"][0], view["crop_xy_px"]
        for (u, v), depth_m in zip(record["pixel_coords"], record["depth"], strict=True):
            assert moved[int((u + 0.5) * s // 1) - x0, int((v + 0.5) * s // 1) - y0] == depth_m
