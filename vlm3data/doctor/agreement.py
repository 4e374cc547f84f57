"""Do a recording's poses, depth and cameras say the same? What they describe is one place, seen again and again.

Labels of a pose that is inverted, or whose axes are others, or of a distance taken for a z-depth, look well and are all
wrong; no file is missing then. But the depth of one frame, carried into another by their poses, is no longer the depth
that the other has there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np

from vlm3data.contracts import Source
from vlm3data.doctor.check import Check
from vlm3data.geometry import invert_pose, project, unproject
from vlm3data.types import Camera, DepthKind, Drop, Float32Array, Float64Array, Frame, SceneRef, SourceFacts

SCENES, STARTS, STEPS = 3, 3, (2, 6, 15)
"""Pairs are frames and those so many later: near enough to overlap, far enough for a wrong pose to show."""
PIXELS = 1000
IN_VIEW = 0.2
"""A pair says something only where this share of the one's pixels lies in the other."""
TELLING, CLEARLY, BAD = 3.0, 2.0, 0.05
"""Ratio of the worst to the best reading's error where a pair tells them apart; of errors where one is refused; and the
share by which the depths of a sound recording never differ (Kinect: 0.6 %, 7-Scenes)."""
OFF_CENTRE = 0.1
"""Of the image's size: where no lens that is not shifted has its axis."""

_FLIP = np.diag([1.0, -1.0, -1.0, 1.0])
_Forms = tuple[Callable[[Float64Array], Float64Array], ...]
_READINGS: dict[str, _Forms] = {
    "": (np.asarray,),
    "with the camera's y and z turned round (axes)": (lambda pose: pose @ _FLIP,),
    "inverted (convention, perhaps axes too)": (invert_pose, lambda pose: invert_pose(pose) @ _FLIP),
}
"""As given, and what poses are mistaken for; inverted ones have two forms, by the axes that they are read with now."""
_OTHER: dict[DepthKind, DepthKind] = {"z": "euclidean", "euclidean": "z"}
"""What depth is mistaken for: the last of the readings, with the poses as given."""


def check_agreement(source: Source, scenes: Sequence[SceneRef]) -> Iterator[Check]:
    """Yield what the frames of some scenes say about each other, where they have dense depth and poses."""
    kind: DepthKind = "euclidean" if source.facts.depth_kind == "euclidean" else "z"
    errors: list[list[float]] = []
    for scene in scenes[:: max(1, -(-len(scenes) // SCENES))]:
        frames = list(islice(source.frames(scene), 10_000))
        for frame in frames[:1]:
            yield from _off_centre(frame)
            yield from _out_of_range(frame, source.facts)
        for start in range(0, len(frames), max(1, len(frames) // STARTS)):
            pairs = [(frames[start], frames[start + step]) for step in STEPS if start + step < len(frames)]
            errors += [found for pair in pairs if (found := _errors(*pair, kind)) is not None]
    if errors:
        yield verdict(np.array(errors), kind)


def verdict(errors: Float64Array, kind: DepthKind) -> Check:
    """Say what the errors (pairs, readings) mean; 1 is a pair that sees nothing in common.

    Where pairs share nothing as given, one of the other readings may well see something by chance: only one that fits
    accuses the poses.
    """
    seen = errors[errors[:, 0] < 1, 0]
    given = float(np.median(seen)) if len(seen) else 1.0
    off = f"depth carried along them to a later frame is {given:.1%} off there (median)"
    telling = errors[errors.max(1) > TELLING * errors.min(1)]
    if len(telling):
        ((best, _),) = Counter(telling.argmin(1).tolist()).most_common(1)
        before, after = np.median(telling[:, [0, best]], axis=0)
        if after < BAD and before > CLEARLY * after:
            better = f"{off}; they fit {before / after:.0f} times as well"
            if best < len(_READINGS):
                found = f"{better} {list(_READINGS)[best]}"
                return Check("fail", "poses", found, "labels of such poses are wrong")
            found = f"{better} with depth read as {_OTHER[kind]}, not {kind} (kind)"
            return Check("fail", "poses", found, "labels of such depth are wrong")
    if not len(seen):
        return Check("ok", "poses", "neighbouring frames see too little in common to tell whether they are right")
    if given > BAD:
        return Check("warn", "poses", off, "poses, intrinsics, or the unit or kind of depth may be wrong")
    more = "" if len(telling) else "; the camera moves too little to tell right from wrong"
    return Check("ok", "poses", off + more)


def _errors(one: Frame, other: Frame, kind: DepthKind) -> list[float] | None:
    """Return the share by which depth differs with each reading of the poses; None where it cannot be told."""
    if one.world_from_cam is None or other.world_from_cam is None:
        return None
    here, there = _depth(one), _depth(other)
    if here is None or there is None:
        return None
    v, u = np.nonzero(np.isfinite(here[0]))
    if not len(u):
        return None
    some = np.linspace(0, len(u) - 1, PIXELS).astype(int)
    pixel_px, depth_m = np.stack([u[some], v[some]], 1) + 0.5, here[0][v[some], u[some]]
    poses = np.asarray(one.world_from_cam, float), np.asarray(other.world_from_cam, float)
    readings: list[tuple[_Forms, DepthKind]] = [(forms, kind) for forms in _READINGS.values()]
    readings.append(((np.asarray,), _OTHER[kind]))
    found = []
    for forms, as_kind in readings:
        points_m = unproject(here[1], pixel_px, depth_m, as_kind)
        moves = [invert_pose(read(poses[1])) @ read(poses[0]) for read in forms]
        found.append(min(_difference(points_m @ m[:3, :3].T + m[:3, 3], *there, as_kind) for m in moves))
    return found if min(found) < 1 else None


def _depth(frame: Frame) -> tuple[Float32Array, Camera] | None:
    camera = frame.depth_camera or frame.camera
    if frame.depth_m is None or camera is None:
        return None
    try:
        return frame.depth_m(), camera
    except Drop:  # it is told where frames are tried
        return None


def _difference(points_m: Float64Array, depth_m: Float32Array, camera: Camera, kind: DepthKind) -> float:
    """Return the median share by which a map differs from points in its camera's frame; 1 where it shows few."""
    at = np.floor(project(camera, points_m))
    inside = ((at >= 0) & (at < (camera.width_px, camera.height_px))).all(axis=1)
    x, y = at[inside].astype(int).T
    expected_m = points_m[inside, 2] if kind == "z" else np.linalg.norm(points_m[inside], axis=1)
    off = np.abs(depth_m[y, x] / expected_m - 1)
    off = off[np.isfinite(off)]
    return min(1.0, float(np.median(off))) if len(off) > IN_VIEW * len(points_m) else 1.0


def _off_centre(frame: Frame) -> Iterator[Check]:
    if (camera := frame.camera) is None:
        return
    x, y = camera.cx_px / camera.width_px, camera.cy_px / camera.height_px
    if max(abs(x - 0.5), abs(y - 0.5)) > OFF_CENTRE:
        found = f"the principal point lies at {x:.0%} of the width and {y:.0%} of the height, not near the middle"
        yield Check("warn", "intrinsics", found, "are cx and cy swapped, or written for another image size?")


def _out_of_range(frame: Frame, facts: SourceFacts) -> Iterator[Check]:
    found = _depth(frame) if facts.metric and facts.depth_range_m else None
    if found is None or not np.isfinite(found[0]).any():
        return
    median_m, (near_m, far_m) = float(np.nanmedian(found[0])), facts.depth_range_m
    if not near_m <= median_m <= far_m:
        does = f"a build uses {near_m:g} to {far_m:g} m alone: is the unit of depth right?"
        yield Check("fail", "depth", f"half of {frame.key} is beyond {median_m:g} m", does)
