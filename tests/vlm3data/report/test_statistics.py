"""Statistics: what is counted, against the numbers it was made of."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tiny_shards import (
    box_question,
    depth_question,
    every_kind,
    match_question,
    pose_question,
    sample,
    write_dataset,
)
from vlm3data.report.histogram import LEAST_SHOWN, Histogram, log_edges, shown_together
from vlm3data.report.plots import write_plots
from vlm3data.report.statistics import PLANE_XY, collect
from vlm3data.report.target import Target
from vlm3data.shards import ShardTally
from vlm3data.stream import open_stream
from vlm3data.types import UserError


def collected(target: str, limit: int | None = None) -> dict:
    return collect(Target.open(target), limit, lambda done, total: None)


def values_of(statistics: dict, name: str, member: int = 0) -> dict:
    (found,) = [histogram for histogram in statistics["histograms"] if histogram["name"] == name]
    return found["series"][member]


@given(st.lists(st.floats(0.02, 900), min_size=1, max_size=300), st.sampled_from([0.05, 0.5, 0.95]))
def test_a_quantile_is_right_to_within_a_bin(values, share):
    histogram = Histogram(log_edges(0.01, 1000, 60))
    for value in values:
        histogram.add([value, np.nan])
    assert histogram.total == len(values)
    assert (histogram.low, histogram.high) == (min(values), max(values))
    near = [np.quantile(values, share, method=method) for method in ("lower", "higher", "inverted_cdf")]
    assert min(near) / 1.05 <= histogram.quantile(share) <= max(near) * 1.05


def test_what_is_beyond_the_bins_is_counted_in_the_last_one():
    histogram = Histogram(np.linspace(0, 10, 11))
    histogram.add([-5, 3, 99, np.nan])
    assert histogram.counts.tolist() == [1, 0, 0, 1, 0, 0, 0, 0, 0, 1]
    assert histogram.summary()["max"] == 99
    assert Histogram(np.linspace(0, 1, 3)).summary() == {"count": 0, "min": None, "max": None} | dict.fromkeys(
        ("p5", "p25", "p50", "p75", "p95")
    )


@given(st.lists(st.lists(st.floats(0, 100), max_size=40), min_size=1, max_size=3), st.integers(3, 60))
def test_what_is_shown_together_loses_nothing(groups, bins):
    histograms = [Histogram(np.linspace(0, 100, 201)) for _ in groups]
    for histogram, values in zip(histograms, groups, strict=True):
        histogram.add(values)
    edges, counts = shown_together(histograms, bins)
    assert [sum(found) for found in counts] == [len(values) for values in groups]
    if any(groups):
        assert len(edges) - 1 == len(counts[0]) <= max(bins, LEAST_SHOWN)
        assert edges == sorted(set(edges))
        flat = [value for values in groups for value in values]
        assert edges[0] <= min(flat)
        assert edges[-1] >= max(flat)


def test_every_number_of_every_task_is_counted_once(tmp_path):
    tally = ShardTally()
    tally.drops["image_missing"] = 3
    tally.label_cuts["cropped"] = 7
    tally.labels["kept"] = 11
    samples = every_kind()
    found = collected(write_dataset(tmp_path / "toy", [samples], [tally]))
    (dataset,) = found["datasets"]
    assert (dataset["shards"], dataset["bytes"]) == (1, (tmp_path / "toy" / "shard-000000.tar").stat().st_size)
    assert dataset["name"] == "toy"
    assert dataset["asked"] == {"correspondence": 3, "depth": 2, "objects": 1, "pose": 1}
    assert dataset["tasks"] == {"correspondence": 1, "depth": 1, "objects": 1, "pose": 1}
    assert (dataset["samples"], dataset["scenes"], dataset["questions"], dataset["read"]) == (2, 1, 7, 2)
    assert dataset["left_out"]["samples dropped"] == {"image_missing": 3}
    assert dataset["left_out"]["labels cut"] == {"cropped": 7}
    assert dataset["kept"] == {"samples": 2, "labels": 11}
    assert (values_of(found, "depth_m")["min"], values_of(found, "depth_m")["max"]) == (2.0, 8.0)
    assert values_of(found, "rotation_angle_deg")["min"] == 10.0
    assert values_of(found, "distance_m")["count"] == 1
    assert values_of(found, "bearing_deg")["max"] == 90.0  # to the right
    assert values_of(found, "object_range_m")["max"] == 4.0
    assert (values_of(found, "focal_px")["count"], values_of(found, "focal_px")["max"]) == (3, 150.0)  # of every view
    assert (values_of(found, "image_mpx")["count"], values_of(found, "image_mpx")["max"]) == (3, 160 * 120 / 1e6)
    answers = [len(question.answer) for sample in samples for question in sample.questions]
    told = values_of(found, "answer_chars")
    assert (told["count"], told["min"], told["max"]) == (7, min(answers), max(answers))
    assert (values_of(found, "source_focal_px")["count"], values_of(found, "source_focal_px")["max"]) == (2, 150.0)


def test_a_pixel_is_counted_where_it_lies(tmp_path):
    url = write_dataset(tmp_path / "toy", [[sample(0, [depth_question((0, 0), 1.0), depth_question((159, 60), 2.0)])]])
    plane = collected(url)["image_plane"]
    counts = np.reshape(plane["counts"][0], (plane["rows"], plane["columns"]))
    assert np.argwhere(counts).tolist() == [[0, 0], [PLANE_XY[1] // 2, PLANE_XY[0] - 1]]


def test_the_hull_of_the_matches_bounds_the_overlap_in_the_view_with_less(tmp_path):
    corners = [(0, 0), (80, 0), (80, 60), (0, 60)]
    found = [match_question(xy, (xy[0] / 2, xy[1] / 2)) for xy in corners]
    statistics = collected(write_dataset(tmp_path / "toy", [[sample(0, found, views=2)]]))
    assert values_of(statistics, "spanned")["max"] == pytest.approx(0.25 / 4)


def test_an_object_counts_once_however_many_questions_name_it(tmp_path):
    statistics = collected(write_dataset(tmp_path / "toy", [[sample(0, [box_question(), box_question()])]]))
    assert values_of(statistics, "object_range_m")["count"] == 1


def test_an_unknown_distance_is_not_counted_as_zero(tmp_path):
    pose = pose_question()
    pose["truth"] |= {"distance_m": None, "translation_direction": None}
    statistics = collected(write_dataset(tmp_path / "toy", [[sample(0, [pose], views=2)]]))
    assert {histogram["name"] for histogram in statistics["histograms"]}.isdisjoint({"distance_m", "bearing_deg"})


def test_a_limit_reads_less_and_chooses_by_seed(tmp_path):
    samples = [sample(i, [depth_question((i, 5), 1.0 + i)]) for i in range(30)]
    url = write_dataset(tmp_path / "toy", [samples[:20], samples[20:]])
    seen = [[seen.place for seen in Target.open(url, seed).seen(10)] for seed in (0, 0, 1)]
    assert seen[0] == seen[1] == sorted(seen[0]) != seen[2]
    assert collected(url, 10)["datasets"][0]["read"] == 10
    assert collected(url, 10)["datasets"][0]["samples"] == 30
    shards = {seen.place: seen.shard for seen in Target.open(url).seen(None)}
    assert shards == {i: int(i >= 20) for i in range(30)}


@pytest.fixture
def mixture(tmp_path):
    for name, count in (("a", 12), ("b", 6)):
        samples = [
            sample(i, [depth_question((i + j, 5), 1.0 + i) for j in range(6)] + [box_question()]) for i in range(count)
        ]
        write_dataset(tmp_path / name, [samples[:3], samples[3:]])
    spec = tmp_path / "mix.yaml"
    where = "key < 'sample-0004'"
    spec.write_text(
        f'samples: 192\ndatasets:\n  b: {{shards: {tmp_path}/b, weight: 2, pixels: 3, where: "{where}"}}\n'
        f"  a: {{shards: {tmp_path}/a, weight: 1, pixels: 2, tasks: {{depth: 1, objects: 1}}}}\n"
    )
    return spec


def test_a_mixture_is_seen_as_its_stream_draws_it(mixture):
    target = Target.open(str(mixture))
    seen = list(target.seen(40))
    with open_stream(mixture) as stream:
        for found, (n, drawn) in zip(seen, stream, strict=False):
            assert (found.place, found.sample.key, target.members[found.member].name) == (n, drawn.key, drawn.dataset)
            manifest = target.members[found.member].dataset.manifest(found.shard)
            assert drawn.key in {member["key"] for member in manifest["members"]}
            assert [q["question"] for q in found.questions] == [q.question for q in drawn.questions]


def test_the_statistics_of_a_mixture_are_of_what_is_drawn(mixture):
    found = collected(str(mixture))
    b, a = found["datasets"]
    assert (b["name"], a["name"]) == ("b", "a")
    assert (b["share"], a["share"]) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert (b["samples"], a["samples"]) == (4, 12)  # what `where` leaves
    assert (b["read"], a["read"]) == (pytest.approx(128, abs=2), pytest.approx(64, abs=2))
    assert sum(b["asked"].values()) == 3 * b["read"]
    assert a["asked"]["objects"] == pytest.approx(32, abs=1)  # half the draws of a ask about its one object


def test_a_share_that_changes_over_the_run_is_that_of_all_draws(mixture):
    mixture.write_text(mixture.read_text() + "schedule: [{until: 0.5, weights: {b: 0}}, {until: 1, weights: {}}]\n")
    b, a = collected(str(mixture))["datasets"]
    assert (b["share"], a["share"]) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert (b["read"], a["read"]) == (pytest.approx(64, abs=2), pytest.approx(128, abs=2))


def test_another_seed_is_another_order_of_the_mixture(mixture):
    orders = [[seen.sample.key for seen in Target.open(str(mixture), seed).seen(20)] for seed in (None, 5)]
    assert orders[0] != orders[1]


def test_a_planned_dataset_cannot_be_looked_at(tmp_path):
    spec = tmp_path / "mix.yaml"
    spec.write_text("datasets:\n  later: {size: 100, weight: 1}\n")
    with pytest.raises(UserError, match="later: has only a planned size"):
        Target.open(str(spec))


def test_plots_are_written_for_all_that_was_counted(tmp_path, mixture):
    names = write_plots(collected(str(mixture)), str(tmp_path / "plots"))
    assert {"depth_m.png", "focal_px.png", "image_plane.png", "questions.png"} <= set(names)
    assert "left_out.png" not in names  # nothing was
    assert all((tmp_path / "plots" / name).read_bytes()[:4] == b"\x89PNG" for name in names)
