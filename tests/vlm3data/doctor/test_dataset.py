"""doctor SOURCE: a whole download is fine; what is taken away is named, with where it is from."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.conftest import needs_realdata
from tests.test_contracts import SMALL, root_of
from vlm3data import registry
from vlm3data.cli import app
from vlm3data.command import run_app
from vlm3data.config import read_yaml
from vlm3data.doctor import Check, Downloads, check_dataset

DESCRIBED = [name for name in registry.names("source") if name != "synthetic"]


def checks(source: str, root: Path | str, **options: object) -> list[Check]:
    return list(check_dataset(source, str(root), options))


def said(found: list[Check], status: str) -> str:
    return "\n".join(f"{check.what}: {check.found} -> {check.do}" for check in found if check.status == status)


@pytest.mark.parametrize("source", DESCRIBED)
def test_every_source_says_what_its_owner_distributes(source):
    about = Downloads.of(source)
    assert about is not None
    assert about.owner
    assert about.forms
    assert about.page.startswith(("http", "docs/"))
    splits = {split for form in about.forms for split in form.splits}
    assert splits


@pytest.mark.parametrize("source", registry.names("source"))
def test_a_small_whole_dataset_never_fails(source, tmp_path):
    found = checks(source, root_of(source, tmp_path), **SMALL.get(source, {}))
    assert said(found, "fail") == ""
    assert any(check.what == "frames" and check.status == "ok" for check in found)
    if source != "synthetic":
        assert any(check.what.startswith("split") and "frames" in check.found for check in found)


def remove(root: Path, *patterns: str) -> None:
    for pattern in patterns:
        paths = list(root.glob(pattern))
        assert paths, pattern
        for path in paths:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.parametrize(
    ("source", "gone", "status", "message"),
    [
        ("nuscenes", ["samples/CAM_BACK/*"], "warn", "missing: .*samples/CAM_BACK/\\*.jpg"),
        ("nuscenes", ["v1.0-*/ego_pose.json"], "warn", "a table: missing: v1.0-mini/ego_pose.json -> .*nuscenes.org"),
        ("nuscenes", ["v1.0-*"], "fail", "the tables are missing: they come in v1.0-trainval_meta.tgz"),
        ("scannet", ["**/*.aggregation.json"], "warn", "aggregation.json.* -> only needed for boxes"),
        ("scannet", ["**/*.sens"], "fail", "no video: download-scannet.py"),
        ("ibims", ["ibims1_core_raw/calib", "ibims1_core_mat"], "fail", "calib/\\*.txt -> ibims1_core_raw.zip from"),
        ("megadepth", ["**/depths/*.h5"], "fail", "depths/\\*.h5 -> MegaDepth_v1.tar.gz from https://www.cs.cornell"),
        ("megadepth", ["**/*.npz"], "fail", "poses, intrinsics and overlaps: missing: .* -> .*LoFTR"),
        ("colmap", ["images", "*/images"], "fail", "images: missing: .*images/\\*"),
        ("colmap", ["**/points3D.*"], "fail", "points: missing: .*points3D"),
        ("rgbd", ["**/*.pose.txt"], "fail", "poses: missing: .*frame-\\*.pose.txt"),
        ("rgbd", ["**/frame-000001.depth.png"], "warn", "depth_missing"),
        ("wai", ["**/depth"], "warn", "true depth: missing: .* -> only needed for depth"),
    ],
)
def test_what_is_missing_is_named_with_where_it_is_from(source, gone, status, message, tmp_path):
    root = Path(root_of(source, tmp_path))
    for pattern in gone:
        if list(root.glob(pattern)):
            remove(root, pattern)
    found = checks(source, root, **SMALL.get(source, {}))
    assert re.search(message, said(found, status)), "\n".join(map(str, found))


def test_a_root_one_too_deep_or_too_high_is_told(tmp_path):
    root = Path(root_of("nuscenes", tmp_path))
    (tables,) = root.glob("v1.0-*")
    assert "give the one above it" in said(checks("nuscenes", tables), "fail")
    assert "one directory deeper" in said(checks("nuscenes", root.parent), "fail")
    assert "there is no" in said(checks("nuscenes", tmp_path / "nowhere"), "fail")


def test_archives_that_are_not_extracted_are_told(tmp_path):
    (tmp_path / "v1.0-mini.tgz").touch()
    assert "tar -xf" in said(checks("nuscenes", tmp_path), "fail")
    (tmp_path / "chess").mkdir()
    (tmp_path / "chess" / "seq-01.zip").touch()
    assert "unzip each seq-*.zip" in said(checks("rgbd", tmp_path), "fail")


def test_frames_that_a_build_would_drop_are_told(tmp_path):
    root = Path(root_of("jsonl", tmp_path))
    (root / "rgb" / "0.jpg").write_bytes(b"no image")
    found = checks("jsonl", root)
    assert "1 of 3 tried: " in said(found, "warn")
    (root / "rgb" / "1.jpg").unlink()
    (root / "rgb" / "2.jpg").unlink()
    assert "image_missing" in said(checks("jsonl", root), "warn")


def test_real_data_is_read(tmp_path):
    root = needs_realdata("nuscenes")
    found = checks("nuscenes", root)
    assert said(found, "fail") == ""
    assert "samples/CAM_FRONT/*.jpg (1 of 404)" in said(found, "warn")


def test_the_command(tmp_path, capsys):
    root = root_of("ibims", tmp_path)
    assert run_app(app, ["doctor", "ibims", "--root", root]) == 0
    assert "ok    split val: 1 scene, 2 frames" in capsys.readouterr().out
    assert run_app(app, ["doctor", "ibims", "--root", str(tmp_path / "none"), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)[0]["status"] == "fail"
    assert run_app(app, ["doctor", "nonsense", "--root", root]) == 2
    assert run_app(app, ["doctor", "--root", root]) == 2
    assert run_app(app, ["doctor", "ibims", "--root", root, "--tables", "x"]) == 2
    capsys.readouterr()


def test_descriptions_name_no_plugin_that_is_not_there():
    directory = Path(registry.__file__).parent / "sources" / "downloads"
    assert {path.stem for path in directory.glob("*.yaml")} <= set(registry.names("source"))
    for path in directory.glob("*.yaml"):
        Downloads.check(read_yaml(path), where=path.name)
