"""The JSON Lines source: which kind of depth a file holds is recorded or said, never assumed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import HEIGHT, WIDTH, jsonl_line, needs_realdata, write_jsonl
from vlm3data.build import BuildConfig, build, samples
from vlm3data.sources.jsonl import JsonlSource
from vlm3data.types import Camera, Drop, UserError


def opened(root: Path, **options: object) -> JsonlSource:
    return JsonlSource(str(root), JsonlSource.Options.check(options, "test"), 0)


def lines(count: int, **changes: object) -> list[object]:
    return [jsonl_line(number, **changes) for number in range(count)]


def unrecorded(count: int) -> list[object]:
    return [{key: value for key, value in jsonl_line(i).items() if key != "depth_type"} for i in range(count)]


def test_a_file_that_does_not_say_its_kind_is_refused_with_what_to_pass(tmp_path):
    root = write_jsonl(tmp_path, unrecorded(2))
    with pytest.raises(UserError, match=r"toy_train.jsonl does not say .* --depth-kind z .* --depth-kind euclidean"):
        opened(root)
    assert opened(root, depth_kind="euclidean").facts.depth_kind == "euclidean"


@pytest.mark.parametrize("word", ["z", "z_depth", "euclidean", "Euclid"])
@pytest.mark.parametrize("key", ["depth_type", "depth_kind"])
def test_lines_may_say_it(tmp_path, key, word):
    root = write_jsonl(tmp_path, [{**record, key: word} for record in unrecorded(2)])  # pyright: ignore
    assert opened(root).facts.depth_kind == ("z" if word.startswith("z") else "euclidean")


def test_the_same_numbers_of_another_kind_give_other_labels(tmp_path):
    depths = {}
    for kind in ("z", "euclidean"):
        root = write_jsonl(tmp_path / kind, lines(1, depth_type=kind))
        (sample,) = samples(BuildConfig(source="jsonl", root=str(root), focal_px=150))
        depths[kind] = {tuple(q.truth["pixel_px"]): q.truth["depth_m"] for q in sample.questions}
    ratios = [depths["z"][at] / depths["euclidean"][at] for at in depths["z"]]
    assert min(ratios) >= 1
    assert max(ratios) > 1.05


def test_an_option_against_the_lines_is_a_mistake(tmp_path):
    root = write_jsonl(tmp_path, lines(2))
    with pytest.raises(UserError, match=r"--depth-kind euclidean: the lines of .* say z"):
        opened(root, depth_kind="euclidean")


def test_an_unknown_word_is_a_mistake(tmp_path):
    with pytest.raises(UserError, match="depth_type 'radial' is none of z, z_depth, euclidean"):
        opened(write_jsonl(tmp_path, lines(1, depth_type="radial")))


@pytest.mark.parametrize("other", ["euclidean", "radial", None])
def test_a_line_of_another_kind_than_its_file_is_dropped(tmp_path, other):
    records = [jsonl_line(0), jsonl_line(1, depth_type=other), jsonl_line(2)]
    config = BuildConfig(source="jsonl", root=str(write_jsonl(tmp_path / "r", records)), focal_px=150, max_drop_rate=1)
    assert build(config, str(tmp_path / "out"), workers=1)["drops"] == {"depth_kind_differs": 1}


def test_files_of_both_kinds_are_not_built_together(tmp_path):
    write_jsonl(tmp_path, lines(1), "a_train.jsonl")
    write_jsonl(tmp_path, lines(1, depth_type="euclidean"), "b_train.jsonl")
    with pytest.raises(UserError, match="both kinds"):
        opened(tmp_path)
    assert opened(tmp_path / "b_train.jsonl").facts.depth_kind == "euclidean"


def test_a_published_file_is_known_by_its_exact_name(tmp_path):
    root = write_jsonl(tmp_path, unrecorded(1), "ibims1_val.jsonl")
    assert opened(root).facts.depth_kind == "z"
    (root / "ibims1_val.jsonl").rename(root / "my_ibims1_val.jsonl")
    with pytest.raises(UserError, match="does not say"):
        opened(root)


def test_a_bad_line_raises_only_when_its_image_is_read(tmp_path):
    source = opened(write_jsonl(tmp_path, [jsonl_line(0), "{"]))
    (scene,) = source.scenes(None)
    good, bad = source.frames(scene)
    assert good.image()
    assert good.scene == "rgb/0", "its image, which no other frame shows"
    with pytest.raises(Drop, match="bad_record"):
        bad.image()


def runs(root: Path, records: list[dict[str, object]]) -> tuple[list[str], list[tuple[str, list[float]]]]:
    """Write records with blank lines among them; return the stamps of the runs, and key and depths of each frame."""
    (root / "toy_train.jsonl").write_text(
        "".join(json.dumps(one) + "\n" + "\n" * (n % 3) for n, one in enumerate(records))
    )
    source = opened(root)
    scenes = list(source.scenes(None))
    frames = [frame for scene in scenes for frame in source.frames(scene)]
    assert len(frames) == sum(scene.num_frames for scene in scenes)
    return [scene.stamp for scene in scenes], [(f.key, f.points().depth_m.tolist()) for f in frames if f.points]


def test_each_run_of_lines_begins_where_the_one_before_ends_and_is_stamped_by_itself(tmp_path):
    records = [jsonl_line(number) for number in range(3 * 64 + 2)]
    stamps, frames = runs(tmp_path, records)
    assert frames == [(f"toy_train-{number:08d}", one["depth"]) for number, one in enumerate(records)]
    records[70] = jsonl_line(70, depth=[2.0] * 20)
    changed, _ = runs(tmp_path, records)
    assert [one == other for one, other in zip(stamps, changed, strict=True)] == [True, False, True, True]


def test_every_real_label_comes_out_as_it_was_published():
    root = needs_realdata("ibims1")
    source = opened(root)
    frames = [frame for scene in source.scenes(None) for frame in source.frames(scene)]
    records = [json.loads(line) for line in (root / "ibims1_val.jsonl").read_text().splitlines()]
    assert source.facts.depth_kind == "z"
    assert sum(len(record["depth"]) for record in records) == 3600
    for frame, record in zip(frames, records, strict=True):
        assert frame.points is not None
        np.testing.assert_array_equal(frame.points().depth_m, record["depth"])
        np.testing.assert_array_equal(frame.points().pixel_px, record["pixel_coords"])


@pytest.mark.parametrize(("said", "half_px"), [({}, 0.0), ({"half_pixel": "none"}, 0.0), ({"half_pixel": "add"}, 0.5)])
def test_intrinsics_are_taken_in_their_order_and_half_a_pixel_is_added_where_it_is_said(tmp_path, said, half_px):
    intrinsics = [151.0, 149.0, 80.25, 60.75, WIDTH, HEIGHT]
    source = opened(write_jsonl(tmp_path, [jsonl_line(0, intrinsics=intrinsics)]), **said)
    (frame,) = source.frames(next(source.scenes(None)))
    assert frame.camera == Camera(151.0, 149.0, 80.25 + half_px, 60.75 + half_px, WIDTH, HEIGHT)


@pytest.mark.parametrize("size", [(WIDTH + 0.5, HEIGHT), (WIDTH, HEIGHT + 0.5)])
def test_a_size_that_is_no_number_of_pixels_is_dropped(tmp_path, size):
    source = opened(write_jsonl(tmp_path, [jsonl_line(0, intrinsics=[150.0, 150.0, 80.0, 60.0, *size])]))
    (frame,) = source.frames(next(source.scenes(None)))
    with pytest.raises(Drop, match=r"bad_intrinsics.*whole numbers"):
        frame.image()


def test_a_place_between_integers_lies_in_the_pixel_that_holds_it(tmp_path):
    places = [[0.0, 0.49], [1.5, 2.51], [3.99, 7.0], [float(WIDTH) - 0.01, float(HEIGHT) - 0.5], [-0.2, 3.0]]
    source = opened(write_jsonl(tmp_path, [jsonl_line(0, pixel_coords=places, depth=[1.0] * 5)]))
    (frame,) = source.frames(next(source.scenes(None)))
    assert frame.points is not None
    assert frame.points().pixel_px.tolist() == [[0, 0], [1, 2], [3, 7], [WIDTH - 1, HEIGHT - 1], [-1, 3]]


def test_depths_are_labels_from_five_centimetres_to_a_kilometre(tmp_path):
    depths = [0.049, 0.05, 1000.0, 1000.1]
    root = write_jsonl(tmp_path, [jsonl_line(0, pixel_coords=[[5 + 9 * i, 60] for i in range(4)], depth=depths)])
    (made,) = samples(BuildConfig(source="jsonl", root=str(root), focal_px=150, tasks={"depth": {}}))
    assert sorted(question.truth["depth_m"] for question in made.questions) == [0.05, 1000.0]


def test_a_file_that_is_no_json_says_so_before_it_asks_for_the_kind_of_depth(tmp_path):
    (tmp_path / "mine.jsonl").write_text("{'image': 'a.jpg'}\n")
    with pytest.raises(UserError, match=r"mine.jsonl: line 1: .*Invalid JSON"):
        JsonlSource(str(tmp_path), JsonlSource.Options(), 0)
