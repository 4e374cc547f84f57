"""The layout wai: the same bytes for the same seed, and files as MapAnything's conversions write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from tests.conftest import directory_bytes
from vlm3data.formats.exr import exr_size_px
from vlm3data.layouts.wai import WaiLayout


def write(out: Path, seed: int = 3, **options: Any) -> dict[str, Any]:
    options = {"scenes": 1, "frames": 4, "width_px": 96, "height_px": 72} | options
    return WaiLayout(WaiLayout.Options(**options), seed).write(str(out), lambda *_: None)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_ones(tmp_path):
    told = [write(tmp_path / name, seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))]
    a, b, c = (directory_bytes(tmp_path / name) for name in "abc")
    assert a == b
    assert a != c
    assert told[0] == {"scenes": 1, "frames": 4}


@pytest.mark.parametrize("shared", [True, False])
def test_a_scene_is_described_as_wai_describes_it(tmp_path, shared):
    write(tmp_path, shared_intrinsics=shared, depth_share=0.5)
    scene = tmp_path / "synthetic" / "000000"
    meta = orjson.loads((scene / "scene_meta.json").read_bytes())
    assert (meta["camera_convention"], meta["camera_model"], meta["scale_type"]) == ("opencv", "PINHOLE", "metric")
    assert ("fl_x" in meta) == shared == meta["shared_intrinsics"]
    for frame in meta["frames"]:
        assert ("fl_x" in frame) != shared
        assert (scene / frame["image"]).is_file()
        assert exr_size_px((scene / frame["depth"]).read_bytes()) == (48, 36)
    covisibility = np.load(scene / meta["scene_modalities"]["pairwise_covisibility"]["scene_key"])
    assert covisibility.shape == (4, 4)
    assert covisibility.dtype == np.float32
    depths_m = [np.load(tmp_path / "truth" / f"000000-{number:06d}.depth.npy") for number in range(4)]
    known = [np.isfinite(depth_m).mean() for depth_m in depths_m]
    np.testing.assert_allclose(np.diag(covisibility), known, atol=1e-6)
    assert (covisibility <= np.diag(covisibility)[:, None] + 1e-6).all()


def test_only_reconstructions_have_a_scale(tmp_path):
    for kind, scale in (("metric", None), ("colmap", None), ("colmap", 3.0)):
        write(tmp_path / f"{kind}{scale}", frames=2, scale_type=kind, scale=scale)
    scales = [orjson.loads(path.read_bytes())["scale"] for path in sorted(tmp_path.glob("*/truth/*.json"))]
    assert scales[0] == 3.0
    assert scales[1] not in (1.0, 3.0)
    assert scales[2] == 1.0
