"""One ScanNet scan in our conventions: its two cameras, aligned poses, depth in metres, boxes of its objects."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from fsspec import AbstractFileSystem

from vlm3data.formats.scannet.labels import find_labels, read_instances
from vlm3data.formats.scannet.recording import Form, Recording, open_recording
from vlm3data.formats.scannet.text import parse_matrix, parse_values
from vlm3data.geometry import invert_pose, rotation_angle_deg
from vlm3data.geometry.register import register_depth
from vlm3data.geometry.rigid import as_rigid
from vlm3data.geometry.sight import seen_shares
from vlm3data.geometry.upright import upright_box
from vlm3data.storage import read_whole
from vlm3data.types import Box3D, Camera, Cut, Drop, Float32Array, Float64Array, Int64Array, UserError

NOT_OBJECTS = frozenset(("wall", "floor", "ceiling", "object", "unknown", "unannotated", "remove"))
"""Labels that get no box: the shell of the room, whose box is the room, and names that name nothing."""
MIN_VERTICES = 20
"""An object with fewer is a crumb of the reconstruction; its box says nothing."""
MAX_VERTICES = 2000
"""So many of an object's vertices, evenly picked, tell how much of it is seen."""
MESH_NOISE = (0.05, 0.02)
"""What mesh, pose and depth agree to: metres, share of the depth."""
SAME_PLACE = (0.0005, 0.02)
"""Metres and degrees: cameras that differ by less are one; it moves no pixel by more than a quarter."""
FARTHEST_M = 1e4
"""No camera in a room is farther from the origin of its world; such a number is damage."""
CENTRED = 0.1
"""A principal point farther from the middle, as a share of the size, belongs to an image of another size."""


@dataclass(frozen=True, slots=True)
class _Objects:
    """The boxes of a scan, and points on each that tell whether it is seen."""

    boxes: list[Box3D]
    points_m: Float64Array
    """(n, 3) in the aligned world."""
    owner: Int64Array
    """(n,) The box that each belongs to."""


class Scan:
    """One scan, opened: its cameras, its aligned poses and, when asked for, its objects."""

    def __init__(self, fs: AbstractFileSystem, directory: str, form: Form, path: str) -> None:
        self._fs, self._directory = fs, directory
        self.name = posixpath.basename(directory)
        self.recording: Recording = open_recording(fs, form, path)
        calibration = self.recording.calibration
        self.camera = _camera(calibration.intrinsic_color, calibration.color_size_px, f"{path}: colour")
        self.depth_camera = _camera(calibration.intrinsic_depth, calibration.depth_size_px, f"{path}: depth")
        self.depth_shift = np.float32(calibration.depth_shift)
        # SensReader: both extrinsics lead into a common base, which in practice is the colour camera.
        base_from_color = _rigid(calibration.extrinsic_color, f"{path}: colour extrinsics")
        base_from_depth = _rigid(calibration.extrinsic_depth, f"{path}: depth extrinsics")
        self.color_from_depth = invert_pose(base_from_color) @ base_from_depth
        moved_m = float(np.linalg.norm(self.color_from_depth[:3, 3]))
        turned_deg = rotation_angle_deg(self.color_from_depth[:3, :3])
        self.apart = moved_m > SAME_PLACE[0] or turned_deg > SAME_PLACE[1]
        self._aligned_from_world = self._axis_alignment()

    def poses(self, numbers: Sequence[int]) -> list[Float64Array | Drop]:
        """Return world_from_cam of the colour camera in the aligned world, or what is wrong with it."""
        return [
            pose if isinstance(pose, Drop) else self._pose(number, pose)
            for number, pose in zip(numbers, self.recording.poses(numbers), strict=True)
        ]

    def depth_m(self, number: int, range_m: tuple[float, float]) -> Float32Array:
        """Return the depth map in metres, as the colour camera has it; NaN where unknown or out of `range_m`."""
        depth_m = self.recording.depth(number).astype(np.float32) / self.depth_shift
        if self.apart:
            depth_m = register_depth(
                np.where(depth_m > 0, depth_m, np.float32(np.nan)),
                self.depth_camera,
                self.color_from_depth,
                self.depth_camera,
            )
        low_m, high_m = range_m
        depth_m[~((depth_m >= low_m) & (depth_m <= high_m))] = np.nan
        return depth_m

    def boxes(self, number: int, world_from_cam: Float64Array, range_m: tuple[float, float]) -> tuple[Box3D, ...]:
        """Return the objects that lie wholly before the camera and of which the depth map shows something."""
        objects = self._objects
        if objects is None or not objects.boxes:
            return ()
        cam_from_world = invert_pose(world_from_cam)
        points = objects.points_m @ cam_from_world[:3, :3].T + cam_from_world[:3, 3]
        depth_m = self.depth_m(number, range_m)
        shares = seen_shares(points, objects.owner, len(objects.boxes), depth_m, self.depth_camera, MESH_NOISE)
        return tuple(
            Box3D(box.label, box.world_from_box, box.size_m, share)
            for box, share in zip(objects.boxes, shares.tolist(), strict=True)
            if share > 0 and _lies_before(box, world_from_cam)
        )

    @cached_property
    def _objects(self) -> _Objects | None:
        """Return the annotated objects; None where the scan has no complete set of label files."""
        names = {posixpath.basename(path) for path in self._fs.ls(self._directory, detail=False)}
        files = find_labels(self._directory, self.name, names)
        if files is None:
            return None
        rotation, shift = self._aligned_from_world[:3, :3], self._aligned_from_world[:3, 3]
        boxes, points = [], []
        for instance in read_instances(self._fs, *files):
            if instance.label.strip().lower() in NOT_OBJECTS or len(instance.vertices_m) < MIN_VERTICES:
                continue
            vertices = instance.vertices_m @ rotation.T + shift
            world_from_box, size_m = upright_box(vertices)
            if min(size_m) > 0:
                boxes.append(Box3D(instance.label.strip(), world_from_box, size_m))
                points.append(vertices[:: -(-len(vertices) // MAX_VERTICES)])
        owner = np.repeat(np.arange(len(boxes)), [len(some) for some in points])
        return _Objects(boxes, np.concatenate([*points, np.empty((0, 3))]), owner.astype(np.int64))

    def _pose(self, number: int, world_from_depth: Float64Array) -> Float64Array | Drop:
        where = f"{self.name}, frame {number}"
        if np.isneginf(world_from_depth).any():
            return Cut("lost_pose", where)  # how ScanNet marks the frames in which it lost track: nothing is broken
        pose = as_rigid(world_from_depth)
        if pose is None or np.abs(pose[:3, 3]).max() > FARTHEST_M:
            return Drop("bad_pose", f"{where}: is no rotation and translation")
        color_from_depth = self.color_from_depth if self.apart else np.eye(4)
        return self._aligned_from_world @ pose @ invert_pose(color_from_depth)

    def _axis_alignment(self) -> Float64Array:
        """Return the rotation and shift to the aligned world; the identity where the scan comes without (test)."""
        path = f"{self._directory}/{self.name}.txt"
        try:
            values = parse_values(read_whole(self._fs, path), path)
        except FileNotFoundError:
            return np.eye(4)
        if "axisAlignment" not in values:
            return np.eye(4)
        return _rigid(parse_matrix(values["axisAlignment"], f"{path}: axisAlignment"), f"{path}: axisAlignment")


def _camera(intrinsic: Float64Array, size_px: tuple[int, int], where: str) -> Camera:
    """Return the pinhole camera of a stored 4x4 intrinsic matrix."""
    (fx, skew, cx, _), (_, fy, cy, _) = intrinsic[:2].tolist()
    try:
        camera = Camera(fx, fy, cx + 0.5, cy + 0.5, *size_px)
    except ValueError as error:
        raise UserError(f"{where} {error}") from error
    away = (abs(camera.cx_px / camera.width_px - 0.5), abs(camera.cy_px / camera.height_px - 0.5))
    if max(away) > CENTRED or abs(skew) > 1e-3 * fx:
        raise UserError(
            f"{where} intrinsics (fx {fx:g}, cx {cx:g}, cy {cy:g}, skew {skew:g}) do not fit images of "
            f"{size_px[0]}x{size_px[1]}: resized after export? Export them again without resizing"
        )
    return camera


def _rigid(matrix: Float64Array, where: str) -> Float64Array:
    rigid = as_rigid(matrix)
    if rigid is None:
        raise UserError(f"{where}: is no rotation and translation: {matrix.tolist()}")
    return rigid


def _lies_before(box: Box3D, world_from_cam: Float64Array) -> bool:
    """Tell whether all corners have a positive depth."""
    forward = world_from_cam[:3, 2]
    reach = np.abs(forward @ box.world_from_box[:3, :3]) @ np.array(box.size_m) / 2
    return bool(forward @ (box.world_from_box[:3, 3] - world_from_cam[:3, 3]) - reach > 0.05)
