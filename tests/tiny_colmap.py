"""A small synthetic reconstruction for tests, and the same one again with something changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np

from vlm3data.formats.colmap.cameras import parse_binary
from vlm3data.formats.colmap.model import Model
from vlm3data.formats.colmap.writing import WrittenPoints, write_model
from vlm3data.layouts.colmap import ColmapLayout
from vlm3data.sources.colmap import ColmapSource
from vlm3data.types import Frame

FS = fsspec.filesystem("file")
SMALL = {"scenes": 1, "images": 6, "width_px": 240, "height_px": 180, "points": 150, "domains": ["room"]}


def write_tiny(out: Path, seed: int = 3, **options: object) -> Path:
    """Write the layout's one scene and return its directory."""
    ColmapLayout(ColmapLayout.Options.model_validate(SMALL | options), seed).write(str(out), lambda *_: None)
    return out / "scene-0000"


def frames_at(root: Path | str, **options: object) -> list[Frame]:
    """Return the frames of the first scene."""
    source = ColmapSource(str(root), ColmapSource.Options.model_validate(options), 0)
    return list(source.frames(next(iter(source.scenes(None)))))


def rewrite(model: Path, change, cameras=None) -> None:
    """Write a model again: `change(number, image, observations)` gives the new image, `cameras` the new cameras.

    Of the points only what is read is kept.
    """
    old = Model(FS, str(model), "binary")
    stored = parse_binary((model / "cameras.bin").read_bytes(), "")
    table = old.points
    images = [change(number, image, old.images.observations(number)) for number, image in enumerate(old.images.images)]
    write_model(FS, str(model), "binary", cameras(stored) if cameras else stored, images, _unchanged(table))


def rescale(model: Path, scale: float) -> None:
    """Multiply the unit of a model."""
    old = Model(FS, str(model), "binary")
    images = [
        (image._replace(translation=tuple(scale * t for t in image.translation)), old.images.observations(number))
        for number, image in enumerate(old.images.images)
    ]
    stored = parse_binary((model / "cameras.bin").read_bytes(), "")
    write_model(FS, str(model), "binary", stored, images, _unchanged(replace(old.points, xyz=old.points.xyz * scale)))


def _unchanged(table) -> WrittenPoints:
    """Return points with tracks of the same lengths; nothing reads which images are in them."""
    first = np.concatenate([[0], np.cumsum(table.track_length)])
    rgb = np.zeros((len(table.xyz), 3), np.uint8)
    return WrittenPoints(table.point_id, table.xyz, rgb, table.error_px, first, np.zeros((first[-1], 2), np.int64))
