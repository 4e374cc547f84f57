"""Mixtures: schemes, groups, inheritance, selections, shares that change over a run; mistakes in one line."""

from __future__ import annotations

import pickle
import shutil
from collections import Counter
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm3data.build import BuildConfig, build
from vlm3data.mixture import Mixture
from vlm3data.schedule import BLOCK, Course, Leaf, Schedule, Stretch
from vlm3data.stream import open_stream
from vlm3data.types import UserError


def planned(sizes: dict[str, int], **spec) -> Mixture:
    entries = {name: {"size": size} for name, size in sizes.items()}
    for name, entry in spec.pop("entries", {}).items():
        entries[name] |= entry
    return Mixture.check({"datasets": entries, **spec}, "test")


def shares(mixture: Mixture) -> dict[str, float]:
    return {part.name: share for part, share in zip(mixture.parts, mixture.shares(), strict=True)}


SIZES = {"small": 100, "middle": 400, "large": 10_000}


@pytest.mark.parametrize(
    ("weighting", "expected"),
    [
        ({"scheme": "uniform"}, [1, 1, 1]),
        ({"scheme": "size"}, [100, 400, 10_000]),
        ({"scheme": "temperature", "temperature": 2}, [10, 20, 100]),
        ({"scheme": "temperature", "temperature": 1, "cap": 400}, [100, 400, 400]),
        ({"scheme": "temperature", "temperature": 2, "scale": 4, "cap": 1600}, [20, 40, 40]),
        ({"scheme": "unimax", "epochs": 2}, [200, 800, 2000]),
        ({"scheme": "unimax", "epochs": 100}, [1000, 1000, 1000]),
    ],
)
def test_a_scheme_gives_the_shares_of_its_definition(weighting, expected):
    mixture = planned(SIZES, weighting=weighting, samples=3000)
    assert list(shares(mixture).values()) == pytest.approx(np.array(expected) / sum(expected))


def test_repeat_counts_are_what_is_seen():
    mixture = planned(
        SIZES,
        weighting={"scheme": "repeat"},
        entries={"small": {"repeat": 5}, "middle": {"repeat": 0.5}, "large": {"repeat": 1}},
    )
    rows = mixture.plan(100 * 5 + 200 + 10_000)
    assert [row["epochs"] for row in rows] == pytest.approx([5, 0.5, 1])


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=12), st.floats(0.5, 8), st.integers(1, 10**7))
@settings(max_examples=100, deadline=None)
def test_unimax_repeats_nothing_more_often_than_it_may(sizes, epochs, samples):
    mixture = planned(
        {f"d{i}": size for i, size in enumerate(sizes)},
        weighting={"scheme": "unimax", "epochs": epochs},
        samples=samples,
    )
    rows = mixture.plan()
    if samples <= epochs * sum(sizes):
        assert all(row["epochs"] <= epochs * (1 + 1e-9) for row in rows)
    drawn = sorted((row["size"], row["samples"]) for row in rows)
    assert all(a[1] <= b[1] * (1 + 1e-9) for a, b in pairwise(drawn)), "larger is not seen less"


def test_weights_of_groups_multiply_and_may_have_a_scheme_of_their_own():
    spec = {
        "datasets": {
            "street": {"size": 10, "weight": 1},
            "indoor": {
                "weight": 3,
                "weighting": {"scheme": "size"},
                "datasets": {"rooms": {"size": 30}, "halls": {"size": 10}},
            },
            "wild": {"weight": 4, "datasets": {"a": {"size": 5, "weight": 1}, "b": {"size": 5, "weight": 3}}},
        }
    }
    assert shares(Mixture.check(spec, "test")) == pytest.approx(
        {"street": 1 / 8, "indoor/rooms": 9 / 32, "indoor/halls": 3 / 32, "wild/a": 1 / 8, "wild/b": 3 / 8}
    )


@pytest.mark.parametrize("scheme", [{"scheme": "unimax"}, {"scheme": "explicit"}, {"scheme": "size"}])
def test_a_group_without_a_share_needs_none_inside(scheme):
    inside = {"a": {"size": 5, "weight": 0}, "deep": {"weight": 0, "datasets": {"b": {"size": 5, "weight": 0}}}}
    spec: dict = {
        "samples": 100,
        "datasets": {
            "on": {"size": 50, "weight": 1},
            "off": {"weight": 0, "weighting": scheme, "datasets": inside},
        },
    }
    assert shares(Mixture.check(spec, "test")) == {"on": 1, "off/a": 0, "off/deep/b": 0}
    spec["datasets"]["off"]["weight"] = 1
    if scheme["scheme"] != "size":
        with pytest.raises(UserError, match=r"datasets\.off\.weighting: the weights of a mixture must not all be zero"):
            Mixture.check(spec, "test").shares()
    spec["datasets"]["off"] |= {"weight": 0, "weighting": {"scheme": "none"}}
    with pytest.raises(UserError, match="unknown weighting"):
        Mixture.check(spec, "test").shares()


def test_unimax_leaves_out_a_group_without_weight():
    spec = {
        "samples": 100,
        "weighting": {"scheme": "unimax", "epochs": 2},
        "datasets": {
            "on": {"size": 50},
            "off": {"weight": 0, "datasets": {"a": {"size": 5}, "b": {"size": 9}}},
        },
    }
    assert shares(Mixture.check(spec, "test")) == {"on": 1, "off/a": 0, "off/b": 0}


def test_imported_weights_come_from_a_file(tmp_path):
    path = tmp_path / "weights.yaml"
    path.write_text(yaml.safe_dump({"small": 3, "middle": 0, "large": 1}))
    mixture = planned(SIZES, weighting={"scheme": "imported", "file": str(path)})
    assert list(shares(mixture).values()) == [0.75, 0, 0.25]
    path.write_text(yaml.safe_dump({"small": 3, "middle": 0}))
    with pytest.raises(UserError, match=r"weights\.yaml: large: has no weight there"):
        mixture.shares()


# --- what a file extends


def test_a_file_changes_what_it_extends_key_by_key(tmp_path):
    (tmp_path / "base.yaml").write_text(
        "seed: 3\nsamples: 1000\n"
        "datasets: {a: {size: 5, weight: 1, pixels: 4}, b: {size: 5, weight: 1}, c: {size: 5, weight: 9}}\n"
    )
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "study.yaml").write_text(
        "extends: ../base.yaml\ndatasets: {a: {weight: 3}, c: null, d: {size: 7, weight: 4}}\n"
    )
    mixture = Mixture.load(tmp_path / "sub" / "study.yaml")
    assert shares(mixture) == pytest.approx({"a": 3 / 8, "b": 1 / 8, "d": 1 / 2})
    assert mixture.parts[0].entry.pixels == 4
    assert (mixture.seed, mixture.samples) == (3, 1000)


def test_another_scheme_does_not_inherit_the_options_of_the_one_before(tmp_path):
    (tmp_path / "base.yaml").write_text("weighting: {scheme: temperature, temperature: 3}\ndatasets: {a: {size: 5}}\n")
    (tmp_path / "top.yaml").write_text("extends: base.yaml\nweighting: {scheme: uniform}\n")
    assert Mixture.load(tmp_path / "top.yaml").shares() == [1.0]


def test_files_that_extend_each_other_are_named(tmp_path):
    (tmp_path / "a.yaml").write_text("extends: b.yaml\n")
    (tmp_path / "b.yaml").write_text("extends: a.yaml\n")
    with pytest.raises(UserError, match=r"extends: goes in a circle: .*a\.yaml -> .*b\.yaml -> .*a\.yaml\Z"):
        Mixture.load(tmp_path / "a.yaml")


def test_a_mistake_beneath_names_the_file_that_extends_it(tmp_path):
    (tmp_path / "top.yaml").write_text("extends: gone.yaml\n")
    with pytest.raises(UserError, match=r"top\.yaml: extends: .*gone\.yaml: there is no such file"):
        Mixture.load(tmp_path / "top.yaml")


# --- shares that change over the run


def test_stages_have_their_shares_and_ramps_go_evenly():
    spec = {
        "samples": 64_000,
        "datasets": {"a": {"size": 50, "weight": 1}, "b": {"size": 50, "weight": 1}},
        "schedule": [{"until": 0.25, "weights": {"a": 3}}, {"until": 0.75, "weights": {"a": 0}, "ramp": True}],
    }
    mixture = Mixture.check(spec, "test")
    drawn = [mixture.course.drawn(n)[0] for n in (0, 16_000, 32_000, 48_000, 64_000, 10**6)]
    # 3/4 of 16,000; then from 3/4 down to 0 over 32,000, half of it worth (3/4 + 3/8) / 2 a position; then none.
    assert drawn == pytest.approx([0, 12_000, 12_000 + 9_000, 24_000, 24_000, 24_000])


@st.composite
def courses(draw) -> Course:
    count = draw(st.integers(1, 8))
    stretches, begin = [], 0
    for _ in range(draw(st.integers(1, 4))):
        ends = []
        for _ in range(2):
            raw = np.array(draw(st.lists(st.floats(0, 1), min_size=count, max_size=count))) + 1e-3
            ends.append(tuple((raw / raw.sum()).tolist()))
        length = draw(st.integers(1, 5000))
        stretches.append(Stretch(begin, ends[0], ends[1], length))
        begin += length
    return Course((*stretches, Stretch(begin, stretches[-1].last, stretches[-1].last, 1)))


@given(courses(), st.integers(0, 400))
@settings(max_examples=200, deadline=None)
def test_counts_follow_a_changing_course_within_one(course, block):
    order = Schedule(5, course, [Leaf(f"d{i}", "f", (7,)) for i in range(len(course))])
    counts = order.counts(block * BLOCK)
    assert counts.sum() == block * BLOCK
    assert np.abs(counts - course.drawn(block * BLOCK)).max() < 1
    assert (order.counts((block + 1) * BLOCK) >= counts).all()


# --- what is used of a dataset


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("mixture") / "shards"
    options = {"scenes": 12, "width_px": 96, "height_px": 64, "domains": ["room", "street"]}
    build(
        BuildConfig(
            source="synthetic", options=options, focal_px=120, tasks={"depth": {}, "objects": {}}, shard_size=5
        ),
        str(out),
        workers=1,
    )
    return out


def keys(values: dict, count: int) -> list[str]:
    return [sample.key for _, sample in islice(open_stream(Mixture.check({"datasets": {"d": values}}, "test")), count)]


def test_where_selects_by_the_index_and_every_epoch_visits_the_selected_once(shards):
    everything = keys({"shards": str(shards), "weight": 1}, 24)
    (whole,) = Mixture.check({"datasets": {"d": {"shards": str(shards), "weight": 1}}}, "test").parts
    assert whole.selected is None, "no list of all samples' numbers where all are used"
    (planned,) = Mixture.check({"datasets": {"d": {"shards": str(shards), "weight": 1}}}, "test").plan(3 * whole.size)
    assert whole.dataset is not None
    assert planned["bytes"] == pytest.approx(3 * whole.dataset.about["bytes"])
    rooms = {key for key in everything if key.startswith("room")}
    assert 0 < len(rooms) < len(set(everything))
    entry = {"shards": str(shards), "weight": 1, "where": "scene LIKE 'room%'"}
    drawn = keys(entry, 2 * len(rooms))
    assert set(drawn[: len(rooms)]) == set(drawn[len(rooms) :]) == rooms


def test_a_limit_is_a_fixed_subset_that_grows(shards):
    few, more = (set(keys({"shards": str(shards), "weight": 1, "limit": n}, n)) for n in (5, 9))
    assert len(few) == 5
    assert len(more) == 9
    assert few < more


def test_tasks_have_their_shares_and_only_their_questions(shards):
    spec = {"datasets": {"d": {"shards": str(shards), "weight": 1, "tasks": {"depth": 3, "objects": 1}, "pixels": 4}}}
    mixture = Mixture.check(spec, "test")
    assert shares(mixture) == {"d#depth": 0.75, "d#objects": 0.25}
    asked: Counter[str] = Counter()
    for _, sample in islice(open_stream(mixture), 2 * BLOCK):
        (task,) = {question.task for question in sample.questions}
        assert 1 <= len(sample.questions) <= 4
        asked[task] += 1
    assert asked == {"depth": 96, "objects": 32}


def test_token_shares_are_shares_of_the_answers(shards):
    entries = {
        "depth": {"shards": str(shards), "weight": 1, "where": "scene LIKE 'room%'", "pixels": 10},
        "short": {"shards": str(shards), "weight": 1, "where": "scene LIKE 'street%'", "pixels": 1},
    }
    mixture = Mixture.check({"datasets": entries, "weighting": {"scheme": "tokens"}}, "test")
    rows = mixture.plan(1000)
    assert rows[0]["answer_chars"] == pytest.approx(rows[1]["answer_chars"])
    assert rows[0]["samples"] * 5 < rows[1]["samples"]


def test_token_shares_of_groups_are_those_of_what_is_drawn_in_them(shards):
    """Long and short answers, drawn in other shares than there are samples of them."""

    def entry(where: str, **more: Any) -> dict[str, Any]:
        return {"shards": str(shards), "where": where, **more}

    group = {
        "weight": 1,
        "weighting": {"scheme": "explicit"},
        "datasets": {
            "long": entry("scene LIKE 'room%' AND key LIKE '%0'", weight=9, pixels=10),
            "short": entry("scene LIKE 'room%' AND key NOT LIKE '%0'", weight=1, pixels=1),
        },
    }
    tasks = entry("scene LIKE 'street%'", weight=1, pixels=1, tasks={"depth": 1, "objects": 5})
    entries = {"group": group, "tasks": tasks, "none": {"weight": 0, "datasets": {"later": {"size": 5, "weight": 0}}}}
    mixture = Mixture.check({"datasets": entries, "weighting": {"scheme": "tokens"}, "samples": 1000}, "test")
    rows = {row["dataset"]: row["answer_chars"] or 0 for row in mixture.plan()}
    drawn = {name: sum(chars for path, chars in rows.items() if path.startswith(name)) for name in ("group", "tasks")}
    assert drawn["group"] == pytest.approx(drawn["tasks"])


def test_token_shares_need_the_shards_of_all_of_a_group(shards):
    inside = {"built": {"shards": str(shards), "weight": 1}, "planned": {"size": 5, "weight": 1}}
    entries = {"group": {"weight": 1, "weighting": {"scheme": "explicit"}, "datasets": inside}}
    mixture = Mixture.check({"datasets": entries, "weighting": {"scheme": "tokens"}, "samples": 9}, "test")
    with pytest.raises(UserError, match="needs the shards of: group"):
        mixture.shares()


def test_the_same_data_twice_is_refused(shards):
    entry = {"shards": str(shards), "weight": 1}
    with pytest.raises(UserError, match="is the same data as a"):
        Mixture.check({"datasets": {"a": entry, "b": entry}}, "test").shares()
    split = {"a": entry | {"split": "train"}, "b": entry | {"where": "split = 'train'"}}
    assert len(Mixture.check({"datasets": split}, "test").shares()) == 2


@pytest.mark.parametrize("ramp", [False, True])
def test_a_stage_too_short_for_any_position_stops_nothing(ramp):
    stages = [{"until": 0.41, "weights": {"a": 1, "b": 0}}, {"until": 0.44, "weights": {"a": 0, "b": 1}, "ramp": ramp},
              {"until": 1.0, "weights": {"a": 1, "b": 2}}]  # fmt: skip
    datasets = {name: {"size": 50, "weight": 1} for name in ("a", "b")}
    course = Mixture.check({"samples": 10, "datasets": datasets, "schedule": stages}, "test").course
    for n, expected in ((4, (4, 0)), (7, (5, 2)), (10, (6, 4))):
        np.testing.assert_allclose(course.drawn(n), expected)


def test_a_gigabyte_of_the_cache_is_a_billion_bytes(tmp_path):
    spec = {"datasets": {"a": {"size": 9, "weight": 1}}, "cache": {"directory": str(tmp_path), "limit_gb": 2.5}}
    cache = Mixture.check(spec, "test")._cache
    assert cache is not None
    assert cache.limit_bytes == 2_500_000_000


def test_a_dataset_of_weight_0_needs_no_shards(shards):
    spec = {"datasets": {"a": {"shards": str(shards), "weight": 1}, "later": {"size": 9, "weight": 0}}}
    assert len(list(islice(open_stream(Mixture.check(spec, "test")), 30))) == 30


def test_a_mixture_travels_to_other_processes(shards):
    spec = {"datasets": {"d": {"shards": str(shards), "weight": 1, "limit": 7}}}
    mixture = Mixture.check(spec, "test")
    there = pickle.loads(pickle.dumps(mixture))  # noqa: S301
    assert [s.key for _, s in islice(open_stream(there), 20)] == [s.key for _, s in islice(open_stream(mixture), 20)]


SIZED, WEIGHED = {"size": 1}, {"size": 1, "weight": 1}
MISTAKES: list[tuple[dict, str]] = [
    ({"datasets": {"g": {"datasets": {}}}}, "datasets.g: a group needs at least one dataset"),
    ({"datasets": {"g": {"datasets": {"a": SIZED}, "pixels": 3}}}, "datasets.g: a group has no `pixels`"),
    ({"datasets": {"a": SIZED | {"weighting": {}}}}, "datasets.a: `weighting` is for groups"),
    ({"datasets": {"g": {"weight": 1, "datasets": {"a": SIZED}}}}, "datasets.g.weighting: .* needs a weight for: a"),
]
MISTAKES += [
    ({"datasets": {"a": WEIGHED}, "weighting": weighting}, message)
    for weighting, message in [
        ({"scheme": "temperature", "T": 2}, "weighting: options: T: unknown key; known: temperature, cap, scale"),
        ({"scheme": "temperature", "temperature": 0.5}, "temperature: .*greater than or equal to 1"),
        ({"scheme": "unimax"}, "'unimax' needs to know how long the run is"),
        ({"scheme": "repeat"}, "'repeat' needs a repeat for: a"),
        ({"scheme": "tokens"}, "'tokens' needs the shards of: a"),
        ({"scheme": "imported", "file": "nowhere.yaml"}, "weighting: nowhere.yaml: there is no such file"),
    ]
]
MISTAKES += [
    ({"datasets": {name: WEIGHED, "a": {"weight": 3, "datasets": {"b": WEIGHED}}}}, "must not be empty or hold / or #")
    for name in ("a/b", "a#depth", "")
]
MISTAKES += [
    ({"datasets": {"a": WEIGHED}, "samples": samples, "schedule": stages}, message)
    for samples, stages, message in [
        (None, [{"until": 1, "weights": {"a": 2}}], "`schedule` needs `samples`"),
        (9, [{"until": 1, "weights": {"x": 2}}], "unknown dataset 'x'; known: a"),
        (9, [{"until": 0.5, "weights": {}}] * 2, "each stage must end after the one before"),
        (9, [{"until": 1, "weights": {"a": 0}}], "must not all be zero, in the stage of `schedule` until 1"),
        (9, [{"until": 1, "weights": {"a": float("nan")}}], r"schedule.0.weights.a: .*finite number"),
    ]
]


@pytest.mark.parametrize(("spec", "message"), MISTAKES)
def test_a_mistake_is_one_line_that_names_the_key(spec, message):
    with pytest.raises(UserError, match=message) as caught:
        Mixture.check(spec, "test").schedule()
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("test: ")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"where": "scene ="}, "datasets.d: where 'scene ='"),
        ({"where": "colour = 'red'"}, "datasets.d: where .*the index has the columns key, shard"),
        ({"where": "scene = 'nowhere'"}, "datasets.d: there are no samples in .* with where scene = 'nowhere'"),
        ({"split": "val"}, "datasets.d: there are no samples in .* with split val"),
        ({"tasks": {"pose": 1}}, "datasets.d: there are no samples in .* with task pose"),
        ({"tasks": {"depth": 0}}, "datasets.d.tasks.depth: .*greater than 0"),
    ],
)
def test_a_selection_that_cannot_be_is_one_line(shards, entry, message):
    with pytest.raises(UserError, match=message) as caught:
        Mixture.check({"datasets": {"d": {"shards": str(shards), "weight": 1, **entry}}}, "test").schedule()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        (("dataset.json", "index.arrow", "index.parquet"), r"test: datasets\.d: the dataset at .* is half built"),
        (("*",), r"test: datasets\.d: no dataset at .*: there is no dataset\.json in it"),
        (("index.arrow",), r"index\.arrow: there is no such file; run its `vlm3data build` again"),
        (("index.parquet",), r"index\.parquet: there is no such file; run its `vlm3data build` again"),
        (("*.tar",), r"\.tar: there is no such file"),
    ],
)
def test_shards_that_are_not_all_there_are_one_line(shards, tmp_path, gone, message):
    shutil.copytree(shards, tmp_path / "d")
    for path in [path for pattern in gone for path in (tmp_path / "d").glob(pattern)]:
        path.unlink()
    entry = {"shards": str(tmp_path / "d"), "weight": 1, "where": "questions > 0"}
    with pytest.raises(UserError, match=message) as caught:
        next(open_stream(Mixture.check({"datasets": {"d": entry}}, "test")))
    assert "\n" not in str(caught.value)


def test_a_limit_holds_for_the_dataset_and_its_tasks_share_what_it_leaves(shards):
    entry = {"shards": str(shards), "weight": 1, "limit": 8, "tasks": {"depth": 1, "objects": 1}}
    mixture = Mixture.check({"datasets": {"d": entry}}, "test")
    drawn = {sample.key for _, sample in islice(open_stream(mixture), 4 * BLOCK)}
    assert len(drawn) == 8
    assert mixture.parts[0].size == 8
    assert mixture.parts[1].size <= 8
