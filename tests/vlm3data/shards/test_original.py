"""Shards with the source's own images: unified as they are read, they say what unified shards say."""

from __future__ import annotations

import io
import json
import pickle
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image

from tests.conftest import directory_bytes, jsonl_line, photo, write_jsonl
from tests.test_contracts import write_layout
from vlm3data.build import BuildConfig, build
from vlm3data.images import decode_rgb
from vlm3data.mixture import Mixture
from vlm3data.rerender import rerender
from vlm3data.shards import Dataset, Unify, read_samples, verify
from vlm3data.stream import open_stream
from vlm3data.types import UserError

LENS = {"model": "opencv", "params": [-0.12, 0.03, 0.001, -0.0008]}
TASKS = {"depth": {"pixels": 12}, "correspondence": {"pixels": 8}, "pose": {}}


def toy(root: Path) -> Path:
    return write_jsonl(root, [jsonl_line(number) for number in range(8)])


def built(out: Path, **changes: object) -> Path:
    config = {"source": "jsonl", "tasks": {"depth": {"pixels": 8}}, "focal_px": 173.0, "seed": 4, "shard_size": 5}
    build(BuildConfig.check(config | changes, "test"), str(out), workers=1)
    return out


def rooms(out: Path, **changes: object) -> Path:
    options = {"scenes": 2, "width_px": 170, "height_px": 130}
    return built(out, **{"source": "synthetic", "options": options, "tasks": TASKS, "limit": 12} | changes)


def said(directory: Path, **unify: object) -> dict[str, dict]:
    dataset = Dataset(str(directory), unify=Unify(**unify))  # pyright: ignore[reportArgumentType]
    return {dataset[i].key: dataset[i].record for i in range(len(dataset))}


def but_config(records: dict[str, dict]) -> dict[str, dict]:
    return {key: {k: v for k, v in record.items() if k != "config"} for key, record in records.items()}


WAYS = [
    {},
    {"focal_px": 300.0, "align": "pad"},
    {"focal_px": 90.0, "align": "none"},
    {"focal_px": 410.0, "focal_mode": "square"},
    {"focal_px": 120.0, "published": True, "label_depth": "euclidean"},
]


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_read_as_built_they_are_the_unified_shards(tmp_path, way):
    root = str(toy(tmp_path / "toy"))
    unified = built(tmp_path / "unified", root=root, **way)
    original = built(tmp_path / "original", root=root, store="original", **way)
    assert but_config(said(original)) == but_config(said(unified))
    one, other = Dataset(str(unified)), Dataset(str(original))
    for i in range(len(one)):
        assert (
            other.stored(i).images[0]
            == (tmp_path / "toy" / "rgb" / f"{one[i].record['frames'][0][-1]}.jpg").read_bytes()
        )
        (seen,), (stored,) = other[i].image_arrays(), one[i].image_arrays()
        assert seen.shape == stored.shape
        assert np.abs(seen.astype(int) - stored).mean() < 4, "a JPEG apart"
        assert other[i].images[0] == one[i].images[0], "encoded when asked for, it is the very file"
    shown = replace(other[0], images=other[1].images)
    np.testing.assert_array_equal(shown.image_arrays()[0], other[1].image_arrays()[0])


@pytest.mark.parametrize("way", WAYS[1:3], ids=str)
def test_pairs_and_poses_too(tmp_path, way):
    assert but_config(said(rooms(tmp_path / "original", store="original", **way))) == but_config(
        said(rooms(tmp_path / "unified", **way))
    )


def test_a_lens_is_straightened_when_it_is_read(tmp_path):
    root = write_layout(
        "colmap", tmp_path / "root", scenes=1, images=6, points=300, width_px=160, height_px=120, lens="opencv"
    )
    config = {"source": "colmap", "root": str(root), "tasks": {"correspondence": {}}, "focal_px": 140.0}
    unified, original = built(tmp_path / "u", **config), built(tmp_path / "o", store="original", **config)
    assert Dataset(str(original)).stored(0).record["views"][0]["camera"]["distortion"]["model"] == "opencv"
    assert but_config(said(original)) == but_config(said(unified))
    assert verify(str(original)).problems == []
    one, other = Dataset(str(unified)), Dataset(str(original))
    assert other[0].images == list(one[0].images) or [*other[0].images] == [*one[0].images]


@pytest.mark.parametrize("make", [lambda out: rooms(out, store="original"), None])
def test_they_verify_and_any_reader_reads_them(tmp_path, make):
    out = make(tmp_path / "out") if make else built(tmp_path / "out", root=str(toy(tmp_path / "toy")), store="original")
    assert verify(str(out)).problems == []
    rows = list(webdataset.WebDataset([str(path) for path in sorted(out.glob("*.tar"))], shardshuffle=False))
    assert len(rows) == len(Dataset(str(out)))
    for row in rows:
        record = json.loads(row["json"])
        images = [row[name] for name in ("jpg", "0.jpg", "1.jpg") if name in row]
        for view, image in zip(record["views"], images, strict=True):
            assert view["camera"] == view["source_camera"]
            assert Image.open(io.BytesIO(image)).size == (view["camera"]["width_px"], view["camera"]["height_px"])


def test_another_focal_length_says_what_a_build_for_it_says_of_the_same_pixels(tmp_path):
    root = str(toy(tmp_path / "toy"))
    original = built(tmp_path / "original", root=root, store="original", tasks={"depth": {"pixels": 1000}})
    for way in ({"focal_px": 260.0}, {"align": "pad"}, {"focal_px": 97.0, "align": "none"}):
        expected = said(built(tmp_path / f"{way}", root=root, tasks={"depth": {"pixels": 1000}}, **way))
        for key, record in said(original, **way).items():
            meant = {tuple(q["truth"]["pixel_px"]): q["truth"] for q in expected[key]["questions"]}
            now = {tuple(q["truth"]["pixel_px"]): q["truth"] for q in record["questions"]}
            assert now.items() <= meant.items(), "what the build for another focal length cropped is not stored"
            assert len(now) >= 0.8 * len(meant)
            assert record["views"] == expected[key]["views"]


def test_matches_seen_at_another_focal_length_stay_matches(tmp_path):
    original = rooms(tmp_path / "original", store="original", tasks={"correspondence": {"pixels": 30}})
    dataset = Dataset(str(original), unify=Unify(300.0, "pad"))
    for i in range(len(dataset)):
        stored, seen = dataset.stored(i).record, dataset[i].record
        view = seen["views"][1]
        back = [(np.array(q["truth"]["pixel2_px"]) + view["crop_xy_px"]) / view["scale"] for q in seen["questions"]]
        there = np.array([q["truth"]["pixel2_px"] for q in stored["questions"]])
        assert all(np.abs(there - place).max(axis=1).min() < 1e-3 for place in back)
    assert dataset.unifier is not None
    assert set(dataset.unifier.cut) <= {"off_centre", "cropped"}
    assert dataset.unifier.cut["off_centre"] > 0


def mixture(shards: Path, **more: object) -> Mixture:
    entry = {"shards": str(shards), "weight": 1} | more
    return Mixture.check({"datasets": {"toy": entry}}, "mixture.yaml")


def test_a_mixture_says_how_images_are_seen(tmp_path):
    root = str(toy(tmp_path / "toy"))
    unified, original = built(tmp_path / "u", root=root), built(tmp_path / "o", root=root, store="original")
    draw = lambda shards, **more: [  # noqa: E731
        (n, sample.key, sample.questions) for n, sample in islice(open_stream(mixture(shards, **more)), 20)
    ]
    as_built = mixture(original).lock()["datasets"]["toy"]
    assert "unify" not in as_built
    assert [key for _, key, _ in draw(original, pixels=3)] != []
    for _, sample in islice(open_stream(mixture(original, focal_px=750, align="pad")), 3):
        assert sample.record["views"][0]["camera"]["fx_px"] == 750
        assert sample.image_arrays()[0].shape[0] % 32 == 0
    top = Mixture.check({"focal_px": 300, "datasets": {"toy": {"shards": str(original), "weight": 1}}}, "m.yaml")
    assert next(open_stream(top))[1].record["views"][0]["camera"]["fx_px"] == 300
    before = mixture(original).lock()
    assert mixture(original, focal_px=300).changes_since(before) == [
        "toy has its images unified to focal_px 300.0, were to what it was built for"
    ]
    with pytest.raises(UserError, match=r"datasets.toy: focal_px 750.0: the images in .* --store original"):
        mixture(unified, focal_px=750).schedule()
    assert mixture(unified, focal_px=173, align="crop").schedule()
    assert pickle.loads(pickle.dumps(mixture(original, focal_px=300).parts[0].dataset)).unify == Unify(300.0, None)  # noqa: S301


def test_what_is_left_out_is_counted_and_a_sample_with_nothing_left_is_stood_in_for(tmp_path):
    lines = [jsonl_line(number) for number in range(8)]
    lines[3] |= {"pixel_coords": [[0, 60]], "depth": [2.0]}  # pad keeps it, a crop of 624 px to 608 does not
    root = str(write_jsonl(tmp_path / "toy", lines))
    original = built(tmp_path / "o", root=root, store="original", align="pad")
    stream = open_stream(mixture(original, align="crop", focal_px=153.0 * 3.9))
    keys = [sample.key for _, sample in islice(stream, 16)]
    assert stream.cuts["toy: cropped"] > 0
    assert stream.cuts["toy: no_question_left"] == 2
    assert not stream.skips.listed
    assert len(set(keys)) == 7


def test_what_is_no_upright_jpeg_is_encoded_once_at_full_size(tmp_path):
    root = toy(tmp_path / "toy")
    Image.open(io.BytesIO(photo(1))).save(root / "rgb" / "1.jpg", "PNG")
    out = built(tmp_path / "out", root=str(root), store="original")
    stored = [Dataset(str(out)).stored(i).images[0] for i in range(8)]
    assert decode_rgb(stored[1], (160, 120)).shape == (120, 160, 3)
    assert [image == (root / "rgb" / f"{i}.jpg").read_bytes() for i, image in enumerate(stored)] == [
        i != 1 for i in range(8)
    ]


def test_a_truncated_image_is_dropped_though_it_is_only_copied(tmp_path):
    root = toy(tmp_path / "toy")
    (root / "rgb" / "2.jpg").write_bytes(photo(2)[:2000])
    out = built(tmp_path / "out", root=str(root), store="original", max_drop_rate=0.5)
    assert Dataset(str(out)).about["drops"] == {"image_truncated": 1}


def test_they_can_be_asked_again(tmp_path):
    root = str(toy(tmp_path / "toy"))
    pack = tmp_path / "pack.yaml"
    pack.write_text('wordings: [{question: "Depth at {x}, {y}?", answer: "{depth_m:.2f} m"}]')
    original = built(tmp_path / "o", root=root, store="original", tasks={"depth": {"pixels": 8, "wordings": str(pack)}})
    pack.rename(tmp_path / "gone.yaml")
    assert next(iter(said(original).values()))["questions"][0]["question"].startswith("Depth at ")
    again = tmp_path / "again"
    rerender(str(original), str(again), tasks={"depth": {"grid": 500}}, workers=1)
    assert verify(str(again)).problems == []
    pack.write_bytes((tmp_path / "gone.yaml").read_bytes())
    meant = built(tmp_path / "u", root=root, tasks={"depth": {"pixels": 8, "grid": 500, "wordings": str(pack)}})
    assert but_config(said(again)) == but_config(said(meant))
    same = tmp_path / "same"
    rerender(str(original), str(same), workers=1)
    tar = lambda out: {k: v for k, v in directory_bytes(out).items() if k.endswith(".tar")}  # noqa: E731
    assert tar(same) == tar(original)


def test_a_task_whose_labels_cannot_move_is_refused(tmp_path):
    with pytest.raises(UserError, match="--store original: objects: the task does not say how its labels move"):
        rooms(tmp_path / "out", store="original", tasks={"objects": {}})
    with pytest.raises(UserError, match="--store original: depth: marks are drawn into the unified image"):
        rooms(tmp_path / "out", store="original", tasks={"depth": {"reference": "marker", "pixels": 1}})
    assert not list(tmp_path.rglob("*.tar"))


def test_samples_read_from_unified_shards_are_arrays_too(tmp_path):
    sample = next(iter(read_samples(str(built(tmp_path / "u", root=str(toy(tmp_path / "toy")))))))
    np.testing.assert_array_equal(sample.image_arrays()[0], decode_rgb(sample.images[0]))
