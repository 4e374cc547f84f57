"""Asking again from shards: what a build with the same options gives, byte for byte, without the source."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import directory_bytes, jsonl_line, write_jsonl
from vlm3data import cli, registry
from vlm3data.build import BuildConfig, build
from vlm3data.command import run_app
from vlm3data.contracts import Rerenders
from vlm3data.deep import verify_deep
from vlm3data.geometry import project, rays, rotation_from_yaw_pitch_roll_deg
from vlm3data.rerender import rerender
from vlm3data.shards import Dataset, read_samples, verify
from vlm3data.sources.synthetic import SyntheticSource
from vlm3data.tasks.pose import PoseTask
from vlm3data.types import Camera, Held, UserError

ALL = {
    "depth": {"pixels": 10},
    "objects": {"questions": 9},
    "correspondence": {"pixels": 6},
    "pose": {},
}
ROOMS = {"scenes": 3, "width_px": 160, "height_px": 120}


def built(out: Path, tasks: dict | None = None, **changes: object) -> Path:
    config = {"source": "synthetic", "options": ROOMS, "tasks": tasks or ALL, "focal_px": 160.0, "limit": 24, "seed": 3}
    build(BuildConfig.check(config | {"shard_size": 10} | changes, "test"), str(out), workers=1)
    return out


@pytest.fixture(scope="module")
def rooms(tmp_path_factory) -> Path:
    return built(tmp_path_factory.mktemp("rooms") / "built")


def again(rooms: Path, out: Path, **changes: object) -> Path:
    rerender(str(rooms), str(out), workers=1, **changes)  # pyright: ignore[reportArgumentType]
    return out


def tars(directory: Path) -> dict[str, bytes]:
    return {name: data for name, data in directory_bytes(directory).items() if name.endswith(".tar")}


def asked(directory: Path) -> dict[str, list]:
    return {sample.key: sample.record["questions"] for sample in read_samples(str(directory))}


def pack(path: Path, question: str, answer: str) -> str:
    path.write_text(json.dumps({"wordings": [{"question": question, "answer": answer}]}))
    return str(path)


def test_every_task_of_ours_asks_again():
    for name in registry.names("task"):
        assert issubclass(registry.load("task", name), Rerenders)


def test_the_rooms_hold_every_task(rooms):
    said = [question["task"] for questions in asked(rooms).values() for question in questions]
    assert {name: said.count(name) > 5 for name in ALL} == dict.fromkeys(ALL, True)


def test_the_same_options_give_the_same_bytes(rooms, tmp_path):
    out = again(rooms, tmp_path / "out")
    assert tars(out) == tars(rooms)
    assert Dataset(str(out)).fingerprint == Dataset(str(rooms)).fingerprint
    before, after = (json.loads((d / "shard-000000.manifest.json").read_text()) for d in (rooms, out))
    assert after.pop("rerendered")["changes"] == []
    assert after.pop("from_sha256") == before["sha256"]
    assert after.pop("config") != before.pop("config")
    assert after == before


OTHER = {
    "grid": {"depth": {"grid": 1000}, "correspondence": {"grid": 512}, "objects": {}, "pose": {}},
    "fewer": {"depth": {"pixels": 4}, "correspondence": {"pixels": 3}, "objects": {"questions": 5}, "pose": {}},
    "a task less of each kind": {"depth": {"grid": 777}, "pose": {}},
}


@pytest.mark.parametrize("change", OTHER)
def test_other_options_give_what_a_build_with_them_gives(rooms, tmp_path, change):
    changed = OTHER[change]
    out = again(rooms, tmp_path / "out", tasks=changed)
    expected = built(tmp_path / "expected", {name: ALL[name] | options for name, options in changed.items()})
    assert {sample.key: sample.record for sample in read_samples(str(out))} == {
        sample.key: sample.record for sample in read_samples(str(expected))
    }
    assert verify(str(out)).problems == []
    about, meant = Dataset(str(out)).about, Dataset(str(expected)).about
    assert about["digest"] == meant["digest"]
    assert asked(out) != asked(rooms)
    assert about["rerendered"]["from"]["digest"] == Dataset(str(rooms)).about["digest"]


def test_another_pack_says_other_words_and_units(rooms, tmp_path):
    wordings = pack(tmp_path / "w.yaml", "Wie weit bis ({x}, {y})?", "{depth_ft:.2f} feet")
    out = again(rooms, tmp_path / "out", tasks={"depth": {"wordings": wordings}})
    expected = built(tmp_path / "expected", {"depth": ALL["depth"] | {"wordings": wordings}})
    assert asked(out) == asked(expected)
    assert verify(str(out)).problems == []
    question = next(iter(asked(out).values()))[0]
    feet = float(question["answer"].split()[0])
    assert feet * 0.3048 == pytest.approx(question["truth"]["depth_m"], abs=0.0016)
    with pytest.raises(UserError, match="another pack than ours: say with --wordings"):
        again(out, tmp_path / "next", tasks={"depth": {"grid": 1000}})
    assert asked(again(out, tmp_path / "ours", tasks={"depth": {"wordings": ""}})) == {
        key: depths
        for key, questions in asked(rooms).items()
        if (depths := [q for q in questions if q["task"] == "depth"])
    }


def test_the_other_kind_of_depth_follows_from_pixel_and_camera(rooms, tmp_path):
    out = again(rooms, tmp_path / "out", tasks={"depth": {}}, label_depth="euclidean")
    assert verify(str(out)).problems == []
    expected = built(tmp_path / "expected", {"depth": {"pixels": 4000}}, label_depth="euclidean")
    truths = {key: {tuple(q["truth"]["pixel_px"]): q["truth"] for q in qs} for key, qs in asked(expected).items()}
    seen = 0
    for key, questions in asked(out).items():
        for question in questions:
            truth = question["truth"]
            assert truth["depth_kind"] == "euclidean"
            assert truth["depth_m"] == pytest.approx(truths[key][tuple(truth["pixel_px"])]["depth_m"], rel=2e-3)
            seen += 1
    assert seen > 50
    assert Dataset(str(out)).about["digest"] != Dataset(str(expected)).about["digest"]
    back = again(out, tmp_path / "back", label_depth="z")
    for key, questions in asked(back).items():
        stored = [q["truth"]["depth_m"] for q in asked(rooms)[key] if q["task"] == "depth"]
        np.testing.assert_allclose([q["truth"]["depth_m"] for q in questions], stored, rtol=1e-12)


def test_poses_can_be_asked_of_pairs_that_were_built_for_correspondence(tmp_path):
    pairs = built(tmp_path / "pairs", {"correspondence": {}})
    out = again(pairs, tmp_path / "out", tasks={"pose": {}})
    assert verify(str(out)).problems == []
    expected, now = asked(built(tmp_path / "expected", {"pose": {}})), asked(out)
    assert now.keys() == expected.keys()
    assert sum(now[key] == expected[key] for key in now) >= 4
    for key, questions in now.items():
        # Whether the camera moved enough is told from the matches here, from the depths there: in doubt not at all.
        said = [(question["question"], question["answer"]) for question in expected[key]]
        assert [(question["question"], question["answer"]) for question in questions] == said[: len(questions)]
    both = again(pairs, tmp_path / "both", tasks={"correspondence": {}, "pose": {}})
    assert {q["task"] for questions in asked(both).values() for q in questions} == {"correspondence", "pose"}


@pytest.mark.parametrize("turn_deg", [(0, 0, 0), (25, -10, 5)])
@pytest.mark.parametrize(("way_m", "moved"), [(0.004, False), (0.12, True)])
def test_a_camera_that_only_turned_moved_in_no_direction(turn_deg, way_m, moved):
    rng, camera = np.random.default_rng(1), Camera.centred(1000.0, 1248, 704)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation_from_yaw_pitch_roll_deg(*turn_deg), (way_m, 0, 0)
    pixels = rng.integers(300, 600, (10, 2))
    points = rays(camera, pixels + 0.5) * 5.0
    there = project(camera, (points - pose[:3, 3]) @ pose[:3, :3])
    truths = [{"pixel_px": a, "pixel2_px": b} for a, b in zip(pixels.tolist(), there.tolist(), strict=True)]
    held = Held(
        stored={"correspondence": [{"truth": truth} for truth in truths]},
        cameras=(camera, camera),
        world_from_cam=(np.eye(4), pose),
        facts=replace(SyntheticSource.facts, depth_noise=(0.0, 0.01)),
    )
    asked = PoseTask(PoseTask.Options()).ask_again(held, "z", rng)
    assert {question.truth["kind"] for question in asked} == {
        "rotation_angle", "euler", *(["direction", "distance"] if moved else [])
    }  # fmt: skip
    if moved:
        np.testing.assert_allclose(asked[0].truth["translation_direction"], [1, 0, 0], atol=1e-9)


REFUSED = {
    "20 pixels an image are more than the 10": {"depth": {"pixels": 20}},
    "7 pixels a pair are more than the 6": {"correspondence": {"pixels": 7}},
    "99 questions an image are more than the 9": {"objects": {"questions": 99}},
}


@pytest.mark.parametrize("message", REFUSED)
def test_more_than_is_held_is_refused(rooms, tmp_path, message):
    with pytest.raises(UserError, match=message):
        again(rooms, tmp_path / "out", tasks=REFUSED[message])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("task", ["depth", "objects", "correspondence", "pose"])
def test_a_task_whose_numbers_are_not_held_is_refused(rooms, tmp_path, task):
    other = again(rooms, tmp_path / "other", tasks={"objects" if task == "depth" else "depth": {}})
    with pytest.raises(
        UserError,
        match=f"cannot be asked for {task}: .*; build from the source"
        if task != "depth"
        else "cannot be asked for depth",
    ):
        again(other, tmp_path / "out", tasks={task: {}} if task != "depth" else {"depth": {}})


def test_what_was_stopped_goes_on_and_nothing_of_others_is_overwritten(rooms, tmp_path):
    changed = {"depth": {"grid": 1000}}
    whole = again(rooms, tmp_path / "whole", tasks=changed)
    stopped = tmp_path / "stopped"
    shutil.copytree(whole, stopped)
    for name in ("dataset.json", "index.parquet", "shard-000001.manifest.json"):
        (stopped / name).unlink()
    (stopped / "shard-000001.tar").write_bytes(b"half")
    again(rooms, stopped, tasks=changed)
    assert directory_bytes(stopped) == directory_bytes(whole)
    before = directory_bytes(whole)
    for tasks in ({"depth": {"grid": 500}}, None):
        with pytest.raises(UserError, match="of another build"):
            again(rooms, whole, tasks=tasks)
    with pytest.raises(UserError, match=f"--out {re.escape(str(rooms))}: is what is asked again"):
        again(rooms, rooms)
    assert directory_bytes(whole) == before


def test_a_damaged_sample_is_not_copied(rooms, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(rooms, damaged)
    data = bytearray((damaged / "shard-000001.tar").read_bytes())
    data[5000] ^= 1
    (damaged / "shard-000001.tar").write_bytes(data)
    with pytest.raises(UserError, match=r"shard-000001.tar: sample \d+ at byte \d+ is damaged; `vlm3data verify`"):
        again(damaged, tmp_path / "out")
    assert not (tmp_path / "out" / "shard-000001.manifest.json").exists()


def test_any_url_and_any_number_of_workers(rooms, tmp_path):
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(f"{rooms}/", "/rooms/", recursive=True)
    rerender("memory://rooms", "memory://again", tasks={"depth": {"grid": 1000}}, workers=1)
    memory.get("/again/", str(tmp_path / "fetched"), recursive=True)
    local = tmp_path / "local"
    rerender(str(rooms), str(local), tasks={"depth": {"grid": 1000}}, workers=2)
    assert tars(tmp_path / "fetched") == tars(local)


def test_samples_with_nothing_left_are_counted(tmp_path):
    root = write_jsonl(tmp_path / "toy", [jsonl_line(number) for number in range(3)])
    build(BuildConfig(source="jsonl", root=str(root), focal_px=150), str(tmp_path / "built"), workers=1)
    manifest = tmp_path / "built" / "dataset.json"
    about = json.loads(manifest.read_text())
    about["config"]["tasks"] = {"objects": {"questions": 24}}  # as if other samples had been asked about objects
    manifest.write_text(json.dumps(about))
    with pytest.raises(UserError, match="no sample holds anything for objects"):
        again(tmp_path / "built", tmp_path / "out")
    left = json.loads((tmp_path / "out" / "shard-000000.manifest.json").read_text())
    assert left["cuts"] == {"no_question_left": 3}


def test_the_numbers_are_verified_where_they_come_from(rooms, tmp_path):
    with pytest.raises(UserError, match=f"the fingerprint {Dataset(str(rooms)).fingerprint}"):
        verify_deep(str(again(rooms, tmp_path / "out")), "")


def test_the_command_asks_again(rooms, tmp_path, capsys):
    line = ["rerender", str(rooms), "--out", str(tmp_path / "out"), "--tasks", "depth,objects", "--depth-pixels", "4"]
    assert run_app(cli.app, [*line, "--grid", "1000", "--workers", "1"]) == 0
    assert "depth: pixels is 4, was 10" in capsys.readouterr().out
    truths = [q["truth"] for questions in asked(tmp_path / "out").values() for q in questions if q["task"] == "depth"]
    assert {truth["grid"] for truth in truths} == {1000}
    for wrong, message in ((["--gird", "3"], "unknown flag --gird"), (["--tasks", "depht"], "unknown task 'depht'")):
        assert run_app(cli.app, ["rerender", str(rooms), "--out", str(tmp_path / "x"), *wrong]) == 2
        assert message in capsys.readouterr().err
