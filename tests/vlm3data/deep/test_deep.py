"""verify --deep: sound shards pass on every kind of label; what was changed, and what was built wrong, is found."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import orjson
import pytest
from PIL import Image

from tests.conftest import jsonl_line, needs_realdata
from tests.test_contracts import CALIBRATED, SMALL, root_of
from vlm3data import labels
from vlm3data.build import BuildConfig, build
from vlm3data.cli import app
from vlm3data.command import run_app
from vlm3data.deep import verify_deep
from vlm3data.images import encode_jpeg
from vlm3data.shards import Dataset, ShardTally, committed, read_samples, verify, write_index, write_shard
from vlm3data.storage import open_store
from vlm3data.types import Sample, UserError
from vlm3data.wording import PACKS

ALL = {"depth": {}, "pose": {}, "correspondence": {}, "objects": {}}
TASKS = {
    "colmap": ("correspondence", "pose"),
    "megadepth": ("correspondence", "pose"),
    "nuscenes": ("depth", "objects"),
    "scannet": tuple(ALL),
    "spatialrgpt": ("objects",),
    "synthetic": tuple(ALL),
    "wai": ("depth", "pose", "correspondence"),
}


def built(source: str, tmp_path: Path, **changes) -> tuple[str, str]:
    """Return shards and root of a small dataset."""
    config = {
        "source": source,
        "root": root_of(source, tmp_path),
        "options": SMALL.get(source, {}),
        "tasks": {task: {} for task in TASKS.get(source, ("depth",))},
        "focal_px": 120.0,
        "seed": 5,
        "max_drop_rate": 1.0,
    }
    out = str(tmp_path / "out")
    build(BuildConfig.check(config | changes, where="test"), out, workers=1)
    return out, str(config["root"])


def rewrite(out: str, change) -> None:
    """Change the first sample and write the shard again, so that every hash fits: only the source can tell."""
    samples = list(read_samples(out))
    record, images = orjson.loads(samples[0].record_json), list(samples[0].images)
    images = change(record, images) or images
    samples[0] = Sample(key=samples[0].key, images=tuple(images), record_json=orjson.dumps(record))
    fs, directory = open_store(out)
    old = committed(fs, directory)["shard-000000"]
    write_shard(fs, directory, "shard-000000", samples, ShardTally(), old["config"])
    write_index(fs, directory, list(committed(fs, directory).values()), Dataset(out).about)


@pytest.mark.parametrize("source", ["colmap", "ibims", "jsonl", "nuscenes", "rgbd", "scannet", "spatialrgpt", "wai"])
def test_what_was_built_is_what_the_source_says(source, tmp_path):
    out, root = built(source, tmp_path, **(CALIBRATED if source == "spatialrgpt" else {}))
    found = verify_deep(out, root)
    assert found.problems == []
    assert found.samples == len(Dataset(out))
    for task, check in found.tasks.items():
        assert check.questions
        assert check.worst_rebuilt == 0
        assert check.witnessed == (0 if (source, task) in {("colmap", "correspondence")} else check.questions) or (
            source == "spatialrgpt"
        )


@pytest.mark.parametrize("changes", [{"label_depth": "euclidean"}, {"published": True}, {"align": "pad"}])
def test_the_witness_follows_every_setting(changes, tmp_path):
    out, root = built("ibims", tmp_path, **changes)
    found = verify_deep(out, root)
    assert found.problems == []
    assert 0 <= found.tasks["depth"].worst_witnessed < 1e-6


def test_the_witness_sees_through_a_lens(tmp_path):
    root = needs_realdata("colmap_lund")
    out = str(tmp_path / "out")
    config = BuildConfig(source="colmap", root=str(root), options={"metres_per_unit": 1.0}, limit=2, max_drop_rate=1)
    build(config, out, workers=1)
    found = verify_deep(out, str(root))
    assert found.problems == []
    assert found.tasks["depth"].witnessed == found.tasks["depth"].questions > 50


@pytest.mark.parametrize(
    ("source", "folder", "tasks"),
    [
        ("nuscenes", "nuscenes", ("depth", "objects")),
        ("jsonl", "ibims1", ("depth",)),
        ("rgbd", "rgbd_7scenes", ("depth", "pose", "correspondence")),
    ],
)
def test_real_samples_are_what_their_files_say(source, folder, tasks, tmp_path):
    root = str(needs_realdata(folder))
    out = str(tmp_path / "out")
    config = BuildConfig(source=source, root=root, tasks={task: {} for task in tasks}, limit=4, max_drop_rate=1)
    build(config, out, workers=1)
    found = verify_deep(out, root)
    assert found.problems == []
    assert {task for task, check in found.tasks.items() if check.witnessed == check.questions > 0} == set(tasks)


@pytest.mark.parametrize("focal_mode", ["square", "none"])
def test_every_way_of_scaling(focal_mode, tmp_path):
    out, root = built("jsonl", tmp_path, focal_mode=focal_mode)
    assert verify_deep(out, root).problems == []


def deeper(record, images):
    """A depth 7 % off, and an answer that says so."""
    for question in record["questions"]:
        depth_m = question["truth"]["depth_m"]
        question["truth"]["depth_m"] = depth_m * 1.07
        question["answer"] = question["answer"].replace(f"{depth_m:.2f}", f"{depth_m * 1.07:.2f}")


def moved(record, images):
    """Each label one pixel to the right, in pixels and in words."""
    width = record["views"][0]["camera"]["width_px"]
    for question in record["questions"]:
        truth = question["truth"]
        if truth["pixel_px"][0] + 1 < width:
            old = truth["grid_xy"][0]
            truth["pixel_px"][0] += 1
            truth["grid_xy"][0] = min(round(truth["pixel_px"][0] * truth["grid"] / width), truth["grid"] - 1)
            question["question"] = question["question"].replace(str(old), str(truth["grid_xy"][0]), 1)


def mirrored(record, images):
    picture = np.asarray(Image.open(io.BytesIO(images[0])))
    return [encode_jpeg(np.ascontiguousarray(picture[:, ::-1]), 95)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (deeper, "depth_m is .*, the source gives "),
        (deeper, r"the source's raw truth is 0\.06\d+ off"),
        (moved, r"pixel_px\[0\] is "),
        (mirrored, "image 0 is not the source's"),
    ],
)
def test_a_changed_shard_is_found_though_its_hashes_fit(change, message, tmp_path):
    out, root = built("ibims", tmp_path)
    rewrite(out, change)
    first = next(read_samples(out)).key
    found = verify_deep(out, root)
    assert any(re.search(message, problem) for problem in found.problems), found.problems[:3]
    assert all(problem.startswith(first) for problem in found.problems)
    if change is not moved:  # its wording may not name the grid first
        assert verify(out).problems == []


def test_a_mistake_in_the_building_itself_is_found_by_the_witness(tmp_path, monkeypatch):
    true = labels.sample_dense

    def shifted(depth_m, *others):
        return true(np.roll(depth_m, 3, axis=1), *others)

    monkeypatch.setattr(labels, "sample_dense", shifted)
    out, root = built("ibims", tmp_path)
    found = verify_deep(out, root)
    assert verify(out).problems == []
    assert found.tasks["depth"].worst_rebuilt == 0
    assert any("raw truth" in problem for problem in found.problems)


def test_a_source_that_lost_or_changed_a_frame_is_named(tmp_path):
    out, root = built("jsonl", tmp_path)
    (Path(root) / "rgb" / "1.jpg").unlink()
    found = verify_deep(out, root)
    assert any("does not give this sample (image_missing 1)" in problem for problem in found.problems)
    file = Path(root) / "toy_train.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines[0]["depth"] = [value + 1 for value in lines[0]["depth"]]
    file.write_text("\n".join(map(json.dumps, lines)) + "\n")
    problems = verify_deep(out, root).problems
    assert any("the source has changed since" in problem for problem in problems)
    assert any("toy_train-00000000: question" in problem for problem in problems)


def grown(root: Path, out: str) -> None:
    """Build a dataset and append to it twice: scenes before those that were there, then behind them."""
    config = BuildConfig(source="jsonl", root=str(root), focal_px=120, shard_size=5)
    build(config, out, workers=1)
    for name in ("aaa", "zzz"):
        lines = [jsonl_line(number, image=f"rgb/{number % 3}.jpg") for number in range(20, 24)]
        (root / f"{name}_train.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
        build(config, out, workers=1, append=True)


def test_what_was_appended_is_checked_like_the_rest(toy_root, tmp_path):
    root, out = toy_root, str(tmp_path / "out")
    grown(root, out)
    found = verify_deep(out, str(root))
    assert found.problems == []
    assert found.samples == len(Dataset(out)) == 20
    # What the source has grown by since is nobody's sample yet.
    (root / "bbb_train.jsonl").write_bytes((root / "aaa_train.jsonl").read_bytes())
    assert verify_deep(out, str(root)).problems == []
    (root / "aaa_train.jsonl").unlink()
    lost = verify_deep(out, str(root))
    assert lost.samples == found.samples - 4
    assert sum("the source does not give this sample (no such frame)" in problem for problem in lost.problems) == 4
    assert sum("the source has changed since" in problem for problem in lost.problems) == 1


def test_a_changed_label_in_an_appended_shard_is_found(toy_root, tmp_path):
    root, out = toy_root, str(tmp_path / "out")
    grown(root, out)
    file = root / "zzz_train.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines[1]["depth"] = [value * 1.07 for value in lines[1]["depth"]]
    file.write_text("\n".join(map(json.dumps, lines)) + "\n")
    problems = verify_deep(out, str(root)).problems
    name = sorted(committed(*open_store(out)))[-1]
    assert f"{name}: the source has changed since: its frames or their files are others" in problems
    assert any(re.search("zzz_train-00000001: .*depth_m is .*, the source gives", problem) for problem in problems)
    assert not [problem for problem in problems if not problem.startswith((name, "zzz_train-00000001"))]


def test_samples_are_a_seeded_choice(tmp_path):
    out, root = built("jsonl", tmp_path)
    assert verify_deep(out, root, samples=2).samples == 2
    seen = []
    verify_deep(out, root, samples=2, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]


def test_wordings_of_ones_own_have_to_be_named(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text((PACKS / "depth_short.yaml").read_text().replace("{x}", " {x}"))
    out, root = built("jsonl", tmp_path, tasks={"depth": {"wordings": str(own)}})
    with pytest.raises(UserError, match="name theirs with --wordings FILE"):
        verify_deep(out, root)
    assert verify_deep(out, root, given={"wordings": str(own)}).problems == []


def test_the_command(tmp_path, capsys):
    out, root = built("scannet", tmp_path)
    capsys.readouterr()
    assert run_app(app, ["verify", out, "--deep", "--root", root]) == 0
    printed = capsys.readouterr().out
    assert "sound" in printed
    assert "as the source says" in printed
    assert run_app(app, ["verify", out, "--deep", "--root", root, "--json", "--samples", "3"]) == 0
    assert json.loads(capsys.readouterr().out)["deep"]["samples"] == 3
    assert run_app(app, ["verify", out, "--root", root]) == 2
    assert "--root is for --deep" in capsys.readouterr().err
    assert run_app(app, ["verify", out, "--deep", "--root", root, "--patterns", "x"]) == 2
    assert "unknown flag --patterns" in capsys.readouterr().err
    assert run_app(app, ["verify", out, "--deep", "--root", "nowhere"]) == 1
    assert "there is no such directory" in capsys.readouterr().err
