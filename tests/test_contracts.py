"""What every source, task and calibrator must keep, ours and those plugged in from outside."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from tests import fake_networks
from tests.conftest import jsonl_line, write_jsonl
from tests.exif_photos import with_exif
from tests.tiny_nuscenes import tiny
from tests.tiny_scannet import write_scans
from tests.tiny_spatialrgpt import write_bench
from vlm3data import cli, registry
from vlm3data.build import BuildConfig, build, samples
from vlm3data.checking import check_source
from vlm3data.exif import FOCAL_LENGTH_35MM
from vlm3data.images import decode_rgb
from vlm3data.shards.verify import verify
from vlm3data.sources.synthetic import SyntheticOptions, SyntheticSource
from vlm3data.types import Drop, Frame, SceneRef, UserError

SMALL = {"synthetic": {"scenes": 2, "width_px": 96, "height_px": 64}}
"""Options that keep a source's contract test short."""
CALIBRATED: dict[str, Any] = {"calibrator": "fov", "calibrator_options": {"hfov_deg": 60.0}}
"""For sources without intrinsics of their own; it leaves the others alone."""
TASKS = {"colmap": {"correspondence": {}}, "megadepth": {"correspondence": {}}, "spatialrgpt": {"objects": {}}}
"""What is asked of a source that has no metric depth."""
ERRORS = ("_px", "_deg", "_grid", "_m", "abs_rel")
"""How the names of metrics end that are errors rather than shares of right answers."""


def root_of(source: str, tmp_path: Path) -> str:
    if source == "jsonl":
        return str(write_jsonl(tmp_path / "root", [jsonl_line(number) for number in range(3)]))
    if source == "colmap":
        size = {"width_px": 160, "height_px": 120}
        return str(write_layout("colmap", tmp_path / "root", scenes=1, images=6, points=150, **size))
    if source == "megadepth":
        return str(write_layout("megadepth", tmp_path / "root", places=1, photos=6, long_side_px=160))
    if source == "nuscenes":
        return str(tiny().write(tmp_path / "root"))
    if source == "ibims":
        return str(write_layout("ibims", tmp_path / "root", images=2))
    if source == "rgbd":
        return str(write_layout("rgbd", tmp_path / "root", scenes=1, frames=3) / "data")
    if source == "scannet":
        return str(write_scans(tmp_path / "root", scans=2, frames=11))
    if source == "spatialrgpt":
        return str(write_bench(tmp_path / "root"))
    if source == "wai":
        return str(
            write_layout("wai", tmp_path / "root", scenes=1, frames=3, width_px=160, height_px=120) / "synthetic"
        )
    return ""


def write_layout(name: str, out: Path, **options: object) -> Path:
    layout = registry.load("layout", name)
    layout(layout.Options(**options), 5).write(str(out), lambda *_: None)
    return out


def opened(source: str, tmp_path: Path):
    kind = registry.load("source", source)
    return kind(root_of(source, tmp_path), kind.Options(**SMALL.get(source, {})), 5)


def frames_of(source) -> list[tuple[SceneRef, Frame]]:
    return [(scene, frame) for scene in source.scenes(None) for frame in source.frames(scene)]


@pytest.mark.parametrize("name", registry.names("source"))
def test_a_source_keeps_what_every_source_must(name, tmp_path):
    check_source(lambda: opened(name, tmp_path))


@pytest.mark.parametrize("name", registry.names("source"))
def test_what_a_source_builds_verifies(name, tmp_path):
    options = SMALL.get(name, {})
    tasks = TASKS.get(name, {"depth": {}})
    config = BuildConfig(
        source=name, root=root_of(name, tmp_path), options=options, tasks=tasks, focal_px=120.0, seed=5, **CALIBRATED
    )
    build(config, str(tmp_path / "out"), workers=1)
    assert verify(str(tmp_path / "out")).problems == []


@pytest.mark.parametrize("name", registry.names("task"))
def test_a_task_closes_its_loop_on_every_source(name, tmp_path):
    kind = registry.load("task", name)
    task = kind(kind.Options())
    for source in registry.names("source"):
        config = BuildConfig(
            source=source,
            root=root_of(source, tmp_path / source),
            options=SMALL.get(source, {}),
            tasks={name: {}},
            focal_px=120.0,
            limit=2,
            **CALIBRATED,
        )
        for sample in samples(config):
            for question in sample.questions:
                prediction = task.parse(question.answer, question.truth)
                assert prediction is not None
                check_scores(task.score(prediction, question.truth), perfect=True)
                assert task.parse("I cannot tell.", question.truth) is None
                check_scores(task.score(None, question.truth), perfect=False)
                assert task.problem_with(question, sample.record) is None


@pytest.mark.parametrize("name", registry.names("calibrator"))
def test_a_calibrator_answers_with_a_pinhole_of_the_image_or_a_drop(name, monkeypatch):
    fake_networks.install(monkeypatch)
    kind = registry.load("calibrator", name)
    calibrator = kind(kind.Options(**CALIBRATED["calibrator_options"] if name == "fov" else {}))
    assert orjson.loads(orjson.dumps(dict(calibrator.about()))) == calibrator.about()
    streets = SyntheticSource("", SyntheticOptions(domains=("street",), scenes=2, views=1, width_px=480), 3)
    pictures = [(frame.image(), None) for _, frame in frames_of(streets)]
    pictures += [(np.zeros((40, 60, 3), np.uint8), b"no image")]
    pictures += [(decode_rgb(data), data) for data in (with_exif({FOCAL_LENGTH_35MM: 28}), with_exif({}))]
    answered = 0
    for rgb, encoded in pictures:
        try:
            made = calibrator.calibrate(rgb, encoded)
        except Drop as drop:
            assert drop.reason.isidentifier()  # noqa: PT017
            continue
        answered += 1
        assert (made.camera.height_px, made.camera.width_px) == rgb.shape[:2]
        assert made.camera.distortion is None
        assert made.method == name
        assert made.focal_sigma_rel is None or 0 < made.focal_sigma_rel < 1
        assert orjson.loads(orjson.dumps(dict(made.evidence))) == made.evidence
        assert calibrator.calibrate(rgb, encoded) == made
    assert answered


def check_scores(scores: Mapping[str, float], *, perfect: bool) -> None:
    """Shares of right answers are 1 for the truth and 0 for silence; an error says its unit, and silence has none."""
    for metric, value in scores.items():
        if metric.endswith(ERRORS):
            assert value >= 0 if perfect else np.isnan(value), metric
        else:
            assert value == (1.0 if perfect else 0.0), metric


@pytest.mark.parametrize("kind", sorted(registry.PLUGINS))
def test_every_registered_name_loads_and_an_unknown_one_lists_the_choices(kind):
    for name in registry.names(kind):
        assert registry.load(kind, name)
    with pytest.raises(UserError, match=f"unknown {kind} 'nonsense'; known: "):
        registry.load(kind, "nonsense")


@pytest.mark.parametrize("kind", ["source", "task", "layout", "calibrator"])
def test_no_option_hides_behind_a_flag_of_the_command(kind):
    commands = {"layout": cli.synth}
    taken = {"help", "version", *inspect.signature(commands.get(kind, cli.build)).parameters}
    shared = {"published"}  # one flag for the build and the sources whose published curation differs
    for name in registry.names(kind):
        assert not taken & set(registry.load(kind, name).Options.model_fields) - shared, name
