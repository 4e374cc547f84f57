"""Synthetic street scenes in nuScenes v1.0's files: tables, six cameras, LiDAR, with the exact truth beside them.

What the original's readers trip over is there: every sensor fires at its own time from a car that moves and turns,
the global frame lies elsewhere, and the LiDAR sits above and behind the cameras, so that points of the background
project into what stands before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Literal

import cv2
import numpy as np
from pydantic import Field, model_validator

from vlm3data.contracts import Config
from vlm3data.engine_local import run
from vlm3data.formats.nuscenes.splits import SCENES, SPLITS_OF
from vlm3data.layouts._nuscenes.job import SceneJob
from vlm3data.layouts._nuscenes.rig import CHANNELS
from vlm3data.layouts._nuscenes.scene import write_scene
from vlm3data.layouts._nuscenes.tables import join_parts, make_room_for_parts, token, write_fixed_tables
from vlm3data.layouts._nuscenes.truth import README
from vlm3data.storage import open_store, write_whole
from vlm3data.types import UserError

_ONE_IN = 6
"""One scene in six is for validation, as in the original, from the second on: two scenes have one of each."""


class NuscenesOptions(Config):
    """How much to write."""

    tables: Literal["v1.0-mini", "v1.0-trainval"] = "v1.0-mini"
    """Whose scene names are taken: mini has 10, trainval 850."""
    scenes: int = Field(4, ge=1)
    samples: int = Field(10, ge=1, le=200)
    """Key frames of each scene, two a second: each has six images and a turn of the LiDAR."""
    sweeps: int = Field(2, ge=0, le=9)
    """Turns of the LiDAR between two key frames."""
    width_px: int = Field(1600, ge=32)
    height_px: int = Field(900, ge=18)
    """Of the images; focal lengths go with the width."""
    truth: bool = True
    """Whether to write the exact truth; a dataset that is only a load needs none."""
    workers: int | None = Field(None, ge=1)
    """Processes; by default one per core. The bytes do not depend on it."""

    @model_validator(mode="after")
    def _has_names(self) -> NuscenesOptions:
        if self.scenes > (most := len(scene_names(self.tables))):
            raise ValueError(f"{self.tables} has {most} scenes: ask for more samples of each instead")
        return self


def scene_names(version: str) -> list[str]:
    """Return the official names of a version's scenes, those of its two splits mixed."""
    train, val = (sorted(SCENES[split]) for split in SPLITS_OF[version])
    names = []
    while train or val:
        from_val = val and (not train or len(names) % _ONE_IN == 1)
        names.append((val if from_val else train).pop(0))
    return names


class NuscenesLayout:
    """Writes nuScenes."""

    Options = NuscenesOptions

    def __init__(self, options: NuscenesOptions, seed: int) -> None:
        """Take what to write; everything else follows from the seed."""
        self.options = options
        self.seed = seed

    def write(self, out: str, progress: Callable[[int, int], None]) -> dict[str, Any]:
        """Write the dataset below the directory `out`; return counts."""
        fs, root = open_store(out)
        version = self.options.tables
        if fs.exists(root) and fs.ls(root):
            raise UserError(f"{out}: there are files already; name a new directory")
        folders = [version, "maps", *(f"samples/{channel}" for channel in CHANNELS), "sweeps/LIDAR_TOP"]
        folders += [f"truth/{channel}" for channel in CHANNELS if channel != "LIDAR_TOP" and self.options.truth]
        for folder in folders:
            fs.makedirs(f"{root}/{folder}", exist_ok=True)
        make_room_for_parts(fs, root)
        jobs = self._jobs(out)
        counts: Counter[str] = Counter(scenes=len(jobs))
        for done, (_, counted) in enumerate(run(write_scene, jobs, workers=self.options.workers), 1):
            counts += counted
            progress(done, len(jobs))
        join_parts(fs, root, version, len(jobs))
        map_file = f"maps/{token(self.seed, 'map')}.png"
        write_whole(fs, f"{root}/{map_file}", cv2.imencode(".png", np.zeros((16, 16), np.uint8))[1].tobytes())
        write_fixed_tables(fs, root, version, self.seed, CHANNELS, map_file, [job.token("log") for job in jobs])
        if self.options.truth:
            write_whole(fs, f"{root}/truth/README.txt", README.encode())
        return dict(counts) | {"tables": version}

    def _jobs(self, out: str) -> list[SceneJob]:
        options = self.options
        names = scene_names(options.tables)[: options.scenes]
        size = (options.width_px, options.height_px)
        return [
            SceneJob(out, self.seed, index, name, options.samples, options.sweeps, size, options.truth)
            for index, name in enumerate(names)
        ]
