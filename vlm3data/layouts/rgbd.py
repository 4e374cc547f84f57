"""Synthetic rooms as folders of posed RGB-D frames, in the naming of 7-Scenes, TUM, Redwood or an iPhone's apps.

<out>/data/...                        what `--root` of the source rgbd takes, with docs/rgbd/<form>.yaml
<out>/truth/<scene>.json              per frame its image, camera (our pixels) and pose (our axes)
<out>/truth/<scene>/<frame>.npy       float32 z-depth at the centres of the depth map's pixels
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any, Literal

import numpy as np
import orjson
from pydantic import Field

from vlm3data.config import Config
from vlm3data.layouts._rgbd.forms import FORMS
from vlm3data.layouts._rgbd.room import Shot, filmed
from vlm3data.randomness import rng_for
from vlm3data.storage import open_store, write_whole


class RgbdLayout:
    """Writes `scenes` rooms, each filmed on one way through it."""

    class Options(Config):
        """How much to write, and in which naming."""

        form: Literal["7scenes", "tum", "redwood", "arkit", "polycam", "record3d"] = "7scenes"
        """Whose naming, units, intrinsics and pose convention."""
        scenes: Annotated[int, Field(ge=1)] = 2
        frames: Annotated[int, Field(ge=1)] = 60
        """Of each scene."""

    def __init__(self, options: Options, seed: int) -> None:
        self.options, self.seed = options, seed

    def write(self, out: str, progress: Callable[[int, int], None]) -> dict[str, Any]:
        """Write everything below `out` and return the counts."""
        fs, root = open_store(out)
        form = FORMS[self.options.form]()
        for number in range(self.options.scenes):
            progress(number, self.options.scenes)
            scene = form.scene(number)
            about: dict[str, Any] = {}
            files: dict[str, bytes] = {}
            for shot in filmed(form.cameras, self.options.frames, rng_for(self.seed, "rgbd layout", scene)):
                name = form.add(files, shot)
                about[name] = _truth(shot, form.world_from_room)
                files[f"truth/{scene}/{name}.npy"] = _npy(shot)
            data = {path if path.startswith("truth/") else f"data/{scene}/{path}": files[path] for path in files}
            data[f"truth/{scene}.json"] = orjson.dumps(about, option=orjson.OPT_INDENT_2)
            for path, content in data.items():
                fs.makedirs(f"{root}/{path.rpartition('/')[0]}", exist_ok=True)
                write_whole(fs, f"{root}/{path}", content)
        progress(self.options.scenes, self.options.scenes)
        return {"scenes": self.options.scenes, "frames": self.options.scenes * self.options.frames, "form": form.name}


def _truth(shot: Shot, world_from_room: np.ndarray) -> dict[str, Any]:
    cameras = {"camera": asdict(shot.camera), "depth_camera": asdict(shot.depth_camera)}
    return {**cameras, "world_from_cam": (world_from_room @ shot.room_from_cam).tolist()}


def _npy(shot: Shot) -> bytes:
    file = io.BytesIO()
    np.save(file, shot.depth_m, allow_pickle=False)
    return file.getvalue()
