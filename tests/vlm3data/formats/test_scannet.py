"""ScanNet's smaller files: matrices, values, labels, exports, splits; what belongs together, and damage."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import orjson
import pytest

from tests.vlm3data.formats.damage import survives
from vlm3data.formats.scannet.labels import find_labels, read_instances, write_instances
from vlm3data.formats.scannet.splits import split_of
from vlm3data.formats.scannet.text import format_matrix, format_values, parse_matrix, parse_values
from vlm3data.storage import open_store
from vlm3data.types import UserError

SCAN = "scene0000_00"


def test_a_matrix_survives_the_exporters_six_decimals():
    matrix = np.random.default_rng(0).normal(size=(4, 4))
    np.testing.assert_allclose(parse_matrix(format_matrix(matrix), "here"), matrix, atol=5.1e-7)


@pytest.mark.parametrize("word", ["-inf", "-1.#INF", "-1.#INF00"])
def test_lost_poses_are_read_as_either_system_prints_them(word):
    assert np.isneginf(parse_matrix(f"{word} " * 16, "here")).all()


@pytest.mark.parametrize("text", ["", "1 " * 15, "1 " * 17, "1 " * 15 + "one"])
def test_what_is_no_matrix_is_refused_with_its_place(text):
    with pytest.raises(UserError, match=r"^pose/7\.txt"):
        parse_matrix(text, "pose/7.txt")


def test_values_come_back():
    matrix = np.arange(16.0).reshape(4, 4)
    found = parse_values(format_values({"axisAlignment": matrix, "colorWidth": 1296}).encode(), "here")
    np.testing.assert_array_equal(parse_matrix(found["axisAlignment"], "here"), matrix)
    assert found["colorWidth"] == "1296"
    with pytest.raises(UserError, match=r"here: line 2 is not"):
        parse_values(b"a = 1\nnonsense\n", "here")


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Write nine vertices in three segments, and two objects."""
    vertices = np.arange(27.0).reshape(9, 3)
    segments = np.array([5, 5, 9, 9, 9, 9, 2, 2, 2])
    fs, directory = open_store(str(tmp_path))
    write_instances(fs, directory, SCAN, vertices, [[0, 1, 2]], segments, [("chair", [5, 2]), ("wall", [9])])
    return tmp_path


def read_labels(directory: Path):
    fs, path = open_store(str(directory))
    files = find_labels(path, SCAN, {file.name for file in directory.iterdir()})
    assert files is not None
    return read_instances(fs, *files)


def test_instances_are_the_vertices_of_their_segments(labelled):
    chair, wall = read_labels(labelled)
    assert (chair.label, wall.label) == ("chair", "wall")
    np.testing.assert_array_equal(chair.vertices_m, np.arange(27.0).reshape(9, 3)[[0, 1, 6, 7, 8]])
    np.testing.assert_array_equal(wall.vertices_m, np.arange(27.0).reshape(9, 3)[2:6])


def edit(path: Path, **changes) -> None:
    path.write_bytes(orjson.dumps(orjson.loads(path.read_bytes()) | changes))


SEGS, AGGREGATION = "_vh_clean_2.0.010000.segs.json", ".aggregation.json"


@pytest.mark.parametrize(
    ("ending", "changes", "says"),
    [
        (SEGS, {"segIndices": [5, 9, 2]}, "are not of the same mesh"),
        (SEGS, {"segIndices": [5, 5, 9, 9, 9, 9, 2, 2, 2.5]}, "not a list of whole numbers"),
        (SEGS, {"segIndices": [[1], [2, 3]]}, "not a list of whole numbers"),
        (SEGS, {"segIndices": [5, 5, 5, 5, 5, 5, 5, 5, 5]}, "'chair' has segments that are not"),
        (AGGREGATION, {"segmentsFile": f"scannet.{SCAN}_vh_clean.segs.json"}, "belongs to scannet."),
        (AGGREGATION, {"segGroups": 3}, "segGroups is not a list"),
        (AGGREGATION, {"segGroups": [{"segments": [5]}]}, "segGroups.0 has no label"),
    ],
)
def test_labels_that_do_not_belong_together_are_refused(labelled, ending, changes, says):
    edit(labelled / f"{SCAN}{ending}", **changes)
    with pytest.raises(UserError) as refusal:
        read_labels(labelled)
    assert says in str(refusal.value)
    assert SCAN in str(refusal.value)


def test_the_two_sets_of_labels_are_never_mixed(labelled):
    """The mesh of one set with the segments and the annotation of the other is no set."""
    names = {file.name for file in labelled.iterdir()}
    mixed = {name.replace("_vh_clean_2.ply", "_vh_clean.ply") for name in names}
    assert find_labels("", SCAN, mixed) is None
    full = {f"{SCAN}_vh_clean.ply", f"{SCAN}_vh_clean.segs.json", f"{SCAN}_vh_clean.aggregation.json"}
    assert find_labels("d", SCAN, mixed | full) == tuple(
        f"d/{SCAN}{ending}" for ending in ("_vh_clean.ply", "_vh_clean.segs.json", "_vh_clean.aggregation.json")
    )
    chosen = find_labels("", SCAN, names | full)
    assert chosen is not None
    assert chosen[0] == f"{SCAN}_vh_clean_2.ply"


@pytest.mark.parametrize("ending", [SEGS, AGGREGATION])
def test_any_damage_to_labels_gives_a_refusal_or_a_result(labelled, ending):
    path = labelled / f"{SCAN}{ending}"
    came_of = survives(path.read_bytes(), path, lambda: read_labels(labelled))
    assert min(came_of.values()) > 0


def test_any_damage_to_text_gives_a_refusal_or_a_result(tmp_path):
    path = tmp_path / f"{SCAN}.txt"
    good = format_values({"axisAlignment": np.eye(4), "colorWidth": 1296, "sceneType": "Office"}).encode()

    def read() -> None:
        values = parse_values(path.read_bytes(), str(path))
        parse_matrix(values.get("axisAlignment", ""), str(path))

    assert min(survives(good, path, read).values()) > 0


def test_the_official_splits():
    """Spot checks against scannetv2_{train,val,test}.txt, and the numbers of rooms in each."""
    assert split_of("scene0191_00") == split_of("scene0706_00") == split_of("scene0000_02") == "train"
    assert split_of("scene0568_01") == split_of("scene0011_00") == split_of("scene0704_00") == "val"
    assert split_of("scene0707_00") == split_of("scene0806_00") == "test"
    assert split_of("scene0807_00") == split_of("my_kitchen") == split_of("scene0000") == "all"
    rooms = [split_of(f"scene{room:04d}_00") for room in range(807)]
    assert [rooms.count(split) for split in ("train", "val", "test")] == [565, 142, 100]
    val = " ".join(f"{room:04d}" for room in range(807) if rooms[room] == "val")
    assert hashlib.sha256(val.encode()).hexdigest()[:16] == "a96c3aed63fe8d3c", "of the rooms in scannetv2_val.txt"
