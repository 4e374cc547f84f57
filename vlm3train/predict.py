"""Answers about one photo: its pixels are moved into the image that the model sees by the build's own code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vlm3data import labels, registry
from vlm3data.build_config import BuildConfig
from vlm3data.formats.ply import write_points
from vlm3data.geometry import move_of, to_grid, unproject
from vlm3data.images import decode_rgb, encode_jpeg
from vlm3data.shards import ShardTally
from vlm3data.tasks.depth import FACTS, FIELDS, DepthTask
from vlm3data.types import (
    Camera,
    DepthPoints,
    Drop,
    Float64Array,
    Frame,
    Int64Array,
    Question,
    Sample,
    SourceFacts,
    UInt8Array,
    UserError,
    View,
)
from vlm3data.views import single_view
from vlm3data.wording import PACKS, WordingPack
from vlm3train.label_facts import FILE, LabelFacts

Pixel = tuple[int, int]
Ask = Callable[[Sequence[tuple[Sample, Question]]], list[str]]
PAPERS = LabelFacts(focal_px=1000.0, focal_mode="uniform", align="crop", published=False, depth_grid=2000)
"""For a model that no vlm3.json lies beside, such as a released one."""
JPEG_QUALITY = 95
"""As a build's default: the model was trained on images that went through it."""


class Depth(NamedTuple):
    """What came of asking for the depth of one pixel of the photo."""

    at: Pixel
    """Of the photo, turned upright."""
    pixel_px: Pixel | None
    """Of the image that the model sees; None where unifying the focal length and aligning cut the pixel away."""
    grid_xy: tuple[int, int] | None = None
    question: str = ""
    answer: str = ""
    depth_m: float | None = None
    """None where nothing was asked, or the answer names no length."""


@dataclass(frozen=True)
class Photo:
    """A photo as a model sees it."""

    name: str
    view: View
    config: BuildConfig

    @property
    def sample(self) -> Sample:
        """Return what is asked about."""
        record = {"key": self.name, "source": "photo", "scene": self.name, "questions": []}
        return Sample.of(record, (encode_jpeg(self.view.image, JPEG_QUALITY),))

    def pixel_px(self, at: Pixel) -> Pixel | None:
        """Return where a pixel of the photo went; None where it was cut away.

        Raises UserError where it is not in the photo.
        """
        camera, config = self.view.source_camera, self.config
        if not (0 <= at[0] < camera.width_px and 0 <= at[1] < camera.height_px):
            size = f"{camera.width_px}x{camera.height_px}"
            raise UserError(f"--at {at[0]},{at[1]} lies outside {self.name}, which is {size} pixels (upright)")
        move = move_of(camera, config.focal_px, config.focal_mode, config.align, published=config.published)
        moved, _ = labels.moved(DepthPoints(np.array([at]), np.ones(1)), move, Counter())
        return (int(moved.pixel_px[0, 0]), int(moved.pixel_px[0, 1])) if len(moved.pixel_px) else None


def settled(model: str, trained: LabelFacts, **said: Any) -> LabelFacts:
    """Return how to ask: what was `said` (None: nothing), else as the model was trained, else as the paper does.

    Raises UserError where a model was trained in several ways and nobody said which is meant.
    """
    known = {}
    for name, value in said.items():
        known[name] = getattr(trained, name) if value is None else value
        if known[name] is None and trained.datasets:
            raise UserError(f"{model}/{FILE}: the model's datasets differ in {name}; {_SAY[name]}")
        if known[name] is None:
            known[name] = getattr(PAPERS, name)
    return LabelFacts(**known)


_SAY = {
    "focal_px": "say which with --focal",
    "focal_mode": "say which with --focal-mode",
    "align": "say which with --align",
    "label_depth": "say which with --label-depth",
    "published": 'write into that file which rule moved most of its pixels, `"published": false` or true',
    "depth_grid": 'write one of their grids into that file, `"depth_grid": 2000`, or ask it all yourself (--question)',
}
"""What a user can do where nothing is known of a setting."""


def open_photo(path: str, how: LabelFacts, focal_px: float | None, calibrator: Any) -> Photo:
    """Return the photo at `path`, upright, seen with the focal length `focal_px` or what the `calibrator` says.

    Raises UserError where it cannot be read, or its camera is not known.
    """
    try:
        encoded = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    config = BuildConfig(
        source="photo",
        focal_px=how.focal_px or 1000.0,
        focal_mode=how.focal_mode or "uniform",
        align=how.align or "crop",
        published=bool(how.published),
    )
    name = Path(path).name
    try:
        frame = Frame(key=name, scene=name, image=lambda: encoded, upright=True)
        if focal_px is not None:
            rgb = decode_rgb(encoded, upright=True)
            camera = Camera.centred(focal_px, rgb.shape[1], rgb.shape[0])
            frame = Frame(key=name, scene=name, image=lambda: rgb, camera=camera)
        return Photo(name, single_view(frame, config, _NO_SOURCE, ShardTally(), calibrator), config)
    except Drop as drop:
        if drop.reason.startswith("image_"):
            raise UserError(f"{path}: is no image that can be used ({drop})") from drop
        raise UserError(f"{path}: its intrinsics are not known ({drop}); give --focal-px or a --calibrator") from drop


def depths(photo: Photo, at: Sequence[Pixel], task: DepthTask, kind: str, ask: Ask) -> list[Depth]:
    """Return the depth of each pixel `at` of the photo, asked in one batch."""
    moved = [photo.pixel_px(pixel) for pixel in at]
    size = (photo.view.camera.width_px, photo.view.camera.height_px)
    wording, grid = task.pack.fitting(depth_kind=kind)[0], task.options.grid
    found = []
    for pixel, there in zip(at, moved, strict=True):
        if there is None:
            found.append(Depth(pixel, None))
            continue
        x, y = to_grid([there], size, grid)[0].tolist()
        found.append(Depth(pixel, there, (x, y), wording.question.format_map({"x": x, "y": y, "grid": grid})))
    sample = photo.sample
    asked = [one for one in found if one.question]
    answers = iter(ask([(sample, Question("depth", one.question, "", {})) for one in asked]) if asked else ())
    return [
        one._replace(answer=(text := next(answers)), depth_m=task.parse(text, {})) if one.question else one
        for one in found
    ]


def depth_task(how: LabelFacts, wordings: str | None, model: str) -> DepthTask:
    """Return the depth task with the grid and the wordings that the model was trained with.

    Raises UserError where the wordings are a pack that is not ours and nobody says where it is.
    """
    options = {"grid": how.depth_grid or 2000, "wordings": wordings or ""}
    if not wordings and how.depth_wordings:
        packs = [str(path) for path in sorted(PACKS.glob("depth*.yaml"))]
        same = [path for path in packs if WordingPack.open(path, FIELDS, FACTS).digest == how.depth_wordings]
        if not same:
            raise UserError(f"{model}/{FILE}: trained with a wording pack that is not ours; say where with --wordings")
        options["wordings"] = same[0]
    return DepthTask(DepthTask.Options.check(options, where="vlm3train predict"))


def grid_of(camera: Camera, along: int) -> list[Pixel]:
    """Return pixels evenly spread over an image, `along` of them on its longer side."""
    step = max(camera.width_px, camera.height_px) / along
    columns, rows = (max(1, round(side / step)) for side in (camera.width_px, camera.height_px))
    return [
        (int((i + 0.5) * camera.width_px / columns), int((j + 0.5) * camera.height_px / rows))
        for j in range(rows)
        for i in range(columns)
    ]


def point_cloud(photo: Photo, found: Sequence[Depth], kind: Any) -> tuple[Float64Array, UInt8Array]:
    """Return the points (n, 3), metres in the photo's camera axes, and their colours (n, 3), of what has a depth."""
    known = [one for one in found if one.depth_m is not None and one.depth_m > 0]
    pixel_px: Int64Array = np.array([one.pixel_px for one in known], np.int64).reshape(-1, 2)
    depth_m = np.array([one.depth_m for one in known], np.float64)
    points_m = unproject(photo.view.camera, pixel_px + 0.5, depth_m, kind)
    return points_m, photo.view.image[pixel_px[:, 1], pixel_px[:, 0]]


def write_cloud(path: str, points_m: Float64Array, rgb: UInt8Array) -> None:
    """Write a PLY file of coloured points."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with Path(path).open("wb") as file:
        write_points(file, points_m, rgb)


def calibrator_named(name: str, options: dict[str, Any]) -> Any:
    """Return a calibrator, opened."""
    kind = registry.load("calibrator", name)
    return kind(kind.Options.check(options, where=f"calibrator {name}"))


_NO_SOURCE = SourceFacts(
    name="photo",
    licence="",
    metric=True,
    depth_kind="z",
    depth_range_m=(0.0, float("inf")),
    pixel_centre="no intrinsics are stored",
    splits=(),
)
