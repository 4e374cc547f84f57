"""Every dataset from its files to a score, by the commands a user types: build, verify, a training step, eval."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import needs_realdata
from tests.test_flow import mixture_of, vlm3data_, vlm3train_
from vlm3data.formats.sens import SensHeader, write_sens
from vlm3data.shards import Dataset

SYNTHETIC: dict[str, tuple[list[object], str, list[object]]] = {
    "nuscenes": (["--scenes", 1, "--samples", 2, "--width-px", 320, "--height-px", 180], "depth,objects", []),
    "scannet": (["--scans", 1, "--frames", 24], "depth,correspondence,pose,objects", ["--stride", 4]),
    "ibims": (["--images", 2], "depth", []),
    "rgbd": (["--scenes", 1, "--frames", 6], "depth,correspondence,pose", []),
    "colmap": (["--scenes", 1, "--images", 6, "--points", 300], "correspondence,pose", []),
    "megadepth": (["--places", 1, "--photos", 6], "correspondence,pose", []),
    "wai": (["--scenes", 1, "--frames", 4], "depth,correspondence,pose", []),
}
"""Per source: its layout's options, the tasks it supports, and the source's own flags."""
BELOW = {"rgbd": "data", "wai": "synthetic"}
"""Where a layout writes the dataset beside other things."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("model") / "tiny"
    vlm3train_("init-tiny", "--out", out)
    return out


def step_and_score(tmp_path: Path, tiny: Path, **datasets: Path) -> dict[tuple[str, str], dict]:
    """Train one step on all `datasets`, evaluate on each, and return the rows by (dataset, task)."""
    spec = mixture_of(tmp_path / "mix.yaml", **{name: (out, 1.0) for name, out in datasets.items()})
    vlm3train_(
        "sft", "--model", tiny, "--mixture", spec, "--out", tmp_path / "run", "--steps", 1,
        "--batch-size", len(datasets), "--workers", 0,
    )  # fmt: skip
    shards = [argument for out in datasets.values() for argument in ("--shards", out)]
    vlm3train_(
        "eval", "--model", tmp_path / "run", *shards, "--limit", 2, "--questions-per-image", 2,
        "--max-new-tokens", 4, "--json", tmp_path / "eval.json",
    )  # fmt: skip
    rows = json.loads((tmp_path / "eval.json").read_text())["rows"]
    return {(Path(row["dataset"]).name, row["task"]): row for row in rows}


def build(name: str, root: Path, out: Path, tasks: str, *flags: object) -> Path:
    vlm3data_("build", name, "--root", root, "--out", out, "--tasks", tasks, "--workers", 1, *flags)
    vlm3data_("verify", out)
    return out


def test_every_synthetic_layout_is_built_trained_on_and_scored(tmp_path, tiny):
    built = {}
    for name, (layout, tasks, flags) in SYNTHETIC.items():
        root = tmp_path / "raw" / name
        vlm3data_("synth", "--layout", name, "--out", root, *layout)
        root /= BELOW.get(name, "")
        built[name] = build(name, root, tmp_path / name, tasks, "--focal", 220, *flags)
    rows = step_and_score(tmp_path, tiny, **built)
    wanted = {(name, task) for name, (_, tasks, _) in SYNTHETIC.items() for task in tasks.split(",")}
    assert set(rows) == wanted
    for name, out in built.items():
        assert not Dataset(str(out)).about["drops"], name


def test_the_real_nuscenes_frame(tmp_path, tiny):
    root = needs_realdata("nuscenes")
    out = build("nuscenes", root, tmp_path / "nuscenes", "depth,objects", "--focal", 300)
    assert Dataset(str(out)).about["samples"] == 6
    assert set(step_and_score(tmp_path, tiny, nuscenes=out)) == {("nuscenes", "depth"), ("nuscenes", "objects")}


def test_real_posed_frames_as_a_folder_and_packed_as_a_scan(tmp_path, tiny):
    root = needs_realdata("rgbd_7scenes")
    tasks = "depth,correspondence,pose"
    folder = build("rgbd", root, tmp_path / "rgbd", tasks, "--focal", 300)
    scan = build(
        "scannet", packed(root, tmp_path / "scans"), tmp_path / "scannet", tasks, "--focal", 300, "--stride", 1
    )
    rows = step_and_score(tmp_path, tiny, rgbd=folder, scannet=scan)
    assert {task for _, task in rows} == {"depth", "correspondence", "pose"}
    assert len(rows) == 6


def packed(root: Path, out: Path) -> Path:
    """Write the frames of a posed RGB-D folder as one scan; 65535, which is no depth there, becomes 0."""
    pictures = []
    for colour in sorted(root.glob("*.color.jpg")):
        stem = colour.name.removesuffix(".color.jpg")
        stored = np.asarray(Image.open(root / f"{stem}.depth.png")).astype(np.uint16)
        pose = np.loadtxt(root / f"{stem}.pose.txt").astype(np.float32)
        pictures.append((pose, colour.read_bytes(), np.where(stored == 65535, 0, stored)))
    intrinsics = np.eye(4, dtype=np.float32)
    intrinsics[:3, :3] = np.loadtxt(root / "camera-intrinsics.txt")
    base = np.eye(4, dtype=np.float32)
    header = SensHeader(
        "StructureSensor", intrinsics, base, intrinsics, base, "jpeg", "zlib_ushort", (640, 480), (640, 480), 1000.0,
        len(pictures),
    )  # fmt: skip
    (out / "scene0000_00").mkdir(parents=True)
    with (out / "scene0000_00" / "scene0000_00.sens").open("wb") as file:
        write_sens(file, header, pictures)
    return out


def test_the_real_building_front(tmp_path, tiny):
    root = needs_realdata("colmap_lund")
    out = build("colmap", root, tmp_path / "colmap", "correspondence,pose", "--focal", 300)
    rows = step_and_score(tmp_path, tiny, colmap=out)
    assert set(rows) == {("colmap", "correspondence"), ("colmap", "pose")}
    kinds = {q["truth"]["kind"] for q in questions(out) if q["task"] == "pose"}
    assert "distance" not in kinds, "a reconstruction has no metres"


def questions(out: Path) -> list[dict]:
    dataset = Dataset(str(out))
    return [question for i in range(len(dataset)) for question in dataset[i].record["questions"]]
