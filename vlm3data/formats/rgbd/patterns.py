"""How the files of a posed RGB-D folder are named and what is in them: a small YAML, checked once.

A pattern is a path below a scene's directory: `{frame}` stands for what names a frame, `*` for anything else in a
file's name. In place of a pattern, a list: a text file with a line `frame path` for each file, below the list's own
directory.
"""

from __future__ import annotations

import posixpath
import re
from typing import Annotated, Literal

from fsspec import AbstractFileSystem
from pydantic import AfterValidator, Field, model_validator

from vlm3data.config import Config
from vlm3data.storage import read_whole
from vlm3data.types import DepthKind, UserError


def _below(path: str) -> str:
    if path.startswith("/") or ".." in path.split("/"):
        raise ValueError("must be a path below the scene's directory")
    if "{frame}" in posixpath.dirname(path) or "*" in posixpath.dirname(path) or path.count("{frame}") > 1:
        raise ValueError("{frame} may stand once, and like * only in the file's name")
    return path


def _pixel_centre(position: float) -> float:
    if position not in (0.0, 0.5, 1.0):
        raise ValueError("must be 0, 0.5 or 1")
    return position


Pattern = Annotated[str, Field(min_length=1), AfterValidator(_below)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Real = Annotated[float, Field(allow_inf_nan=False)]


class Intrinsics(Config):
    """Numbers, or a file that holds them: for the scene, or with {frame} in its path for each frame."""

    fx: Positive | None = None
    fy: Positive | None = None
    cx: Real | None = None
    cy: Real | None = None
    size: tuple[int, int] | None = None
    """Width and height, pixels; else those of the first image."""
    path: Pattern | None = None
    """Looked for in the scene's directory, then in the root."""
    format: Literal["matrix", "fx_fy_cx_cy", "w_h_fx_fy_cx_cy", "json", "key_value"] = "matrix"
    """A 3x3 or 4x4 matrix in rows; four or six numbers; a matrix under `key` in JSON or in a line `key = numbers`."""
    key: str = ""
    """Of json and key_value."""
    fields: tuple[str, ...] = ()
    """Of json, in place of a matrix: the keys of fx, fy, cx, cy, or of the width, the height and these."""
    columns: bool = False
    """Whether the matrix is written column by column."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Intrinsics:
        numbers = [self.fx, self.fy, self.cx, self.cy]
        if (self.path is None) == (None in numbers) or (self.path is not None and numbers != [None] * 4):
            raise ValueError("give fx, fy, cx and cy, or a path")
        if self.fields and (self.format != "json" or len(self.fields) not in (4, 6)):
            raise ValueError("fields are four or six keys of json")
        if self.size is not None and min(self.size) < 1:
            raise ValueError("size must be positive")
        return self


class Depth(Config):
    """The depth maps."""

    path: Pattern
    metres_per_count: Positive
    """0.001 for millimetres, 0.0002 for TUM's 1/5000 m, 1 for floats in metres."""
    kind: DepthKind
    """z along the optical axis, or euclidean along the ray."""
    missing: tuple[float, ...] = (0.0, 65535.0)
    """Stored values that mean unknown; NaN always does."""
    range_m: tuple[Positive, Positive] = (0.1, 10.0)
    """What the sensor can measure; depths outside are dropped and counted."""
    intrinsics: Intrinsics | None = None
    """Of the depth map where they are not the image's, scaled to the map's size."""
    confidence: Pattern | None = None
    """Maps of the depth map's size that say how sure the recorder is of each value."""
    confidence_min: Positive | None = None
    """Depth is unknown where the stored confidence is below."""

    @model_validator(mode="after")
    def _both_of_confidence(self) -> Depth:
        if (self.confidence is None) != (self.confidence_min is None):
            raise ValueError("confidence and confidence_min go together")
        return self


class Pose(Config):
    """The camera poses."""

    path: Pattern
    format: Literal["matrix", "tum", "axis_angle", "log", "json"]
    """A matrix a frame; a trajectory of one file: TUM's, ARKitScenes', Redwood's; JSON, a frame each or one for all."""
    convention: Literal["world_from_cam", "cam_from_world"]
    axes: Literal["opencv", "opengl"] = "opencv"
    """Of the camera: y down and z forward, or y up and z backward (ARKit)."""
    key: str = ""
    """json: where in the file the pose, or the list or mapping of poses, stands."""
    fields: Annotated[tuple[str, ...], Field(min_length=12, max_length=12)] | None = None
    """json, a file a frame: the keys of the upper three rows' numbers, where each stands for itself."""
    first_frame: int = 0
    """log, and a list in json: the number of the frame that entry 0 belongs to."""


class Patterns(Config):
    """A posed RGB-D folder."""

    scenes: str = "."
    """Which directories below the root are scenes: names with * in them, `.` for the root itself."""
    splits: dict[str, tuple[str, ...]] = {}
    """Names of splits, each with patterns of its scenes; scenes in none are `other`."""
    image: Pattern
    depth: Depth | None = None
    pose: Pose | None = None
    intrinsics: Intrinsics
    first_pixel_centre: Annotated[float, AfterValidator(_pixel_centre)]
    """Where the intrinsics see the centre of the top-left pixel: 0 (OpenCV, ScanNet), 0.5, or 1 (MATLAB)."""
    registered: bool
    """Whether pixel for pixel the depth map shows what the image shows."""
    metric: bool
    """False where the scale is arbitrary."""
    max_difference_s: Positive | None = None
    """Frames are named by time, and the nearest depth and pose belong to an image if this near."""
    seconds_per_count: Positive = 1.0
    """Of the times in names and trajectories."""
    licence: str = "as the owner of the images says"


def _scannet(intrinsics: Intrinsics, depth_intrinsics: Intrinsics | None = None) -> Patterns:
    return Patterns(
        image="frame-{frame}.color.*",
        depth=Depth(path="frame-{frame}.depth.*", metres_per_count=0.001, kind="z", intrinsics=depth_intrinsics),
        pose=Pose(path="frame-{frame}.pose.txt", format="matrix", convention="world_from_cam"),
        intrinsics=intrinsics,
        first_pixel_centre=0.0,
        registered=True,
        metric=True,
    )


def _from_info(path: str) -> Patterns:
    return _scannet(
        Intrinsics(path=path, format="key_value", key="m_calibrationColorIntrinsic"),
        Intrinsics(path=path, format="key_value", key="m_calibrationDepthIntrinsic"),
    )


SCANNET_CPP = (_scannet(Intrinsics(path="camera-intrinsics.txt")), _from_info("_info.txt"), _from_info("info.txt"))
"""Without a YAML: the naming of ScanNet's C++ export, which 7-Scenes shares, by the file of its intrinsics."""


def listed(fs: AbstractFileSystem, directory: str, pattern: str) -> dict[str, str]:
    """Return the paths that match by their `{frame}`, in the order of its number, or as a list file has them.

    No directory is no files. Raises UserError where two files are one frame's.
    """
    folder = posixpath.join(directory, posixpath.dirname(pattern)).rstrip("/")
    if "{frame}" not in pattern:
        return _from_list(fs, directory, pattern)
    name = _regex(posixpath.basename(pattern))
    try:
        paths = sorted(str(path) for path in fs.ls(folder, detail=False))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    found: dict[str, str] = {}
    for path in paths:
        if match := name.fullmatch(posixpath.basename(path)):
            if match[1] in found:
                raise UserError(f"{path}: frame {match[1]} is also {found[match[1]]}; {pattern} must name one of them")
            found[match[1]] = path
    return dict(sorted(found.items(), key=lambda item: _order(item[0])))


def _from_list(fs: AbstractFileSystem, directory: str, name: str) -> dict[str, str]:
    path = posixpath.join(directory, name)
    try:
        text = read_whole(fs, path).decode("utf-8", "replace")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#", 1)[0].split(maxsplit=1)
        if not words:
            continue
        target = words[1].strip() if len(words) == 2 else ""
        if not target or target.startswith("/") or ".." in target.split("/"):
            raise UserError(f"{path}: line {number} is not 'frame path' with a path below {posixpath.dirname(path)}")
        if words[0] in found:
            raise UserError(f"{path}: line {number}: frame {words[0]} is listed twice")
        found[words[0]] = posixpath.join(posixpath.dirname(path), target)
    return found


def _regex(name: str) -> re.Pattern[str]:
    parts = re.split(r"(\{frame\}|\*)", name)
    return re.compile("".join({"{frame}": "([^/]+?)", "*": "[^/]*"}.get(part, re.escape(part)) for part in parts))


def _order(frame: str) -> tuple[float, str]:
    try:
        return float(frame), frame
    except ValueError:
        return float("inf"), frame
