"""The layout megadepth: the same bytes for the same seed, and both preparations of the same place."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import orjson
import pytest
from fsspec.implementations.local import LocalFileSystem

from tests.conftest import directory_bytes
from vlm3data.formats.scene_info import Photo, read_scene_info
from vlm3data.layouts.megadepth import DATASET, UNDISTORTED, MegadepthLayout

FORMS = ("d2net", "loftr")
INFO = {"d2net": "scene_info/0000.npz", "loftr": "scene_info_0.1_0.7/0000_0.1_0.3.npz"}


def write(out: Path, seed: int = 3, **options: Any) -> dict[str, Any]:
    options = {"places": 1, "photos": 8, "long_side_px": 128, "ordinal": 0.4} | options
    return MegadepthLayout(MegadepthLayout.Options(**options), seed).write(str(out), lambda *_: None)


@pytest.mark.parametrize("form", FORMS)
def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_ones(tmp_path, form):
    told = [write(tmp_path / name, seed, form=form) for name, seed in (("a", 1), ("b", 1), ("c", 2))]
    a, b, c = (directory_bytes(tmp_path / name) for name in "abc")
    assert a == b
    assert a != c
    assert told[0] == told[1]
    assert (told[0]["places"], told[0]["photos"]) == (1, 8)


def test_the_files_are_where_megadepth_and_d2net_put_them(tmp_path):
    write(tmp_path)
    depths = sorted((tmp_path / DATASET / "0000" / "dense0" / "depths").iterdir())
    images = sorted((tmp_path / UNDISTORTED / "0000" / "images").iterdir())
    assert [path.stem for path in depths] == [path.stem for path in images]
    assert len(depths) == 8
    truth = orjson.loads((tmp_path / "truth" / "0000.json").read_bytes())
    ordinal = {Path(photo["image"]).stem for photo in truth["photos"] if photo["ordinal"]}
    assert ordinal
    for path in depths:
        with h5py.File(path) as file:
            assert list(file) == ["depth"]
            assert (np.asarray(file["depth"]).min() < 0) == (path.stem in ordinal)


def test_both_preparations_hold_the_same_photographs(tmp_path):
    found = {}
    for form in FORMS:
        write(tmp_path / form, form=form)
        found[form] = read_scene_info(LocalFileSystem(), str(tmp_path / form / INFO[form])).photos
    listed = 0
    for one, other in zip(*found.values(), strict=True):
        assert isinstance(one, Photo) == isinstance(other, Photo)
        if isinstance(one, Photo) and isinstance(other, Photo):
            listed += 1
            assert one[:4] == other[:4]
            np.testing.assert_array_equal(one.world_from_cam, other.world_from_cam)
    assert 0 < listed < 8


def test_poses_are_stored_camera_from_world_in_the_places_own_unit(tmp_path):
    write(tmp_path, scale=5.0)
    truth = orjson.loads((tmp_path / "truth" / "0000.json").read_bytes())
    with np.load(tmp_path / INFO["d2net"], allow_pickle=True) as file:
        poses = file["poses"]
    photos = zip(poses, truth["photos"], strict=True)
    known = [(pose, np.array(photo["world_from_cam"])) for pose, photo in photos if pose is not None]
    assert len(known) > 2
    for (a, exact_a), (b, exact_b) in pairwise(known):
        b_from_a, exact = b @ np.linalg.inv(a), np.linalg.inv(exact_b) @ exact_a
        np.testing.assert_allclose(b_from_a[:3, :3], exact[:3, :3], atol=1e-9)
        np.testing.assert_allclose(b_from_a[:3, 3], 5 * exact[:3, 3], atol=1e-6)
    assert not np.allclose(known[0][0], np.linalg.inv(known[0][1]))  # in axes of its own


def test_places_have_scales_of_their_own(tmp_path):
    write(tmp_path, places=3, photos=2)
    scales = {orjson.loads(path.read_bytes())["scale"] for path in (tmp_path / "truth").glob("*.json")}
    assert len(scales) == 3
