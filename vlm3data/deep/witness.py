"""A second witness for the labels: from the recorded cameras and the source's raw truth, in plain numpy and OpenCV.

Nothing of `vlm3data.geometry`, `labels` or the tasks is used here: a mistake there must not be made again here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import cv2
import numpy as np

from vlm3data.types import Float64Array, Frame, SourceFacts

TOLERANCE = {"depth": 1e-4, "pose": 1e-3, "objects": 1e-3, "correspondence": 0.1}
"""Of the deviations below: the share of the depth; radians and shares; the share of the distance; pixels."""
UNITS = {"depth": "of depth", "pose": "rad", "objects": "of distance", "correspondence": "px"}
_OPENCV = ("brown_conrady", "simple_radial", "radial", "opencv", "full_opencv")
"""Lenses that are OpenCV's, but for zeros left out."""

Numbers = Mapping[str, Any]


def deviations(record: Numbers, frames: Sequence[Frame], facts: SourceFacts, *, published: bool) -> dict[int, float]:
    """Return how far the truth of each question that can be checked is from the source's, by the question's number.

    `frames` are the source's, in the order of the record's views. A question without raw truth is left out.
    """
    of_task: dict[str, list[int]] = {}
    for number, question in enumerate(record["questions"]):
        of_task.setdefault(question["task"], []).append(number)
    found: dict[int, float] = {}
    for task, numbers in of_task.items():
        truths = [record["questions"][number]["truth"] for number in numbers]
        if task == "depth":
            off = _depth(truths, record["views"][0], frames[0], facts, published)
        elif task == "pose":
            off = [_pose(truth, frames) for truth in truths]
        elif task == "objects":
            off = _objects(truths, frames[0])
        elif task == "correspondence":
            off = _correspondence(truths, record["views"], frames, facts)
        else:
            off = None
        found |= dict(zip(numbers, off, strict=True)) if off is not None else {}
    return found


def _depth(
    truths: Sequence[Numbers], view: Numbers, frame: Frame, facts: SourceFacts, published: bool
) -> list[float] | None:
    source, camera = view["source_camera"], view["camera"]
    if frame.points is not None:
        points = frame.points()
        pixel_px, depth_m = points.pixel_px, points.depth_m
    elif frame.depth_m is not None:
        map_m = frame.depth_m().astype(np.float64)
        v, u = np.nonzero(np.isfinite(map_m))
        pixel_px, depth_m = np.stack([u, v], axis=1), map_m[v, u]
        if frame.depth_camera is not None:
            ray = _rays(asdict(frame.depth_camera), pixel_px + 0.5)
            seen_px = None if ray is None else _project(source, ray)
            if seen_px is None:
                return None
            pixel_px = np.floor(seen_px)
    else:
        return None
    ray = _rays(source, pixel_px + 0.5)
    if ray is None:
        return None
    # As if the image had been taken by a pinhole: then scaled, and what was cut off taken away.
    pinhole_px = ray * (source["fx_px"], source["fy_px"]) + (source["cx_px"], source["cy_px"])
    at_px = (pinhole_px - (0.5 if published else 0.0)) * view["scale"]
    euclidean_per_z = np.sqrt(1.0 + (ray**2).sum(axis=1))
    wanted = truths[0]["depth_kind"]
    if wanted != facts.depth_kind:
        depth_m = depth_m * euclidean_per_z if wanted == "euclidean" else depth_m / euclidean_per_z
    labels: dict[tuple[int, int], list[float]] = {}
    for nudge in (-1e-6, 1e-6):  # what lies on a border between two pixels may have been counted to either
        cell = np.floor(at_px + nudge) - view["crop_xy_px"]
        inside = ((cell >= 0) & (cell < (camera["width_px"], camera["height_px"]))).all(axis=1)
        asked = {tuple(truth["pixel_px"]) for truth in truths}
        for x, y, value in zip(*cell[inside].astype(int).T.tolist(), depth_m[inside].tolist(), strict=True):
            if (x, y) in asked:
                labels.setdefault((x, y), []).append(value)
    return [
        min((abs(value / truth["depth_m"] - 1) for value in labels.get(tuple(truth["pixel_px"]), ())), default=np.inf)
        for truth in truths
    ]


def _pose(truth: Numbers, frames: Sequence[Frame]) -> float:
    one, other = (frame.world_from_cam for frame in frames)
    if one is None or other is None:
        return np.inf
    relative = np.linalg.inv(one) @ other
    away = float(np.linalg.norm(relative[:3, 3]))
    turned = np.asarray(truth["rotation"]) @ relative[:3, :3].T
    off = float(np.linalg.norm(turned - np.eye(3)) / np.sqrt(2))
    if truth["translation_direction"] is not None:
        off = max(off, float(np.linalg.norm(relative[:3, 3] / away - truth["translation_direction"])))
    return max(off, abs(truth["distance_m"] - away) / max(away, 0.05)) if truth["distance_m"] is not None else off


def _objects(truths: Sequence[Numbers], frame: Frame) -> list[float] | None:
    if frame.boxes is None or frame.world_from_cam is None:
        return None
    cam_from_world = np.linalg.inv(frame.world_from_cam)
    boxes = [((cam_from_world @ box.world_from_box)[:3, 3], np.sort(box.size_m)) for box in frame.boxes()]

    def off(region: Numbers) -> float:
        if "cam_from_box" not in region:
            return 0.0  # the benchmark's own question: there is no box in space
        centre, size = np.asarray(region["cam_from_box"])[:3, 3], np.sort(region["size_m"])
        apart = (max(np.linalg.norm(centre - place), np.abs(size - extent).max()) for place, extent in boxes)
        return float(min(apart, default=np.inf) / max(np.linalg.norm(centre), 0.1))

    return [max(map(off, truth["regions"]), default=np.inf) for truth in truths]


def _correspondence(
    truths: Sequence[Numbers], views: Sequence[Numbers], frames: Sequence[Frame], facts: SourceFacts
) -> list[float] | None:
    """Lift each asked pixel by the first depth map, carry it over by the poses, and see where it lands."""
    one, other = (frame.world_from_cam for frame in frames)
    if one is None or other is None or any(frame.depth_m is None for frame in frames) or facts.depth_kind != "z":
        return None
    depth_m = frames[0].depth_m().astype(np.float64)  # pyright: ignore[reportOptionalCall]
    inner = asdict(frames[0].depth_camera) if frames[0].depth_camera else views[0]["source_camera"]
    # Beside the source's own images a match says exactly where it lies.
    asked_px = np.array([truth.get("xy_px") or np.add(truth["pixel_px"], 0.5) for truth in truths])
    ray = _rays(views[0]["camera"], asked_px)
    seen_px = _project(inner, ray) if ray is not None else None
    if ray is None or seen_px is None:
        return None
    # Between the four nearest pixels, inverse depth is a plane wherever the surface is one.
    low = np.floor(seen_px - 0.5).astype(int)
    low = np.clip(low, 0, np.array(depth_m.shape[::-1]) - 2)
    x, y = (seen_px - 0.5 - low).T
    with np.errstate(divide="ignore"):
        inverse = 1.0 / np.stack([depth_m[low[:, 1] + j, low[:, 0] + i] for j in (0, 1) for i in (0, 1)])
    z_m = 1.0 / (inverse * np.stack([(1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y])).sum(axis=0)
    points = np.concatenate([ray, np.ones((len(ray), 1))], axis=1) * z_m[:, None]
    moved = np.concatenate([points, np.ones((len(ray), 1))], axis=1) @ (np.linalg.inv(other) @ one).T
    there_px = _project(views[1]["camera"], moved[:, :2] / moved[:, 2:3])
    if there_px is None:
        return None
    off_px = np.linalg.norm(there_px - [truth["pixel2_px"] for truth in truths], axis=1)
    return np.where(np.isfinite(off_px), off_px, np.inf).tolist()


def _rays(camera: Numbers, xy_px: np.ndarray) -> Float64Array | None:
    """Return x and y (n, 2) of the rays, z = 1, through pixels; None where OpenCV does not know the lens."""
    plain = (xy_px - (camera["cx_px"], camera["cy_px"])) / (camera["fx_px"], camera["fy_px"])
    lens, params = _lens(camera)
    if lens == "none" or not len(plain):
        return plain
    if lens == "unknown":
        return None
    if lens == "fisheye":
        stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 200, 1e-13)
        points = plain.reshape(-1, 1, 2)
        return np.asarray(cv2.fisheye.undistortPoints(points, np.eye(3), params, criteria=stop), np.float64).reshape(
            -1, 2
        )
    ray = plain.copy()
    for _ in range(100):  # a fixed point; OpenCV's own function stops after five steps
        ray += plain - _through_opencv(ray, params)
    return ray


def _project(camera: Numbers, ray: Float64Array) -> Float64Array | None:
    """Return the pixels (n, 2) of rays given by x and y at z = 1; None where OpenCV does not know the lens."""
    lens, params = _lens(camera)
    if lens == "unknown":
        return None
    if lens != "none" and len(ray):
        if lens == "fisheye":
            ray = np.asarray(cv2.fisheye.distortPoints(ray.reshape(-1, 1, 2), np.eye(3), params), np.float64).reshape(
                -1, 2
            )
        else:
            ray = _through_opencv(ray, params)
    return ray * (camera["fx_px"], camera["fy_px"]) + (camera["cx_px"], camera["cy_px"])


def _through_opencv(ray: Float64Array, params: Float64Array) -> Float64Array:
    """Return where a lens of OpenCV's common model shows rays given by x and y (n, 2) at z = 1."""
    solid = np.concatenate([ray, np.ones((len(ray), 1))], axis=1)
    return np.asarray(cv2.projectPoints(solid, np.zeros(3), np.zeros(3), np.eye(3), params)[0], np.float64).reshape(
        -1, 2
    )


def _lens(camera: Numbers) -> tuple[str, Float64Array]:
    distortion = camera["distortion"]
    if not distortion:
        return "none", np.zeros(4)
    params = np.asarray(distortion["params"], np.float64)
    if distortion["model"] in _OPENCV:
        return "opencv", np.pad(params, (0, max(0, 4 - len(params))))
    return ("fisheye" if distortion["model"] == "opencv_fisheye" else "unknown"), params
