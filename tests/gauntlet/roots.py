"""Whole datasets as their sources find them: one file of many is damaged, and every frame is read and looked at."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tests.conftest import jsonl_line, write_jsonl
from tests.gauntlet.sandbox import Wrong
from tests.tiny_nuscenes import tiny
from tests.tiny_spatialrgpt import write_bench
from vlm3data import registry
from vlm3data.build import BuildConfig, samples
from vlm3data.images import decode_rgb
from vlm3data.types import Drop, Frame, Question

TINY_SCAN = {
    "scans": 1, "frames": 2, "lost": 0.0, "color_width_px": 64, "color_height_px": 48, "depth_width_px": 32,
    "depth_height_px": 24,
}  # fmt: skip
TINY_MODEL = {"scenes": 1, "images": 3, "width_px": 64, "height_px": 48, "points": 30, "domains": ["room"]}


class Root(NamedTuple):
    """How a small dataset is made, where its root is, and what the source is told."""

    source: str
    write: Callable[[Path], object]
    root: str = "."
    options: dict[str, Any] = {}
    build: dict[str, Any] | None = None
    """With these settings whole samples are made, not frames only."""


def _layout(name: str, **options: Any) -> Callable[[Path], None]:
    def write(out: Path) -> None:
        kind = registry.load("layout", name)
        kind(kind.Options.model_validate(options), 1).write(str(out), lambda done, total: None)
        shutil.rmtree(out / "truth", ignore_errors=True)

    return write


def _jsonl(out: Path) -> None:
    write_jsonl(out, [jsonl_line(n) for n in range(3)])


ROOTS = {
    "jsonl": Root("jsonl", _jsonl),
    "build of jsonl": Root("jsonl", _jsonl, build={"focal_px": 150, "tasks": {"depth": {"pixels": 5}}}),
    "rgbd": Root("rgbd", _layout("rgbd", form="7scenes", scenes=1, frames=1), "data"),
    "nuscenes": Root("nuscenes", lambda out: tiny(("scene-0061",), samples=1).write(out)),
    "build of nuscenes": Root(
        "nuscenes",
        lambda out: tiny(("scene-0061",), samples=1).write(out),
        build={"focal_px": 300, "tasks": {"depth": {"pixels": 5}, "objects": {}}, "limit": 2},
    ),
    "scannet .sens": Root("scannet", _layout("scannet", form="sens", **TINY_SCAN), "scans", {"stride": 1}),
    "scannet exports": Root("scannet", _layout("scannet", form="python", **TINY_SCAN), "scans", {"stride": 1}),
    "build of scannet": Root(
        "scannet", _layout("scannet", form="sens", **TINY_SCAN), "scans", {"stride": 1},
        build={"focal_px": 80, "tasks": {"depth": {"pixels": 5}, "pose": {}, "correspondence": {}}},
    ),
    "colmap binary": Root("colmap", _layout("colmap", **TINY_MODEL)),
    "colmap text": Root("colmap", _layout("colmap", form="text", **TINY_MODEL)),
    "colmap dense": Root("colmap", _layout("colmap", dense=True, **TINY_MODEL)),
    "megadepth d2net": Root("megadepth", _layout("megadepth", places=1, photos=3, long_side_px=64)),
    "megadepth loftr": Root("megadepth", _layout("megadepth", places=1, photos=3, long_side_px=64, form="loftr")),
    "wai": Root("wai", _layout("wai", scenes=1, frames=3, width_px=64, height_px=64)),
    "build of wai": Root(
        "wai", _layout("wai", scenes=1, frames=3, width_px=64, height_px=64),
        build={"focal_px": 60, "tasks": {"depth": {"pixels": 5}, "pose": {}}},
    ),
    "spatialrgpt": Root("spatialrgpt", write_bench),
}  # fmt: skip


def walk(spec: Root, root: Path) -> str:
    """Read everything below `root`; return `read`, or `dropped` where any frame was; Wrong for unsound values."""
    if spec.build is not None:
        return _build(spec, root)
    kind = registry.load("source", spec.source)
    source = kind(str(root), kind.Options.model_validate(spec.options), 0)
    dropped = False
    for scene in source.scenes(None):
        frames = list(source.frames(scene))
        if len(frames) != scene.num_frames:
            raise Wrong(f"{len(frames)} frames of the {scene.num_frames} that were listed")
        for frame in frames:
            dropped = not _is_sound(frame, source.facts.depth_range_m) or dropped
    return "dropped" if dropped else "read"


def _is_sound(frame: Frame, range_m: tuple[float, float]) -> bool:
    """Look at all that a frame has; return False where a part of it is dropped by name."""
    sound = True
    for part in (_image, _depth, _points, _boxes, _tracks):
        try:
            part(frame, range_m)
        except Drop:
            sound = False
    if frame.world_from_cam is not None:
        _rigid(frame.world_from_cam)
    return sound


def _image(frame: Frame, range_m: tuple[float, float]) -> None:
    image = frame.image()
    size = (frame.camera.width_px, frame.camera.height_px) if frame.camera else None
    rgb = decode_rgb(image, size) if isinstance(image, bytes) else image
    if rgb.ndim != 3 or rgb.shape[2] != 3:
        raise Wrong(f"an image of shape {rgb.shape}")


def _depth(frame: Frame, range_m: tuple[float, float]) -> None:
    camera = frame.depth_camera or frame.camera
    if frame.depth_m is None:
        return
    depth_m = frame.depth_m()
    if camera is None or depth_m.shape != (camera.height_px, camera.width_px):
        raise Drop("depth_size_mismatch")  # as the build does
    if (depth_m < 0).any():
        raise Wrong("a negative depth")


def _points(frame: Frame, range_m: tuple[float, float]) -> None:
    if frame.points is not None:
        points = frame.points()
        if len(points.pixel_px) != len(points.depth_m):
            raise Wrong("labels without a pixel")


def _boxes(frame: Frame, range_m: tuple[float, float]) -> None:
    for box in frame.boxes() if frame.boxes else ():
        _rigid(box.world_from_box)
        if not (np.isfinite(box.size_m).all() and min(box.size_m) > 0):
            raise Wrong(f"a box of size {box.size_m}")


def _tracks(frame: Frame, range_m: tuple[float, float]) -> None:
    if frame.tracks is not None:
        tracks = frame.tracks()
        if len(tracks.point) != len(tracks.xy_px):
            raise Wrong("tracks without a place")


def _rigid(pose: np.ndarray) -> None:
    if not np.isfinite(pose).all() or not np.allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-3):
        raise Wrong(f"a pose that is none: {pose.tolist()}")


def _build(spec: Root, root: Path) -> str:
    from vlm3data import build_config

    build_config.forget_source()
    values = {"source": spec.source, "root": str(root), "options": spec.options, "max_drop_rate": 1.0, "align": "none"}
    made = 0
    for sample in samples(BuildConfig.check(values | (spec.build or {}), "gauntlet")):
        made += 1
        for question in sample.record["questions"]:
            problem = registry.load("task", question["task"]).problem_with(Question(**question), sample.record)
            if problem:
                raise Wrong(f"{sample.key}: {problem}")
    return "read" if made else "dropped"
