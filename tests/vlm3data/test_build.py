"""Builds: what is dropped and why, the same bytes however they were made, nothing of others overwritten."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.conftest import HEIGHT, WIDTH, directory_bytes, jsonl_line, photo, write_jsonl
from vlm3data.budget import Budget
from vlm3data.build import BuildConfig, build, samples
from vlm3data.plan import _packed
from vlm3data.shards import read_samples
from vlm3data.types import SceneRef, UserError


def config(root: Path, **changes: object) -> BuildConfig:
    return BuildConfig.check({"source": "jsonl", "root": str(root), "focal_px": 150, "shard_size": 3} | changes, "test")


def manifests(out: Path) -> list[dict]:
    return [json.loads(path.read_bytes()) for path in sorted(out.glob("*.manifest.json"))]


def one_bad(tmp_path: Path, record: object) -> Path:
    return write_jsonl(tmp_path / "root", [jsonl_line(0), record, jsonl_line(2)])


def with_depth(number: int, value: object) -> dict:
    line = jsonl_line(number)
    line["depth"][4] = value  # type: ignore[index]
    return line


def with_pixel(number: int, value: object) -> dict:
    line = jsonl_line(number)
    line["pixel_coords"][4] = value  # type: ignore[index]
    return line


BAD_SAMPLES = {
    "image_missing": jsonl_line(1, image="rgb/none.jpg"),
    "image_size_mismatch": jsonl_line(1, intrinsics=[150, 150, 80, 60, WIDTH + 1, HEIGHT]),
    "bad_intrinsics": jsonl_line(1, intrinsics=[0, 150, 80, 60, WIDTH, HEIGHT]),
    "path_leaves_root": jsonl_line(1, image="../../etc/passwd"),
    "bad_record": "{not json",
    "no_depth": jsonl_line(1, pixel_coords=[], depth=[]),
    "image_too_small": jsonl_line(1, intrinsics=[15000, 15000, 80, 60, WIDTH, HEIGHT]),
}
MORE_BAD_RECORDS = [
    "[]",
    "1",
    '"text"',
    '{"image": 5}',
    json.dumps(jsonl_line(1, depth=[1.0])),
    json.dumps(jsonl_line(1, intrinsics=[1, 2, 3])),
    json.dumps(jsonl_line(1, pixel_coords=[[1]], depth=[1.0])),
    "\x00\xff",
]


@pytest.mark.parametrize("reason", BAD_SAMPLES)
def test_an_unusable_sample_is_dropped_for_a_named_reason_and_counted(tmp_path, reason):
    out = tmp_path / "out"
    dataset = build(config(one_bad(tmp_path, BAD_SAMPLES[reason]), max_drop_rate=0.5), str(out), workers=1)
    assert dataset["drops"] == {reason: 1}
    assert [m["drops"] for m in manifests(out)] == [{reason: 1}]
    assert dataset["samples"] == len(list(read_samples(str(out)))) == 2


@pytest.mark.parametrize("line", MORE_BAD_RECORDS)
def test_a_line_that_is_no_record_costs_one_sample(tmp_path, line):
    dataset = build(config(one_bad(tmp_path, line), max_drop_rate=0.5), str(tmp_path / "out"), workers=1)
    assert dataset["drops"] == {"bad_record": 1}


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: data[: len(data) // 2], "image_truncated"),
        (lambda data: data[:20], "image_unreadable"),
        (lambda data: b"", "image_unreadable"),
        (lambda data: b"GIF89a" + data, "image_unreadable"),
    ],
)
def test_a_damaged_image_is_dropped(tmp_path, damage, reason):
    root = one_bad(tmp_path, jsonl_line(1))
    (root / "rgb" / "1.jpg").write_bytes(damage(photo(1)))
    dataset = build(config(root, max_drop_rate=0.5), str(tmp_path / "out"), workers=1)
    assert dataset["drops"] == {reason: 1}


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (with_depth(1, None), "depth_not_finite"),
        (with_depth(1, 0.0), "depth_not_positive"),
        (with_depth(1, -2.0), "depth_not_positive"),
        (with_pixel(1, [WIDTH, 5]), "pixel_outside_image"),
        (with_pixel(1, [5, -1]), "pixel_outside_image"),
    ],
)
def test_a_wrong_label_is_dropped_by_itself_and_counted(tmp_path, record, reason):
    out = tmp_path / "out"
    dataset = build(config(one_bad(tmp_path, record)), str(out), workers=1)
    assert dataset["drops"] == {}
    assert dataset["labels"]["dropped"] == {reason: 1}
    kept, cut = dataset["labels"]["kept"], sum(dataset["labels"]["cut"].values())
    assert kept + cut + 1 == 60
    assert sum(len(sample.questions) for sample in read_samples(str(out))) == kept


def test_nan_in_json_is_a_dropped_record(tmp_path):
    line = json.dumps(with_depth(1, float("nan")))
    dataset = build(config(one_bad(tmp_path, line), max_drop_rate=0.5), str(tmp_path / "out"), workers=1)
    assert dataset["drops"] or dataset["labels"]["dropped"]


def test_more_drops_than_the_budget_fail_the_build_and_leave_no_dataset(tmp_path):
    root = one_bad(tmp_path, BAD_SAMPLES["image_missing"])
    with pytest.raises(UserError, match=r"dropped 1 of 3 samples \(image_missing 1\)"):
        build(config(root, max_drop_rate=0.3), str(tmp_path / "out"), workers=1)
    assert not (tmp_path / "out" / "dataset.json").exists()
    assert build(config(root, max_drop_rate=0.34), str(tmp_path / "out"), workers=1)["samples"] == 2


def test_a_build_that_drops_everything_fails_whatever_the_budget(tmp_path):
    root = write_jsonl(tmp_path / "root", ["{}", "{}"])
    with pytest.raises(UserError, match="no sample is left: bad_record 2"):
        build(config(root, max_drop_rate=1, options={"depth_kind": "z"}), str(tmp_path / "out"), workers=1)


def test_two_builds_give_the_same_bytes_on_every_engine(tmp_path, toy_root):
    for name, options in {
        "inline": {"workers": 1},
        "processes": {"workers": 2},
        "ray": {"engine": "ray", "workers": 2},
    }.items():
        build(config(toy_root), str(tmp_path / name), **options)
    reference = directory_bytes(tmp_path / "inline")
    assert len([name for name in reference if name.endswith(".tar")]) == 4
    assert directory_bytes(tmp_path / "processes") == reference
    assert directory_bytes(tmp_path / "ray") == reference


def test_samples_yields_what_build_writes(tmp_path, toy_root):
    build(config(toy_root), str(tmp_path / "out"), workers=1)
    written = [(s.key, s.images, s.record_json) for s in read_samples(str(tmp_path / "out"))]
    assert [(s.key, s.images, s.record_json) for s in samples(config(toy_root))] == written


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_a_killed_build_goes_on_and_ends_with_the_same_bytes(tmp_path, engine):
    root = write_jsonl(tmp_path / "root", [jsonl_line(number) for number in range(120)])
    build(config(root), str(tmp_path / "reference"), workers=1)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "vlm3data.cli", "build", "jsonl", "--root", str(root), "--out", str(out)]
    command += ["--focal", "150", "--shard-size", "3", "--workers", "2", "--engine", engine]
    for _ in range(5):  # on a busy machine a kill may come when all is done: that one tells nothing
        shutil.rmtree(out, ignore_errors=True)
        process = subprocess.Popen(command, start_new_session=True)
        while not list(out.glob("*.manifest.json")) and process.poll() is None:
            time.sleep(0.002)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if 0 < len(list(out.glob("*.manifest.json"))) < 40:
            break
    assert 0 < len(list(out.glob("*.manifest.json"))) < 40, "the kill must hit the middle of the build"
    assert not (out / "dataset.json").exists()
    subprocess.run(command, check=True, capture_output=True)
    assert directory_bytes(out) == directory_bytes(tmp_path / "reference")


def test_another_builds_output_is_refused_and_left_alone(tmp_path, toy_root):
    out = tmp_path / "out"
    build(config(toy_root), str(out), workers=1)
    before = directory_bytes(out)
    for changed in ({"focal_px": 140}, {"limit": 5}, {"seed": 1}, {"tasks": {"depth": {"pixels": 3}}}):
        with pytest.raises(UserError, match="of another build"):
            build(config(toy_root, **changed), str(out), workers=1)
    assert directory_bytes(out) == before


def test_a_build_that_left_no_sample_makes_way_for_another(tmp_path, toy_root):
    out = tmp_path / "out"
    bad = write_jsonl(tmp_path / "bad", [{"image": "none.jpg", "pixel_coords": [[1, 1]], "depth": [1.0]}] * 7)
    with pytest.raises(UserError, match=r"dropped \d+ of 7 samples"):
        build(config(bad, options={"depth_kind": "z"}), str(out), workers=1)
    assert manifests(out)  # a shard was finished, without a sample
    build(config(toy_root), str(out), workers=1)
    build(config(toy_root), str(tmp_path / "reference"), workers=1)
    assert directory_bytes(out) == directory_bytes(tmp_path / "reference")


def test_the_limit_counts_samples_and_the_split_is_the_files(tmp_path, toy_root):
    assert len(list(samples(config(toy_root, limit=5)))) == 5
    write_jsonl(toy_root, [jsonl_line(number) for number in range(2)], "toy_val.jsonl")
    assert len(list(samples(config(toy_root, split="val")))) == 2
    assert len(list(samples(config(toy_root)))) == 14
    with pytest.raises(UserError, match="no such split; known: train, val"):
        list(samples(config(toy_root, split="valid")))


def test_a_bug_in_a_source_keeps_its_traceback_and_names_the_frame(toy_root, monkeypatch):
    def broken(*_: object) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr("vlm3data.sources.jsonl.JsonlSource._read", broken)
    with pytest.raises(ZeroDivisionError) as caught:
        list(samples(config(toy_root)))
    assert "frame toy_train-00000000" in caught.value.__notes__[0]


def test_euclidean_labels_are_longer_than_z_by_the_obliqueness_of_the_ray(toy_root):
    z, euclidean = (next(samples(config(toy_root, label_depth=kind))) for kind in ("z", "euclidean"))
    camera = z.record["views"][0]["camera"]
    by_pixel = {tuple(q.truth["pixel_px"]): q.truth["depth_m"] for q in z.questions}
    for question in euclidean.questions:
        u, v = question.truth["pixel_px"]
        x, y = (u - camera["cx_px"]) / camera["fx_px"], (v - camera["cy_px"]) / camera["fy_px"]
        expected = by_pixel[u, v] * (1 + x * x + y * y) ** 0.5
        assert question.truth["depth_m"] == pytest.approx(expected, rel=5e-3)
        assert question.truth["depth_kind"] == "euclidean"


def test_the_sources_kind_of_depth_is_converted(tmp_path):
    roots = [write_jsonl(tmp_path / kind, [jsonl_line(0, depth_type=kind)]) for kind in ("z", "euclidean")]
    z, euclidean = (next(samples(config(root))).questions for root in roots)
    ratios = [a.truth["depth_m"] / b.truth["depth_m"] for a, b in zip(z, euclidean, strict=True)]
    assert min(ratios) >= 1
    assert max(ratios) > 1.05
    assert {question.truth["depth_kind"] for question in euclidean} == {"z"}


def test_changed_data_under_the_same_name_is_not_continued(tmp_path, toy_root):
    out = tmp_path / "out"
    build(config(toy_root), str(out), workers=1)
    (out / "dataset.json").unlink()
    write_jsonl(toy_root, [jsonl_line(number, depth=[2.0] * 20) for number in range(12)])
    with pytest.raises(UserError, match="scene toy_train-00000000 has changed since it was built: its files"):
        build(config(toy_root), str(out), workers=1)


def test_directories_may_have_brackets_in_their_names(tmp_path):
    root = write_jsonl(tmp_path / "r[1]", [jsonl_line(0)])
    out = tmp_path / "o[1]"
    build(config(root), str(out), workers=1)
    assert build(config(root), str(out), workers=1)["samples"] == 1
    with pytest.raises(UserError, match="of another build"):
        build(config(root, seed=1), str(out), workers=1)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"intrinsics": [1e-3, 150, 80, 60, WIDTH, HEIGHT]}, "image_too_large"),
        ({"intrinsics": [5e-324, 150, 80, 60, WIDTH, HEIGHT]}, "image_too_large"),
        ({"intrinsics": [150, 150, 80, 60, WIDTH + 0.5, HEIGHT]}, "bad_intrinsics"),
        ({"intrinsics": [True, 150, 80, 60, WIDTH, HEIGHT]}, "bad_record"),
        ({"depth": [True] * 20}, "bad_record"),
        ({"depth": ["1.0"] * 20}, "bad_record"),
        ({"image": "rgb/0.jpg/x.jpg"}, "image_missing"),
        ({"image": "r" * 300}, "image_unreadable"),
        ({"image": "a\x00b"}, "path_leaves_root"),
    ],
)
def test_more_unusable_records_are_dropped_by_name(tmp_path, changes, reason):
    root = one_bad(tmp_path, jsonl_line(1, **changes))
    assert build(config(root, max_drop_rate=0.5), str(tmp_path / "out"), workers=1)["drops"] == {reason: 1}


def test_sixteen_bit_grey_is_dropped_and_not_clipped_to_white(tmp_path):
    root = one_bad(tmp_path, jsonl_line(1, image="rgb/1.png"))
    Image.fromarray(np.full((HEIGHT, WIDTH), 30000, np.uint16)).save(root / "rgb" / "1.png")
    dataset = build(config(root, max_drop_rate=0.5), str(tmp_path / "out"), workers=1)
    assert dataset["drops"] == {"image_mode_unsupported": 1}


def test_the_label_budget_does_not_depend_on_the_size_of_a_shard(tmp_path):
    records = [jsonl_line(number) for number in range(10)]
    records[0] = with_depth(0, -1.0)
    root = write_jsonl(tmp_path / "root", records)
    for size in (1, 10):
        build(config(root, shard_size=size, max_drop_rate=0.01), str(tmp_path / f"out{size}"), workers=1)


def test_a_depth_map_of_another_size_is_dropped(toy_root):
    from vlm3data.build import open_source
    from vlm3data.shards import ShardTally
    from vlm3data.types import Drop
    from vlm3data.views import single_view

    source = open_source(config(toy_root))
    frame = next(iter(source.frames(next(iter(source.scenes(None))))))
    half = replace(frame, points=None, depth_m=lambda: np.ones((HEIGHT // 2, WIDTH // 2), np.float32))
    with pytest.raises(Drop, match="depth_size_mismatch"):
        single_view(half, config(toy_root), source.facts, ShardTally())


def test_a_root_may_be_relative_and_lie_beside_us(tmp_path, toy_root, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert build(config(Path("../toy")), "../out", workers=1)["samples"] == 12
    assert len(list(read_samples("../out"))) == 12


def test_a_task_that_has_nothing_to_ask_is_counted_while_others_have(tmp_path, toy_root):
    dataset = build(config(toy_root, tasks={"depth": {}, "objects": {}}), str(tmp_path / "out"), workers=1)
    assert dataset["unasked"] == {"objects: no_objects": dataset["samples"]}
    assert dataset["samples"] > 0
    assert (dataset["drops"], dataset["cuts"]) == ({}, {})


@given(
    st.lists(st.integers(0, 7), max_size=6), st.integers(1, 3), st.integers(1, 9), st.none() | st.integers(1, 60)
)  # fmt: skip
def test_the_shards_of_a_plan_hold_each_candidate_once_in_order_up_to_the_limit(sizes, per_frame, shard_size, limit):
    scenes = [SceneRef(f"{number}", size) for number, size in enumerate(sizes)]
    every = [(scene.scene, number) for scene in scenes for number in range(scene.num_frames * per_frame)][:limit]
    listed = iter(scenes)
    packed = list(_packed(listed, per_frame, shard_size, limit))
    assert every == [
        (scene.scene, number)
        for parts in packed
        for scene, first, count in parts
        for number in range(first, first + count)
    ]
    counts = [[count for *_, count in parts] for parts in packed]
    assert all(count > 0 for some in counts for count in some)
    full, rest = divmod(len(every), shard_size)
    assert list(map(sum, counts)) == [shard_size] * full + [rest] * (rest > 0)
    if limit is not None and len(every) == limit:  # a source may never end
        assert list(listed) == scenes[int(every[-1][0]) + 1 :]


def manifest(drops: int = 0, cuts: int = 0, kept: int = 0, bad_labels: int = 0, cut_labels: int = 0) -> dict:
    labels = {"kept": 10 * kept - bad_labels - cut_labels, "cut": {"c": cut_labels}, "dropped": {"d": bad_labels}}
    return {"samples": kept, "drops": {"a": drops}, "cuts": {"b": cuts}, "unasked": {}, "labels": labels}


def test_as_much_as_may_be_dropped_is_dropped_and_not_one_more():
    for shards, fails in (
        ([{"drops": 1, "kept": 4}] * 4, None),
        ([{"drops": 1, "kept": 4}] * 3 + [{"drops": 2, "kept": 3}], "dropped 5 of 20 samples"),
        ([{"cuts": 5}, *[{"kept": 5}] * 3], None),
        ([{"kept": 5, "bad_labels": 40}, *[{"kept": 5}] * 3], None),
        ([{"kept": 5, "bad_labels": 41}, *[{"kept": 5}] * 3], "dropped 41 of 200 labels"),
        ([{"kept": 5, "cut_labels": 41}, *[{"kept": 5}] * 3], None),
    ):
        for order in (shards, shards[::-1]):
            budget = Budget(0.2, 20)
            with pytest.raises(UserError, match=fails) if fails else contextlib.nullcontext():
                for shard in order:
                    budget.add(manifest(**shard))
            assert fails or budget.samples == sum(shard.get("kept", 0) for shard in shards)
