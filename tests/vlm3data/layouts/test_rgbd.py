"""Synthetic RGB-D folders: what the source rgbd reads of each agrees with the truth, and of a faulty YAML does not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.conftest import directory_bytes
from vlm3data.build import BuildConfig, samples
from vlm3data.geometry import invert_pose, project, unproject
from vlm3data.layouts.rgbd import RgbdLayout
from vlm3data.sources.rgbd import RgbdSource
from vlm3data.types import Frame

FORMS = ("7scenes", "tum", "redwood", "arkit", "polycam", "record3d")
YAMLS = Path(__file__).parents[3] / "docs" / "rgbd"
FRAMES = 6


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory):
    @cache
    def write(form: str) -> Path:
        out = tmp_path_factory.mktemp(form)
        RgbdLayout(RgbdLayout.Options(form=form, scenes=1, frames=FRAMES), 7).write(str(out), lambda *_: None)
        return out

    return write


def patterns_of(form: str) -> dict:
    return yaml.safe_load((YAMLS / f"{form}.yaml").read_text()) | {"registered": True}


def frames_of(out: Path, patterns: dict) -> list[Frame]:
    file = out / "patterns.yaml"
    file.write_text(yaml.safe_dump(patterns))
    source = RgbdSource(str(out / "data"), RgbdSource.Options(patterns=str(file)), 0)
    return [frame for scene in source.scenes(None) for frame in source.frames(scene)]


def truth_of(out: Path) -> Iterator[tuple[str, dict, np.ndarray]]:
    for path in sorted((out / "truth").rglob("*.json")):
        for name, about in json.loads(path.read_text()).items():
            yield name, about, np.load(path.with_suffix("") / f"{name}.npy")


def moved(frame: Frame, other: Frame) -> float:
    """Return the median share by which the depths of two frames differ, one carried into the other."""
    assert frame.depth_m
    assert other.depth_m
    assert frame.depth_camera
    assert other.depth_camera
    here, there = frame.depth_m(), other.depth_m()
    v, u = np.nonzero(np.isfinite(here))
    points = unproject(frame.depth_camera, np.stack([u, v], 1) + 0.5, here[v, u])
    pose = invert_pose(other.world_from_cam) @ frame.world_from_cam
    points = points @ pose[:3, :3].T + pose[:3, 3]
    at = np.floor(project(other.depth_camera, points))
    inside = ((at >= 0) & (at < there.shape[::-1])).all(1)
    x, y = at[inside].astype(int).T
    error = np.abs(there[y, x] / points[inside, 2] - 1)
    return float(np.nanmedian(error)) if len(error) else 1.0


def faults(out: Path, frames: list[Frame]) -> set[str]:
    """Return what about the frames is not as the truth says, or does not fit together."""
    found = set()
    for frame, (_, about, depth_m) in zip(frames, truth_of(out), strict=True):
        assert frame.camera
        assert frame.depth_camera
        assert frame.depth_m
        for camera, truth in ((frame.camera, about["camera"]), (frame.depth_camera, about["depth_camera"])):
            numbers = [getattr(camera, key) - truth[key] for key in ("fx_px", "fy_px", "cx_px", "cy_px")]
            if np.abs(numbers).max() > 1e-6:
                found.add("camera")
        if np.abs(frame.world_from_cam - about["world_from_cam"]).max() > 1e-9:
            found.add("pose")
        read = frame.depth_m()
        if not np.isnan(read[:12, :16]).all():
            found.add("missing")
        known = np.isfinite(read) & np.isfinite(depth_m)
        if known.mean() < 0.4 or np.abs(read[known] / depth_m[known] - 1).max() > 0.01:
            found.add("depth")
    if moved(frames[0], frames[-1]) > 0.004:
        found.add("neighbours")
    return found


@pytest.mark.parametrize("form", FORMS)
def test_cameras_poses_and_depth_are_the_truth(written, form):
    assert faults(written(form), frames_of(written(form), patterns_of(form))) == set()


PLANTED = {
    "inverted pose": ({"pose": {"convention": "cam_from_world"}}, {"pose", "neighbours"}),
    "wrong unit": ({"depth": {"metres_per_count": 0.00025}}, {"depth", "neighbours"}),
    "half a pixel": ({"first_pixel_centre": 1}, {"camera"}),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("fault", PLANTED)
def test_a_fault_in_the_yaml_shows(written, form, fault):
    changes, expected = PLANTED[fault]
    patterns = patterns_of(form)
    for key, change in changes.items():
        patterns[key] = patterns[key] | change if isinstance(change, dict) else change
    assert expected <= faults(written(form), frames_of(written(form), patterns))


def test_more_faults_show(written):
    arkit, tum = patterns_of("arkit"), patterns_of("tum")
    arkit["pose"]["axes"] = "opencv"
    assert {"pose", "neighbours"} <= faults(written("arkit"), frames_of(written("arkit"), arkit))
    seven = patterns_of("7scenes")
    seven["depth"]["missing"] = [0]
    assert "missing" in faults(written("7scenes"), frames_of(written("7scenes"), seven))
    tum["max_difference_s"] = 0.001  # less than depth is late
    assert all(frame.depth_m is None for frame in frames_of(written("tum"), tum))


PHONES = ("arkit", "polycam", "record3d")


def labels_off(out: Path, patterns: dict) -> float:
    """Return the largest share by which a depth label differs from the true depth of its surface."""
    file = out / "patterns.yaml"
    file.write_text(yaml.safe_dump(patterns))
    options = {"patterns": str(file)}
    config = BuildConfig(source="rgbd", root=str(out / "data"), options=options, tasks={"depth": {"pixels": 300}})
    worst = 0.0
    for sample, (_, about, depth_m) in zip(samples(config), truth_of(out), strict=True):
        view = sample.record["views"][0]
        for question in sample.questions:
            at = (np.add(question.truth["pixel_px"], 0.5) + view["crop_xy_px"]) / view["scale"]
            u, v = np.floor(at * about["depth_camera"]["width_px"] / about["camera"]["width_px"]).astype(int)
            worst = max(worst, abs(question.truth["depth_m"] / depth_m[v, u] - 1))
    return worst


@pytest.mark.parametrize("form", PHONES)
def test_no_label_comes_of_a_pixel_that_the_phone_was_not_sure_of(written, form):
    about = patterns_of(form)
    assert labels_off(written(form), about) < 0.01
    del about["depth"]["confidence"], about["depth"]["confidence_min"]
    assert "depth" in faults(written(form), frames_of(written(form), about))
    assert labels_off(written(form), about) > 0.02


@pytest.mark.parametrize("kind", ["z", "euclidean"])
def test_labels_agree_with_the_exact_depth_at_their_pixel_and_the_other_kind_does_not(written, kind):
    out = written("redwood")
    file = out / f"{kind}.yaml"
    patterns = patterns_of("redwood")
    patterns["depth"]["kind"] = kind
    file.write_text(yaml.safe_dump(patterns))
    config = BuildConfig(
        source="rgbd", root=str(out / "data"), options={"patterns": str(file)}, focal_px=525.0, align="none"
    )
    worst = 0.0
    for sample, (_, _, depth_m) in zip(samples(config), truth_of(out), strict=True):
        for question in sample.questions:
            u, v = question.truth["pixel_px"]
            worst = max(worst, abs(question.truth["depth_m"] / depth_m[v, u] - 1))
    assert worst < 0.01 if kind == "z" else worst > 0.1


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        RgbdLayout(RgbdLayout.Options(form="tum", scenes=1, frames=1), seed).write(
            str(tmp_path / name), lambda *_: None
        )
    a, b, c = (directory_bytes(tmp_path / name) for name in "abc")
    assert a == b != c
    assert len(a) == 5
