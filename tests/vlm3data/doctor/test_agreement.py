"""doctor SOURCE: what the frames of a recording say about each other betrays a wrong YAML, and no sound one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.conftest import needs_realdata
from tests.test_contracts import write_layout
from vlm3data.doctor import check_dataset
from vlm3data.doctor.agreement import verdict

YAMLS = Path(__file__).parents[3] / "docs" / "rgbd"
FORMS = ("redwood", "record3d")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("recordings")
    return {form: write_layout("rgbd", base / form, form=form, scenes=1, frames=8) for form in FORMS}


def said(root: Path, patterns: dict, where: Path) -> dict[str, str]:
    where.write_text(yaml.safe_dump(patterns))
    found = check_dataset("rgbd", str(root), {"patterns": str(where)})
    return {check.what: f"{check.status}: {check.found} -> {check.do}" for check in found}


OTHER = {"opencv": "opengl", "opengl": "opencv"}


@pytest.mark.parametrize("form", FORMS)
def test_a_wrong_yaml_is_told_from_a_right_one(recordings, form, tmp_path):
    patterns = yaml.safe_load((YAMLS / f"{form}.yaml").read_text())
    root, file = recordings[form] / "data", tmp_path / "patterns.yaml"
    axes = patterns["pose"].get("axes", "opencv")

    def with_pose(**changes: str) -> str:
        return said(root, patterns | {"pose": patterns["pose"] | changes}, file)["poses"]

    right = said(root, patterns, file)
    assert right["poses"].startswith("ok: depth carried along them to a later frame is 0.")
    assert not {"intrinsics", "depth"} & set(right)
    assert "turned round (axes) -> labels of such poses are wrong" in with_pose(axes=OTHER[axes])
    assert "inverted (convention" in with_pose(convention="cam_from_world")
    assert "inverted (convention" in with_pose(convention="cam_from_world", axes=OTHER[axes])
    euclidean = said(root, patterns | {"depth": patterns["depth"] | {"kind": "euclidean"}}, file)["poses"]
    assert "with depth read as z, not euclidean (kind) -> labels of such depth are wrong" in euclidean
    millimetres = patterns | {"depth": patterns["depth"] | {"metres_per_count": 1000}}
    assert said(root, millimetres, file)["depth"].startswith("fail: half of ")


@pytest.mark.parametrize(
    ("errors", "status", "words"),
    [
        ([1.0, 0.3, 0.4, 1.0], "ok", "see too little in common"),  # photos of different things, which overlap by chance
        ([1.0, 0.004, 0.4, 1.0], "fail", "turned round (axes)"),
        ([0.09, 0.3, 0.4, 0.1], "warn", "9.0% off"),
        ([0.01, 0.011, 0.012, 0.011], "ok", "moves too little"),
        ([0.01, 0.2, 0.2, 0.015], "ok", "1.0% off there (median)"),
        ([0.01, 0.2, 0.2, 0.006], "ok", "1.0% off there (median)"),  # not clearly better
        ([0.03, 0.2, 0.2, 0.006], "fail", "5 times as well with depth read as euclidean, not z"),
    ],
)
def test_only_a_reading_that_fits_accuses_the_poses(errors, status, words):
    found = verdict(np.array([errors] * 4), "z")
    assert (found.status, words in found.found) == (status, True)


def test_a_principal_point_that_is_swapped_is_told(recordings, tmp_path):
    patterns = yaml.safe_load((YAMLS / "redwood.yaml").read_text())
    patterns["intrinsics"] |= {"cx": 239.5, "cy": 319.5}
    found = said(recordings["redwood"] / "data", patterns, tmp_path / "patterns.yaml")
    assert "at 38% of the width and 67% of the height" in found["intrinsics"]


def test_files_named_by_hand_need_be_of_no_known_form(tmp_path):
    real = needs_realdata("rgbd_7scenes")
    patterns = {
        "image": "frame-{frame}.color.jpg",
        "depth": {"path": "frame-{frame}.depth.png", "metres_per_count": 0.001, "kind": "z"},
        "pose": {"path": "frame-{frame}.pose.txt", "format": "matrix", "convention": "world_from_cam"},
        "intrinsics": {"fx": 585, "fy": 585, "cx": 320, "cy": 240},
    } | {"first_pixel_centre": 0, "registered": True, "metric": True}
    scene = tmp_path / "scene"
    scene.mkdir()
    for path in real.glob("frame-*"):
        (scene / path.name.replace("frame", "f")).symlink_to(path)
    patterns = yaml.safe_load(yaml.safe_dump(patterns).replace("frame-{", "f-{"))
    found = said(scene, patterns, tmp_path / "patterns.yaml")
    assert "download" not in found
    assert not [line for line in found.values() if not line.startswith("ok")]
    patterns["pose"]["convention"] = "cam_from_world"
    assert "fail" in said(scene, patterns, tmp_path / "patterns.yaml")["poses"]
