"""The poses of a posed RGB-D folder's frames, whatever file they are in, in our convention."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
from fsspec import AbstractFileSystem

from vlm3data.formats import poses as text
from vlm3data.formats.rgbd.calibration import value_at
from vlm3data.formats.rgbd.patterns import Patterns, Pose, listed
from vlm3data.geometry import invert_pose
from vlm3data.storage import read_whole
from vlm3data.types import Drop, Float64Array, UserError

_OPENCV_FROM_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])

Finder = Callable[[str, int], Any]
"""Takes a frame's name and its place among the images; returns what a pose is made of, or raises Drop."""


def read_poses(
    fs: AbstractFileSystem, directory: str, patterns: Patterns, frames: Sequence[str]
) -> list[Float64Array | Drop | None]:
    """Return `world_from_cam` (4, 4) of each frame, or what is wrong with it; None where the folder has no poses.

    The Drops: pose_missing, pose_unreadable, pose_not_finite, pose_not_rigid. A trajectory that cannot be read is
    a UserError.
    """
    pose = patterns.pose
    if pose is None:
        return [None] * len(frames)
    if "{frame}" in pose.path:
        find = _a_file_each(fs, directory, pose, patterns, frames)
    else:
        where = posixpath.join(directory, pose.path)
        find = _one_file(_read(fs, where), where, pose, patterns)
    found: list[Float64Array | Drop | None] = []
    for place, frame in enumerate(frames):
        try:
            found.append(_in_our_convention(find(frame, place), pose))
        except Drop as drop:
            found.append(drop)
    return found


def nearest(wanted: Mapping[str, str], frames: Sequence[str], patterns: Patterns) -> dict[str, str]:
    """Return what `wanted` holds for each frame: by its name, or by the nearest time within `max_difference_s`."""
    if patterns.max_difference_s is None:
        return {frame: wanted[frame] for frame in frames if frame in wanted}
    names = list(wanted)
    times = np.array([_time(name, patterns) for name in names])
    order = np.argsort(times, kind="stable")
    found: dict[str, str] = {}
    for frame in frames:
        at = nearest_in(times[order], _time(frame, patterns), patterns.max_difference_s)
        if at is not None:
            found[frame] = wanted[names[order[at]]]
    return found


def nearest_in(times_s: Float64Array, time_s: float, within_s: float) -> int | None:
    """Return the index in ascending `times_s` that is nearest to `time_s`, None where none is near enough."""
    after = int(np.searchsorted(times_s, time_s))
    near = [i for i in (after - 1, after) if 0 <= i < len(times_s)]
    best = min(near, key=lambda i: abs(times_s[i] - time_s), default=None)
    return best if best is not None and abs(times_s[best] - time_s) <= within_s else None


def _time(frame: str, patterns: Patterns) -> float:
    try:
        return float(frame) * patterns.seconds_per_count
    except ValueError as error:
        raise UserError(f"max_difference_s is set, but the frame {frame!r} is not named by a time") from error


def _in_our_convention(matrix: Float64Array, pose: Pose) -> Float64Array:
    found = text.rigid(matrix)
    if pose.convention == "cam_from_world":
        found = invert_pose(found)
    return found @ _OPENCV_FROM_OPENGL if pose.axes == "opengl" else found


def _a_file_each(
    fs: AbstractFileSystem, directory: str, pose: Pose, patterns: Patterns, frames: Sequence[str]
) -> Finder:
    paths = nearest(listed(fs, directory, pose.path), frames, patterns)
    # At once: over a network, a request a frame would take minutes.
    order = sorted(set(paths.values()))
    files = dict(zip(order, cast("Any", fs).cat_ranges(order, None, None, on_error="return"), strict=True))

    def find(frame: str, place: int) -> Float64Array:
        data = files.get(paths.get(frame, ""))
        if data is None:
            raise Drop("pose_missing", f"{directory}: frame {frame}")
        if not isinstance(data, bytes):
            raise Drop("pose_unreadable", f"{paths[frame]}: {data}")
        if pose.format == "json":
            try:
                return _of_json(value_at(data, pose.key, paths[frame], pose.fields or ()))
            except Drop as drop:
                raise Drop("pose_unreadable", drop.detail) from drop
        return text.matrix_of(data.decode("utf-8", "replace").split())

    return find


def _one_file(data: bytes, where: str, pose: Pose, patterns: Patterns) -> Finder:
    if pose.format in ("tum", "axis_angle"):
        return _trajectory(data.decode("utf-8", "replace"), where, pose, patterns)
    if pose.format == "log":
        entries: Any = text.parse_log(data.decode("utf-8", "replace"), where)
    elif pose.format == "json":
        try:
            entries = value_at(data, pose.key, where)
        except Drop as drop:
            raise UserError(drop.detail) from drop
        if not isinstance(entries, list | dict):
            raise UserError(f"{where}: {pose.key!r} is neither a list nor a mapping of poses")
    else:
        raise UserError(f"{where}: a pose of format {pose.format} needs a path with {{frame}}: a file a frame")
    from_list = "{frame}" not in patterns.image

    def find(frame: str, place: int) -> Float64Array:
        key: Any = frame
        if not (isinstance(entries, dict) and pose.format == "json"):
            key = (place if from_list else _number(frame, where)) - pose.first_frame
        missing = key not in entries if isinstance(entries, dict) else not 0 <= key < len(entries)
        if missing:
            raise Drop("pose_missing", f"{where}: frame {frame}")
        return _of_json(entries[key]) if pose.format == "json" else entries[key]

    return find


def _trajectory(content: str, where: str, pose: Pose, patterns: Patterns) -> Finder:
    columns = text.TUM_COLUMNS if pose.format == "tum" else text.AXIS_ANGLE_COLUMNS
    rows = text.parse_rows(content, columns, where)
    if patterns.max_difference_s is None:
        raise UserError(f"{where}: a trajectory is matched by time: the patterns need max_difference_s")
    times_s = rows[:, 0] * patterns.seconds_per_count
    if not np.isfinite(times_s).all():
        raise UserError(f"{where}: a time is not finite")
    order = np.argsort(times_s, kind="stable")
    times_s, rows, within_s = times_s[order], rows[order], patterns.max_difference_s

    def find(frame: str, place: int) -> Float64Array:
        at = nearest_in(times_s, _time(frame, patterns), within_s)
        if at is None:
            raise Drop("pose_missing", f"{where}: frame {frame}")
        numbers = rows[at, 1:]
        if pose.format == "tum":
            return text.from_quaternion(numbers[:3], numbers[3:])
        return text.from_axis_angle(numbers[:3], numbers[3:])

    return find


def _of_json(value: Any) -> Float64Array:
    """Return a pose from 16 or 12 numbers in rows, or from the 7 of Record3D: qx qy qz qw tx ty tz."""
    if isinstance(value, list) and len(value) == 7:
        try:
            numbers = [float(number) for number in value]
        except (TypeError, ValueError) as error:
            raise Drop("pose_unreadable", str(error)) from error
        return text.from_quaternion(numbers[4:], numbers[:4])
    return text.matrix_of(value)


def _number(frame: str, where: str) -> int:
    try:
        return int(frame)
    except ValueError as error:
        raise UserError(f"{where}: its poses are numbered, but the frame {frame!r} is not") from error


def _read(fs: AbstractFileSystem, path: str) -> bytes:
    try:
        return read_whole(fs, path)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise UserError(f"{path}: there is no such file, but the patterns say that the poses are in it") from error
