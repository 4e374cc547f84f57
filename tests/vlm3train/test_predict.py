"""One photo: its pixels go where a build moves them, and a cloud lies where its depths say."""

from __future__ import annotations

import inspect
import json
import re
import struct
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.conftest import HEIGHT, WIDTH, jsonl_line, photo, write_jsonl
from tests.exif_photos import with_exif
from vlm3data.build import BuildConfig, build, samples
from vlm3data.calibrators.exif import ExifCalibrator
from vlm3data.command import run_app
from vlm3data.exif import FOCAL_LENGTH_35MM
from vlm3data.geometry import project
from vlm3data.mixture import Mixture
from vlm3data.shards.original import Unify
from vlm3data.types import UserError
from vlm3train.cli import app
from vlm3train.cli_predict import predict
from vlm3train.label_facts import (
    FILE,
    SHAPING,
    LabelFacts,
    differences,
    facts_of,
    read_label_facts,
    write_label_facts,
)  # fmt: skip
from vlm3train.predict import PAPERS, depth_task, depths, grid_of, open_photo, point_cloud, settled, write_cloud

HOW = PAPERS.model_copy(update={"focal_px": 190.0, "label_depth": "z"})
FOCAL = 150.0


@pytest.fixture
def picture(tmp_path) -> str:
    """Return the path of a photo of 160x120 pixels."""
    path = tmp_path / "photo.jpg"
    path.write_bytes(photo(0))
    return str(path)


def answering(depth_of):
    """Return a model whose answers are `depth_of` the text coordinates that a question names."""

    def ask(asked):
        return [f"{depth_of(*map(int, re.findall(r'[0-9]+', q.question)[:2])):.6f} meters" for _, q in asked]

    return ask


def read_ply(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return points and colours, read by the format's own description and nothing of ours."""
    header, _, body = path.read_bytes().partition(b"end_header\n")
    lines = header.decode().splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    count = int(next(line for line in lines if line.startswith("element vertex")).split()[-1])
    assert [line.split()[1:] for line in lines if line.startswith("property")] == [
        *(["float", axis] for axis in "xyz"),
        *(["uchar", colour] for colour in ("red", "green", "blue")),
    ]
    rows = list(struct.iter_unpack("<fffBBB", body))
    assert len(rows) == count
    table = np.array(rows).reshape(-1, 6)
    return table[:, :3], table[:, 3:]


@pytest.mark.parametrize(("published", "align"), [(False, "crop"), (True, "crop"), (False, "pad"), (False, "none")])
def test_pixels_go_where_a_build_moves_them(tmp_path, picture, published, align):
    record = jsonl_line(0, intrinsics=[FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2, WIDTH, HEIGHT])
    root = write_jsonl(tmp_path / "toy", [record])
    how = HOW.model_copy(update={"published": published, "align": align})
    config = BuildConfig(
        source="jsonl",
        root=str(root),
        tasks={"depth": {"pixels": 64}},
        focal_px=190.0,
        published=published,
        align=align,
    )
    (sample,) = samples(config)
    there = {tuple(q.truth["pixel_px"]): (q.truth["grid_xy"], round(q.truth["depth_m"], 3)) for q in sample.questions}
    seen = open_photo(picture, how, FOCAL, None)
    found = {}
    for at, depth_m in zip(record["pixel_coords"], record["depth"], strict=True):
        (one,) = depths(seen, [tuple(at)], depth_task(how, None, "m"), "z", answering(lambda x, y: 1.0))
        if one.pixel_px is not None:
            found[one.pixel_px] = (list(one.grid_xy), depth_m)
    assert found == there
    assert (len(found) < len(record["pixel_coords"])) == (align == "crop")
    assert seen.sample.images == sample.images


@pytest.mark.parametrize("kind", ["z", "euclidean"])
def test_a_cloud_lies_at_the_depths_that_were_answered(tmp_path, picture, kind):
    seen = open_photo(picture, HOW, FOCAL, None)
    at = grid_of(seen.view.source_camera, 20)
    assert len(at) == 20 * 15
    found = depths(seen, at, depth_task(HOW, None, "m"), kind, answering(lambda x, y: 2 + y / 1000))
    points_m, rgb = point_cloud(seen, found, kind)
    write_cloud(str(tmp_path / "deep" / "cloud.ply"), points_m, rgb)
    xyz, colours = read_ply(tmp_path / "deep" / "cloud.ply")
    known = [one for one in found if one.pixel_px is not None]
    assert len(xyz) == len(known) < len(at)
    assert all(("straight line" in one.question) == (kind == "euclidean") for one in known)
    depth_m = xyz[:, 2] if kind == "z" else np.linalg.norm(xyz, axis=1)
    assert depth_m == pytest.approx([2 + one.grid_xy[1] / 1000 for one in known], rel=1e-5)
    # seen by the photo's own camera, each point lies within a unified pixel of the pixel that was asked about
    back_px = project(seen.view.source_camera, xyz) - 0.5
    assert np.abs(back_px - [one.at for one in known]).max() < 0.5 + 0.5 * FOCAL / 190
    # and by the camera of the image that the model saw, in the middle of that pixel
    seen_px = project(seen.view.camera, xyz)
    assert seen_px == pytest.approx(np.array([one.pixel_px for one in known]) + 0.5, abs=1e-3)
    image = seen.view.image
    assert colours.tolist() == [image[v, u].tolist() for u, v in (one.pixel_px for one in known)]


def test_a_photo_on_its_side_is_asked_as_viewers_show_it(tmp_path):
    path = tmp_path / "side.jpg"
    path.write_bytes(with_exif({FOCAL_LENGTH_35MM: 35}, orientation=6))
    seen = open_photo(str(path), HOW, None, ExifCalibrator(ExifCalibrator.Options()))
    camera = seen.view.source_camera
    assert (camera.width_px, camera.height_px) == (HEIGHT, WIDTH)
    assert seen.view.calibration.method == "exif"
    assert camera.fx_px == pytest.approx(35 * np.hypot(WIDTH, HEIGHT) / np.hypot(36, 24))
    assert seen.pixel_px((HEIGHT // 2, WIDTH - 30)) is not None
    with pytest.raises(UserError, match=f"lies outside side.jpg, which is {HEIGHT}x{WIDTH} pixels"):
        seen.pixel_px((WIDTH - 30, HEIGHT // 2))


def test_answers_without_a_depth_are_no_points(picture):
    seen = open_photo(picture, HOW, FOCAL, None)
    at = [(80, 60), (81, 60), (82, 60)]
    found = depths(seen, at, depth_task(HOW, None, "m"), "z", lambda asked: ["2 m", "far", "-3 m"][: len(asked)])
    assert [one.depth_m for one in found][:2] == [2.0, None]
    assert len(point_cloud(seen, found, "z")[0]) == 1


def test_the_whole_command(picture, model_dir, tmp_path, capsys):
    asked = ["predict", picture, "--model", str(model_dir), "--focal-px", "150", "--focal", "190", "--label-depth", "z"]
    more = [
        "--at",
        "80,60",
        "--at",
        "0,0",
        "--question",
        "How far is it?",
        "--cloud",
        str(tmp_path / "c.ply"),
        "--grid",
        "4",
    ]
    assert run_app(app, [*asked, *more, "--max-new-tokens", "4", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["size_px"], told["focal_px"], told["focal_from"]) == ([WIDTH, HEIGHT], 150.0, "--focal-px")
    assert [one["pixel_px"] is None for one in told["depths"]] == [False, True]
    assert len(told["answers"]) == 1
    cloud = told["cloud"]
    assert cloud["points"] + cloud["cut"] + cloud["no_depth"] == 12
    assert len(read_ply(tmp_path / "c.ply")[0]) == cloud["points"]
    assert run_app(app, [*asked, "--at", "0,0", "--max-new-tokens", "2"]) == 0
    assert "(0, 0): cut away" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["{photo}", "--at", "160,5"], 1, "--at 160,5 lies outside photo.jpg, which is 160x120 pixels"),
        (["{photo}", "--at", "5"], 2, "--at '5': is not two whole numbers x,y"),
        (["{photo}"], 2, "say what to ask"),
        (["{none}", "--at", "1,1"], 1, "none.jpg: cannot be read"),
        (["{text}", "--at", "1,1"], 1, "text.jpg: is no image that can be used"),
        (["{photo}", "--at", "1,1", "-focal-px"], 1, "its intrinsics are not known (no_exif_focal"),
        (["{photo}", "--at", "1,1", "--calibrator", "magic"], 2, "unknown calibrator 'magic'; known: anycalib, exif"),
        (["{photo}", "--at", "1,1", "-label-depth"], 2, "does not record which depth it was trained on"),
        (["{photo}", "--at", "80,60", "--model", "{none}"], 1, "no such directory"),
    ],
)
def test_a_mistake_is_one_line(picture, model_dir, tmp_path, capsys, arguments, code, said):
    (tmp_path / "text.jpg").write_text("not an image")
    places = {"photo": picture, "none": str(tmp_path / "none.jpg"), "text": str(tmp_path / "text.jpg")}
    given = {"--model": str(model_dir), "--focal-px": "150", "--label-depth": "z", "--focal": "190"}
    for argument in [one for one in arguments if one[0] == "-" and one[1] != "-"]:
        arguments = [one for one in arguments if one != argument]
        del given[f"-{argument}"]
    if "--model" in arguments:
        del given["--model"]
    if "--calibrator" in arguments:
        del given["--focal-px"]
    flags = [part for pair in given.items() for part in pair]
    assert run_app(app, ["predict", *(one.format(**places) for one in arguments), *flags]) == code
    error = capsys.readouterr().err
    assert (error.count("\n"), said in error) == (1, True), error


def test_the_labels_of_training_are_written_beside_the_model(tmp_path, shards, mixture):
    write_label_facts(tmp_path, Mixture.load(mixture))
    facts = read_label_facts(str(tmp_path))
    assert (facts.focal_px, facts.label_depth, facts.align, facts.depth_grid) == (80.0, "z", "crop", 2000)
    assert (facts.tasks, list(facts.datasets)) == (("depth",), ["toy"])
    how = settled("m", facts, focal_px=None, label_depth=None, depth_grid=None)
    assert (how.focal_px, how.label_depth) == (80.0, "z")
    ours = depth_task(facts, None, "m").pack.digest
    assert ours == facts.depth_wordings
    with pytest.raises(UserError, match="wording pack that is not ours"):
        depth_task(facts.model_copy(update={"depth_wordings": "0" * 16}), None, "m")


def test_shards_with_the_sources_images_are_labelled_as_the_mixture_unifies_them(tmp_path):
    built = str(tmp_path / "built")
    config = BuildConfig(
        source="synthetic", options={"width_px": 96, "height_px": 96}, focal_px=80.0, limit=3, store="original"
    )
    build(config, built, workers=1)
    path = tmp_path / "mix.yaml"
    path.write_text(f"seed: 5\nfocal_px: 120\nalign: pad\ndatasets:\n  a: {{shards: {built}, weight: 1}}\n")
    write_label_facts(tmp_path, Mixture.load(path))
    facts = read_label_facts(str(tmp_path))
    assert (facts.focal_px, facts.align) == (120.0, "pad")


def test_what_datasets_differ_in_is_null_and_must_be_said(tmp_path, shards):
    other = str(tmp_path / "other")
    config = BuildConfig(
        source="synthetic", options={"width_px": 96, "height_px": 96}, focal_px=80.0, limit=3, label_depth="euclidean"
    )
    build(config, other, workers=1)
    path = tmp_path / "mix.yaml"
    path.write_text(f"seed: 5\ndatasets:\n  a: {{shards: {shards}, weight: 1}}\n  b: {{shards: {other}, weight: 1}}\n")
    write_label_facts(tmp_path / "model", Mixture.load(path))
    facts = read_label_facts(str(tmp_path / "model"))
    assert (facts.label_depth, facts.focal_px, set(facts.datasets)) == (None, 80.0, {"a", "b"})
    with pytest.raises(UserError, match="differ in label_depth; say which with --label-depth"):
        settled("m", facts, label_depth=None)
    assert settled("m", facts, label_depth="z").label_depth == "z"
    known = [name.replace("_", "-") for name in inspect.signature(predict).parameters]
    for setting in set(SHAPING) - {"depth_wordings"}:
        with pytest.raises(UserError, match=f"differ in {setting}; ") as caught:
            settled("m", facts.model_copy(update={setting: None}), **{setting: None})
        said = str(caught.value)
        assert "that file" in said or re.findall(r"--([a-z-]+)", said)
        assert set(re.findall(r"--([a-z-]+)", said)) <= set(known)
    (tmp_path / "model" / FILE).write_text("{")
    with pytest.raises(UserError, match="is damaged"):
        read_label_facts(str(tmp_path / "model"))


def test_how_depth_was_asked_is_what_the_datasets_that_ask_for_it_agree_on(tmp_path):
    def part(name, focal_px, tasks):
        about = {"focal_px": focal_px, "focal_mode": "uniform", "align": "crop", "published": False, "label_depth": "z"}
        dataset = SimpleNamespace(
            about={"config": about | {"tasks": tasks}}, fingerprint=f"of {name[0]}", unify=Unify(None, None)
        )
        return SimpleNamespace(name=name, dataset=dataset)

    depth = {"depth": {"grid": 1000, "wordings": "a"}}
    parts = [part("a#depth", 80.0, depth), part("b", 80.0, {"pose": {}}), SimpleNamespace(name="c", dataset=None)]
    write_label_facts(tmp_path, SimpleNamespace(parts=parts))
    facts = read_label_facts(str(tmp_path))
    assert (facts.depth_grid, facts.depth_wordings, facts.focal_px) == (1000, "a", 80.0)
    assert (facts.tasks, facts.datasets) == (("depth", "pose"), {"a": "of a", "b": "of b"})
    write_label_facts(tmp_path, SimpleNamespace(parts=[*parts, part("d", 90.0, {"pose": {}})]))
    facts = read_label_facts(str(tmp_path))
    assert (facts.depth_grid, facts.focal_px) == (1000, None), "images of every dataset count, also those without depth"


def test_differences_between_training_and_scoring_are_said():
    about = {"focal_px": 80.0, "focal_mode": "uniform", "align": "crop", "published": False, "label_depth": "z"}
    data = facts_of(about | {"tasks": {"depth": {"grid": 2000, "wordings": "a"}}})
    trained = data.model_copy(update={"label_depth": "euclidean", "depth_wordings": "b"})
    assert differences(trained, data) == ["label_depth is z, the model was trained with euclidean"]
    assert differences(LabelFacts(), data) == []
