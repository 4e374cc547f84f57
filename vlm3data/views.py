"""From a frame to the view that a model will see: one focal length, aligned, its labels moved along."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Literal, Protocol

import numpy as np

from vlm3data import labels
from vlm3data.calibrated import calibrated
from vlm3data.contracts import Calibrator
from vlm3data.geometry import convert_depth, move_of, project, rays
from vlm3data.geometry.focal import FocalMode
from vlm3data.geometry.warp import check_size, moved_image
from vlm3data.images import decode_rgb, is_upright_jpeg
from vlm3data.randomness import rng_for
from vlm3data.shards import ShardTally
from vlm3data.types import (
    Calibration,
    Camera,
    DepthKind,
    DepthPoints,
    Drop,
    Float32Array,
    Frame,
    Move,
    SourceFacts,
    Tracks,
    View,
)


class ViewConfig(Protocol):
    """What of a build's config shapes a view."""

    @property
    def focal_px(self) -> float: ...
    @property
    def focal_mode(self) -> FocalMode: ...
    @property
    def align(self) -> Literal["crop", "pad", "none"]: ...
    @property
    def store(self) -> Literal["unified", "original"]: ...
    @property
    def label_depth(self) -> DepthKind: ...
    @property
    def published(self) -> bool: ...
    @property
    def seed(self) -> int: ...


def single_view(
    frame: Frame, config: ViewConfig, facts: SourceFacts, tally: ShardTally, calibrator: Calibrator | None = None
) -> View:
    """Return the frame unified, with its sound depth labels; `calibrator` serves where it has no camera.

    Raises Drop: no_intrinsics, depth_size_mismatch, and what the source raises where a file is bad.
    """
    frame, calibration = _calibrated(frame, config, calibrator)
    camera = _camera_of(frame)
    points = _labels_of(frame, camera, config, facts, tally.label_drops)
    return replace(_unified(frame, camera, config, points, tally), calibration=calibration)


def pair_view(
    frame: Frame,
    depth_m: Float32Array | None,
    config: ViewConfig,
    tally: ShardTally,
    calibrator: Calibrator | None = None,
) -> View:
    """Return the frame unified, with its depth map (`z_depth`) and tracks: what a question about two views needs."""
    frame, calibration = _calibrated(frame, config, calibrator)
    view = replace(_unified(frame, _camera_of(frame), config, None, tally), calibration=calibration)
    if depth_m is not None:
        view = replace(view, depth_m=depth_m, depth_camera=frame.depth_camera or frame.camera)
    if frame.tracks is not None:
        view = replace(view, tracks=_moved(frame.tracks(), view))
    return view


def _moved(tracks: Tracks, view: View) -> Tracks:
    """Return the tracks in the view's pixels, those outside it left out."""
    xy_px = project(view.camera, rays(view.source_camera, tracks.xy_px))
    with np.errstate(invalid="ignore"):
        inside = ((xy_px >= 0) & (xy_px < (view.camera.width_px, view.camera.height_px))).all(axis=1)
    return Tracks(tracks.point[inside], xy_px[inside])


def z_depth(frame: Frame, facts: SourceFacts) -> Float32Array | None:
    """Return the frame's depth map as z-depth, NaN where it is unknown or out of range; None where there is none."""
    camera = frame.depth_camera or frame.camera
    if frame.depth_m is None or camera is None:
        return None
    depth_m = _checked(frame.depth_m(), camera)
    low_m, high_m = facts.depth_range_m
    with np.errstate(invalid="ignore"):
        depth_m = np.where((depth_m >= low_m) & (depth_m <= high_m), depth_m, np.float32(np.nan))
    if facts.depth_kind == "z":
        return depth_m
    v, u = np.indices(depth_m.shape)
    centres = np.stack([u, v], -1).reshape(-1, 2) + 0.5
    z_m = convert_depth(depth_m.ravel(), camera, centres, facts.depth_kind, "z")
    return z_m.reshape(depth_m.shape).astype(np.float32)


def _unified(
    frame: Frame, source_camera: Camera, config: ViewConfig, points: DepthPoints | None, tally: ShardTally
) -> View:
    found = frame.image()
    image, original = found, config.store == "original"
    if isinstance(image, bytes):
        image = decode_rgb(image, (source_camera.width_px, source_camera.height_px), upright=frame.upright)
    check_size(image, source_camera)
    move = move_of(source_camera, config.focal_px, config.focal_mode, config.align, published=config.published)
    source_points = None
    if points is not None:
        points, source_points = _moved_labels(points, move, tally)
    return View(
        frame=frame.key,
        scene=frame.scene,
        image=image if original else moved_image(image, move),
        jpeg=found if original and isinstance(found, bytes) and is_upright_jpeg(found, upright=frame.upright) else None,
        camera=move.camera,
        source_camera=source_camera,
        scale=move.scale,
        crop_xy_px=move.crop_xy_px,
        align=config.align,
        points=points,
        source_points=source_points,
        world_from_cam=frame.world_from_cam,
        boxes=frame.boxes,
        box_questions=frame.box_questions,
    )


def _moved_labels(points: DepthPoints, move: Move, tally: ShardTally) -> tuple[DepthPoints, DepthPoints]:
    """Return the labels that stay in view, in its pixels and in the source's."""
    moved, kept = labels.moved(points, move, tally.label_cuts)
    tally.labels["kept"] += len(kept)
    return moved, DepthPoints(points.pixel_px[kept], points.depth_m[kept])


def _calibrated(frame: Frame, config: ViewConfig, calibrator: Calibrator | None) -> tuple[Frame, Calibration | None]:
    found, calibration = calibrated(frame, calibrator)
    if config.store == "original":  # the file itself, not what the calibrator has decoded
        found = replace(found, image=frame.image)
    return found, calibration


def _labels_of(
    frame: Frame, camera: Camera, config: ViewConfig, facts: SourceFacts, dropped: Counter[str]
) -> DepthPoints | None:
    """Return the frame's sound labels in the pixels of `camera`, of the kind that the build writes."""
    if frame.points is not None:
        points = frame.points()
    elif frame.depth_m is not None:
        depth_camera = frame.depth_camera or camera
        depth_m = _checked(frame.depth_m(), depth_camera)
        rng = rng_for(config.seed, "labels", frame.key)
        points = labels.sample_dense(depth_m, depth_camera, camera, rng)
    else:
        return None
    points = labels.sound(points, camera, facts.depth_range_m, dropped)
    return labels.of_kind(points, camera, facts.depth_kind, config.label_depth)


def _camera_of(frame: Frame) -> Camera:
    if frame.camera is None:
        raise Drop("no_intrinsics", frame.key)
    return frame.camera


def _checked(depth_m: Float32Array, camera: Camera) -> Float32Array:
    if depth_m.shape != (camera.height_px, camera.width_px):
        raise Drop("depth_size_mismatch", f"depth {depth_m.shape}, camera {camera.width_px}x{camera.height_px}")
    return depth_m
