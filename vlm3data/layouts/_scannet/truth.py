"""The exact truth of a synthetic scan: poses, boxes, how much of each is seen, depth at colour pixels."""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import orjson
from fsspec import AbstractFileSystem

from vlm3data.layouts._scannet.stage import Stage
from vlm3data.storage import write_whole
from vlm3data.synth.trace import Traced
from vlm3data.types import Float64Array

DEPTH_MAPS = 4
"""Frames of a scan, evenly picked, whose exact depth is written: several megabytes each."""


@dataclass(frozen=True)
class Truth:
    """Collects what is true of a scan's frames while they are drawn."""

    fs: AbstractFileSystem
    directory: str
    stage: Stage
    frames: list[dict[str, Any]] = field(default_factory=list)

    def note(self, number: int, traced: Traced) -> None:
        """Keep what one frame shows, and write its exact depth where it is among the picked."""
        stage = self.stage
        alone = traced.alone_px
        owned = stage.packed.thing >= 0
        seen = np.bincount(stage.packed.thing[owned], traced.surface_px[owned], minlength=len(alone))
        visible = {
            str(thing): [int(alone[thing]), round(float(seen[thing] / alone[thing]), 6)]
            for thing in np.flatnonzero(alone).tolist()
        }
        pose = stage.world_from_cam[number].tolist()
        self.frames.append({"world_from_cam": pose, "lost": stage.lost[number], "objects": visible})
        every = max(1, len(stage.world_from_cam) // DEPTH_MAPS)
        if number % every == 0 and number < DEPTH_MAPS * every:
            file = io.BytesIO()
            np.save(file, stage.depth_at_color_pixels(traced), allow_pickle=False)
            write_whole(self.fs, f"{self.directory}/{stage.name}-{number:06d}.depth.npy", file.getvalue())

    def write(self) -> None:
        """Write `<scan>.json`: the colour camera's poses in the aligned world, the boxes, both cameras.

        Per frame, `objects` says of each in the picture how many colour pixels it would cover by itself, and which
        share of them it does.
        """
        stage = self.stage
        boxes = [
            {
                "label": thing.label,
                "world_from_box": _world_from_box(thing.centre_m, thing.yaw_rad).tolist(),
                "size_m": thing.size_m,
                "round": thing.round,
            }
            for thing in stage.packed.world.things
        ]
        about = {
            "color_camera": asdict(stage.color_camera),
            "depth_camera": asdict(stage.depth_camera),
            "color_from_depth": stage.color_from_depth.tolist(),
            "boxes": boxes,
            "frames": self.frames,
        }
        write_whole(self.fs, f"{self.directory}/{stage.name}.json", orjson.dumps(about))


def _world_from_box(centre_m: tuple[float, float, float], yaw_rad: float) -> Float64Array:
    pose = np.eye(4)
    c, s = np.cos(yaw_rad), np.sin(yaw_rad)
    pose[:2, :2] = [[c, -s], [s, c]]
    pose[:3, 3] = centre_m
    return pose
