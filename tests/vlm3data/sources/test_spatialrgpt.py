"""SpatialRGPT-Bench's JSON: regions become text as published, answers become truth, damage becomes a counted drop."""

from __future__ import annotations

import json
import random
from collections import Counter

import pytest

from tests.conftest import HEIGHT, WIDTH, photo
from tests.tiny_spatialrgpt import BENCH, FILE, LEFT, RIGHT, bench_record, write_bench
from vlm3data.build import BuildConfig, build, samples
from vlm3data.shards.verify import verify
from vlm3data.sources.spatialrgpt import SpatialRgptSource
from vlm3data.tasks.objects import ObjectsTask
from vlm3data.types import UserError

TASK = ObjectsTask(ObjectsTask.Options())
TRUTHS = (
    {"yes": True}, {"yes": False}, {"yes": False}, {"chosen": 1}, {"chosen": 0},
    {"length_m": 2.5}, {"length_m": 31.5 * 0.0254}, {"length_m": 4 * 0.3048}, {"hour": 10},
)  # fmt: skip
"""What the answers of `BENCH` say, by hand."""


def config(root, **changes) -> BuildConfig:
    given = {"calibrator": "fov", "calibrator_options": {"hfov_deg": 60.0}} | changes
    return BuildConfig(source="spatialrgpt", root=str(root), tasks={"objects": {}}, **given)


def opened(root, **options) -> SpatialRgptSource:
    return SpatialRgptSource(str(root), SpatialRgptSource.Options(**options), 0)


def normalised(box: list[float]) -> str:
    """The published rule: round(original / original size · 1000), half to even."""
    numbers = [round(value / size * 1000) for value, size in zip(box, (WIDTH, HEIGHT) * 2, strict=True)]
    return f"bounding box region ({', '.join(map(str, numbers))})"


def test_without_alignment_questions_are_the_published_ones(tmp_path):
    built = list(samples(config(write_bench(tmp_path), align="none")))
    assert len(built) == len(BENCH)
    left, right = normalised(LEFT), normalised(RIGHT)
    texts = [(sample.questions[0].question, sample.questions[0].answer) for sample in built]
    assert texts[0] == (f"Would you say {left} is left of {right}?", f"Yes, {left} is left of {right}.")
    assert texts[1] == (f"Is {left} to the right of {right}?", f"In fact, {left} is to the left.")
    assert texts[2] == (f"Is {left} behind {right}?", f"No, {left} is in front of {right}.")
    assert texts[3] == (f"Which one is taller, {left} or {right}?", f"{right} is taller.")
    assert texts[7] == (f"How wide is {left}?", f"{left} has a width of 4.0 feet.")


def test_the_published_example_comes_out_exactly(tmp_path):
    """Boxes in a 1024 x 768 image: 432 / 768 · 1000 = 562.5 -> 562, and an inclusive 767 -> 999."""
    box = [100, 432, 1023, 767]
    info = {"file_path": "images/large.jpg", "height": 768, "width": 1024}
    record = bench_record(7, image_info=info, bbox=[box])
    root = write_bench(tmp_path, [record])
    (root / "images" / "large.jpg").write_bytes(photo(9, 1024, 768))
    intrinsics = tmp_path / "k.json"
    entry = {"fx": 902.4662475585938, "fy": 901.3929443359375, "cx": 511.388, "cy": 383.7367}
    intrinsics.write_text(json.dumps({"images/large.jpg": entry}))
    (sample,) = samples(config(root, align="none", options={"intrinsics": str(intrinsics)}))
    assert sample.questions[0].truth["regions"][0]["box"] == [98, 562, 999, 999]
    camera = sample.record["views"][0]["camera"]
    assert (camera["width_px"], camera["height_px"]) == (1134, 851)
    assert camera["fy_px"] == pytest.approx(998.8106998731977)


@pytest.mark.parametrize("align", ["none", "crop", "pad"])
def test_truth_is_read_from_the_answers_and_an_oracle_is_right(tmp_path, align):
    built = list(samples(config(write_bench(tmp_path), align=align)))
    for sample, (category, _, _), truth in zip(built, BENCH, TRUTHS, strict=True):
        (question,) = sample.questions
        assert question.truth["category"] == category
        assert {name: question.truth[name] for name in truth} == pytest.approx(truth)
        scores = TASK.score(TASK.parse(question.answer, question.truth), question.truth)
        assert scores["success"] == 1
        assert TASK.problem_with(question, sample.record) is None
        assert TASK.score(TASK.parse("I cannot tell.", question.truth), question.truth)["success"] == 0


def test_a_build_of_it_verifies(tmp_path):
    build(config(write_bench(tmp_path / "root")), str(tmp_path / "out"), workers=1)
    assert verify(str(tmp_path / "out")).problems == []


def test_intrinsics_come_from_a_file_by_path_or_from_a_calibrator(tmp_path):
    root = write_bench(tmp_path)
    lines = tmp_path / "k.jsonl"
    lines.write_text('{"file_path": "images/0.jpg", "fx": 150, "fy": 151, "cx": 80.5, "cy": 60}\n\n')
    first, second, *_ = samples(config(root, options={"intrinsics": str(lines)}, focal_px=120.0))
    (known,), (estimated,) = first.record["views"], second.record["views"]
    assert [known["source_camera"][name] for name in ("fx_px", "fy_px", "cx_px")] == [150, 151, 80.5]
    assert "calibration" not in known
    assert estimated["source_camera"]["fx_px"] == pytest.approx(WIDTH / 2 / 0.57735026919)
    assert estimated["calibration"]["method"] == "fov"
    without = build(
        config(root, options={"intrinsics": str(lines)}, calibrator=None, focal_px=120.0, max_drop_rate=1.0),
        str(tmp_path / "out"),
        workers=1,
    )
    assert without["drops"] == {"no_intrinsics": 6}
    stamps = [next(iter(opened(root, intrinsics=file).scenes(None))).stamp for file in ("", str(lines))]
    assert stamps[0] != stamps[1]


def test_a_changed_record_changes_the_stamp_of_its_own_run(tmp_path):
    def stamps(changed: int | None) -> list[str]:
        records = [
            bench_record(number, **({"bbox": [LEFT, LEFT]} if number == changed else {})) for number in range(70)
        ]
        return [scene.stamp for scene in opened(write_bench(tmp_path, records)).scenes(None)]

    sound = stamps(None)
    for changed, expected in ((3, [False, True]), (68, [True, False])):
        assert [one == other for one, other in zip(sound, stamps(changed), strict=True)] == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"intrinsics": "nowhere.json"}, "nowhere.json: cannot be read"),
        ({"intrinsics": "bad.json"}, "bad.json: not valid JSON"),
        ({"intrinsics": "list.json"}, "list.json: an entry without a file_path"),
        ({"intrinsics": "half.json"}, "half.json: images/0.jpg: cx: Field required"),
    ],
)
def test_mistakes_in_options_are_one_line(tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "list.json").write_text("[3]")
    (tmp_path / "half.json").write_text('{"images/0.jpg": {"fx": 1, "fy": 1, "cy": 2}}')
    root = write_bench(tmp_path / "root")
    with pytest.raises(UserError, match=message) as caught:
        list(opened(root, **options).scenes(None))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not valid JSON"), ("{}", "a list of records"), ("[]", "a list of records"), ("", "not valid JSON")],
)
def test_a_file_that_is_none_is_a_users_mistake(tmp_path, text, message):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(UserError, match=message):
        list(opened(tmp_path).scenes(None))
    with pytest.raises(UserError, match="no such file"):
        opened(tmp_path / "nowhere")
    (tmp_path / FILE).unlink()
    with pytest.raises(UserError, match=f"there is no {FILE}"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"bbox": [LEFT]}, "bad_record"),
        ({"bbox": [LEFT, RIGHT, RIGHT]}, "bad_record"),
        ({"bbox": [LEFT, [50, 50, 40, 60]]}, "bad_record"),
        ({"bbox": [LEFT, [50, 50, 50, 60]]}, "bad_record"),
        ({"bbox": [LEFT, [50, 60, 80, 60]]}, "bad_record"),
        ({"bbox": []}, "bad_record"),
        ({"conversations": []}, "bad_record"),
        ({"image_info": {"file_path": "images/0.jpg", "height": 0, "width": 5}}, "bad_record"),
        ({"image_info": {"file_path": "images/none.jpg", "height": HEIGHT, "width": WIDTH}}, "image_missing"),
        ({"image_info": {"file_path": "../0.jpg", "height": HEIGHT, "width": WIDTH}}, "path_leaves_root"),
        ({"image_info": {"file_path": "images/0.jpg", "height": 7, "width": WIDTH}}, "image_size_mismatch"),
        ({"qa_info": {"category": "colour"}}, "unknown_category"),
        ({"bbox": [LEFT, LEFT]}, "regions_alike"),
        ({"answer": "Who knows."}, "truth_unreadable"),
        ({"answer": "Yes, Region [2] is."}, "wrong_number_of_regions"),
        ({"qa_info": {"category": "width_data"}}, "wrong_number_of_regions"),
        ({"answer": "No, it is -2 meters.", "category": "distance_data"}, "truth_unreadable"),
        ({"bbox": [LEFT, [70.0, 40.0, 70.02, 111.0]]}, "region_too_small"),
        ({"bbox": [LEFT, [155, 115, 160, 120]]}, "region_out_of_view"),
    ],
)
def test_a_bad_record_costs_itself_and_is_counted(tmp_path, changes, reason):
    record = bench_record(0)
    if "answer" in changes:
        record["conversations"][1]["value"] = changes["answer"]
        record["qa_info"]["category"] = changes.get("category", "left_predicate")
    else:
        record |= changes
    root = write_bench(tmp_path / "root", [bench_record(1), record, bench_record(2)])
    made = build(config(root, max_drop_rate=1.0, focal_px=120.0), str(tmp_path / "out"), workers=1)
    assert made["drops"] | made["cuts"] == {reason: 1}
    assert made["samples"] == 2


def test_fuzzed_records_never_crash(tmp_path):
    """Any value replaced by any other, anywhere: a drop with a reason, or a sample whose answer fits its truth."""
    rng = random.Random(0)
    junk = [None, 0, -1, 1e308, "", "x", [], {}, [[]], True, "<mask>", "Region [7]", {"from": "human"}, "{0} {x}"]

    def damaged(value):
        if isinstance(value, dict) and value and rng.random() < 0.9:
            key = rng.choice(list(value))
            return {name: item for name, item in value.items() if name != key} | (
                {key: damaged(value[key])} if rng.random() < 0.9 else {}
            )
        if isinstance(value, list) and value and rng.random() < 0.9:
            index = rng.randrange(len(value))
            return [damaged(item) if number == index else item for number, item in enumerate(value)]
        return rng.choice(junk)

    records = [damaged(bench_record(number)) for number in range(250)]
    root = write_bench(tmp_path / "root", [*records, bench_record(0)])
    (tmp_path / "out").mkdir()
    made = build(config(root, max_drop_rate=1.0, focal_px=120.0), str(tmp_path / "out"), workers=1)
    reasons = Counter(made["drops"])
    assert made["samples"] + sum(reasons.values()) + sum(made["cuts"].values()) == 251
    assert reasons["bad_record"] > 80
    assert len(reasons) >= 4
    assert verify(str(tmp_path / "out")).problems == []
