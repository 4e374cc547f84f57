"""nuScenes v1.0: six cameras around a car, depth labels from its LiDAR, annotated boxes. See docs/nuscenes.md."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from functools import lru_cache, partial
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from vlm3data.config import Config
from vlm3data.formats.nuscenes import CAMERAS, CHANNELS, LIDAR, MINI, OTHER, SPLITS_OF, open_tables, split_of
from vlm3data.formats.nuscenes.labels import label_of
from vlm3data.formats.nuscenes.scan import Scan, ego_from_sensor, global_from_sensor, pose_of, read_scan
from vlm3data.formats.nuscenes.tables import drop_where_wrong
from vlm3data.geometry import invert_pose
from vlm3data.geometry.boxes import SIGNS
from vlm3data.geometry.lidar import nearest_per_pixel, project_points
from vlm3data.geometry.occlusion import Sweep, visible
from vlm3data.storage import open_root, read_below
from vlm3data.types import Box3D, Camera, DepthPoints, Drop, Float64Array, Frame, SceneRef, SourceFacts, UserError

CameraName = Literal["CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_FRONT_LEFT"]

RANGE_M = (1.0, 80.0)
"""Nearer returns are the vehicle itself; evaluations of depth on nuScenes end at 80 m."""
PUBLISHED_RANGE_M = (0.05, 1000.0)
OCCLUDER_MARGIN = (0.05, 0.1)
"""How far outside the image, in focal lengths, points are that can hide others in it: two steps of the LiDAR's."""
NEAR_M = 0.1
"""Corners of boxes nearer to the camera's plane than this have no useful pixel."""


class NuscenesSource:
    """`root` has `samples/`, `sweeps/` and the tables of one or several versions, `v1.0-*/`."""

    memory_mb = 1500
    """The first process that opens trainval parses 2.6 GB of tables, in 893 MB."""

    class Options(Config):
        """What a user may set for this source alone."""

        tables: str = ""
        """Which tables, such as v1.0-trainval; needed where the root has several."""
        cameras: Annotated[tuple[CameraName, ...], Field(min_length=1)] = CAMERAS
        """Which of the six."""
        published: bool = False
        """Labels as in the published curation: no compensation of the vehicle's motion between LiDAR and camera, no
        occlusion filter, integer coordinates at pixel corners, no range. --published sets it too."""
        without_mini: bool = False
        """Leave out the ten scenes of v1.0-mini, as the published curation does for training."""
        sweeps: Annotated[int, Field(ge=0, le=20)] = 0
        """Add so many of the LiDAR's sweeps before the key frame, without what lies in annotated boxes."""
        occlusion: bool = True
        """Leave out points that something nearer hides from the camera."""

    def __init__(self, root: str, options: Options, seed: int) -> None:
        if options.published and options.sweeps:
            raise UserError("source nuscenes: the published curation knows no sweeps: leave out one of the two")
        self.options = options
        self._fs, self._root = open_root(root)
        self._version = self._find_version(root)
        self._tables = open_tables(self._fs, posixpath.join(self._root, self._version), sweeps=options.sweeps > 0)
        self._scan = lru_cache(maxsize=1)(self._read_scan)  # six cameras follow each other
        self._boxes = lru_cache(maxsize=1)(self._boxes_of)
        self._labels = [label_of(name) for name in self._tables.category.to_pylist()]
        names = self._tables.scene.to_pylist()
        if options.without_mini and MINI.issuperset(names):
            raise UserError(f"--root {root}: without_mini leaves nothing of {self._version}")
        self._number = {name: number for number, name in enumerate(names)}
        self._splits = [split_of(name, self._version) for name in names]
        official = SPLITS_OF.get(self._version, ("train", "val", "test"))
        self.facts = SourceFacts(
            name="nuscenes",
            licence="CC BY-NC-SA 4.0, nuScenes terms of use",
            metric=True,
            depth_kind="z",
            depth_range_m=PUBLISHED_RANGE_M if options.published else RANGE_M,
            pixel_centre="integer coordinates taken for corners of pixels, as published: nothing added"
            if options.published
            else "integer coordinates on pixel centres (OpenCV calibration): 0.5 added to cx and cy",
            splits=(*official, OTHER) if OTHER in self._splits else official,
            world_up=(0.0, 0.0, 1.0),
        )

    def scenes(self, split: str | None) -> Iterator[SceneRef]:
        """Yield the scenes by name; a frame is a camera's image of one of its samples."""
        counts = np.diff(self._tables.scene_first) * len(self.options.cameras)
        names, stamps = self._tables.scene.to_pylist(), self._tables.scene_stamp.to_pylist()
        for number, (name, count) in enumerate(zip(names, counts.tolist(), strict=True)):
            left_out = self.options.without_mini and name in MINI
            if split in (None, self._splits[number]) and not left_out:
                yield SceneRef(name, count, {}, self._splits[number], stamps[number])

    def frames(self, scene: SceneRef) -> Iterator[Frame]:
        """Yield sample after sample, its cameras in the order of the option."""
        number = self._number[scene.scene]
        first, end = self._tables.scene_first[number : number + 2].tolist()
        rows = np.arange(first * len(CHANNELS), end * len(CHANNELS))
        poses = global_from_sensor(self._tables, rows).reshape(-1, len(CHANNELS), 4, 4)
        # As published, sensors are where they sit on the vehicle, which does not move.
        at = ego_from_sensor(self._tables, rows).reshape(poses.shape) if self.options.published else poses
        for sample in range(first, end):
            for name in self.options.cameras:
                row = sample * len(CHANNELS) + CHANNELS.index(name)
                key = f"{scene.scene}/{sample - first:03d}/{name}"
                camera, now = CHANNELS.index(name), sample - first
                placed = at[now, camera], at[now, LIDAR]
                yield self._frame(key, scene.scene, sample, row, poses[now, camera], placed)

    def _frame(
        self,
        key: str,
        scene: str,
        sample: int,
        row: int,
        world_from_cam: Float64Array,
        placed: tuple[Float64Array, Float64Array],
    ) -> Frame:
        """`placed` are the poses of camera and LIDAR_TOP, in the world or on the vehicle."""
        try:
            drop_where_wrong(self._tables.problem, row)
        except Drop as drop:
            return Frame.unusable(key, scene, drop)
        camera = self._camera(row)
        return Frame(
            key=key,
            scene=scene,
            image=partial(self._read, "image", self._tables.filename[row].as_py()),
            camera=camera,
            points=partial(self._points, sample, camera, *placed),
            world_from_cam=world_from_cam,
            boxes=partial(self._boxes_in_view, sample, camera, world_from_cam),
        )

    def _camera(self, row: int) -> Camera:
        fx, fy, cx, cy = self._tables.pinhole_px[self._tables.calibration[row]].tolist()
        half_px = 0.0 if self.options.published else 0.5
        return Camera(fx, fy, cx + half_px, cy + half_px, *self._tables.size_px[row].tolist())

    def _points(
        self, sample: int, camera: Camera, place_from_cam: Float64Array, place_from_lidar: Float64Array
    ) -> DepthPoints:
        """Return the labels of one image: what the LiDAR saw and the camera sees, once a pixel."""
        scan = self._scan(sample)
        cam_from_lidar = invert_pose(place_from_cam) @ place_from_lidar
        xy_px, z_m = self._seen(scan, camera, cam_from_lidar)
        points = nearest_per_pixel(xy_px, z_m, camera.width_px)
        low_m, high_m = self.facts.depth_range_m
        known = (points.depth_m >= low_m) & (points.depth_m <= high_m)
        return DepthPoints(np.compress(known, points.pixel_px, axis=0), points.depth_m[known])

    def _seen(self, scan: Scan, camera: Camera, cam_from_lidar: Float64Array) -> tuple[Float64Array, Float64Array]:
        """Return the pixels (n, 2) and depths (n,) of the points in the image that nothing hides."""
        if self.options.published or not self.options.occlusion:
            return project_points(camera, cam_from_lidar, scan.points_m)[1:]
        near, xy_px, z_m = project_points(camera, cam_from_lidar, scan.points_m, OCCLUDER_MARGIN)
        bounds = np.searchsorted(near, scan.first)
        sweeps = [
            Sweep(scan.points_m[:, near[start:end]].T, scan.ring[near[start:end]], origin_m)
            for start, end, origin_m in zip(bounds[:-1], bounds[1:], scan.origin_m, strict=True)
        ]
        seen = visible(sweeps, invert_pose(cam_from_lidar)[:3, 3])
        seen &= ((xy_px >= 0) & (xy_px < (camera.width_px, camera.height_px))).all(axis=1)
        return np.compress(seen, xy_px, axis=0), z_m[seen]

    def _read_scan(self, sample: int) -> Scan:
        return read_scan(self._tables, partial(self._read, "lidar"), sample, self.options.sweeps)

    def _boxes_in_view(self, sample: int, camera: Camera, world_from_cam: Float64Array) -> tuple[Box3D, ...]:
        """Return the boxes whose centre is in front and whose corners surround some of the image."""
        boxes, corners_m, centres_m = self._boxes(sample)
        if not boxes:
            return ()
        rotation, position_m = world_from_cam[:3, :3], world_from_cam[:3, 3]
        points_m = (corners_m - position_m) @ rotation
        z_m = points_m[..., 2]
        usable = z_m > NEAR_M
        xy_px = points_m[..., :2] / np.where(usable, z_m, np.inf)[..., None]
        xy_px = xy_px * (camera.fx_px, camera.fy_px) + (camera.cx_px, camera.cy_px)
        low = np.where(usable[..., None], xy_px, np.inf).min(axis=1)
        high = np.where(usable[..., None], xy_px, -np.inf).max(axis=1)
        shown = ((low < (camera.width_px, camera.height_px)) & (high > 0)).all(axis=1)
        shown &= (centres_m - position_m) @ rotation[:, 2] > 0
        return tuple(boxes[number] for number in np.flatnonzero(shown).tolist())

    def _boxes_of(self, sample: int) -> tuple[list[Box3D], Float64Array, Float64Array]:
        """Return a sample's boxes, their corners (m, 8, 3) and centres (m, 3) in the world."""
        drop_where_wrong(self._tables.box_problem, sample)
        rows = slice(*self._tables.box_first[sample : sample + 2].tolist())
        numbers = self._tables.box[rows]
        poses = pose_of(numbers[:, [6, 7, 8, 9, 0, 1, 2]])
        half_m = numbers[:, None, 3:6] / 2
        corners_m = (SIGNS * half_m) @ poses[:, :3, :3].transpose(0, 2, 1) + poses[:, None, :3, 3]
        columns = zip(
            self._tables.box_category[rows].tolist(),
            poses,
            numbers[:, 3:6].tolist(),
            self._tables.box_visibility[rows].tolist(),
            strict=True,
        )
        boxes = [
            Box3D(self._labels[category], pose, (length, width, height), None if share != share else share)
            for category, pose, (length, width, height), share in columns
        ]
        return boxes, corners_m, poses[:, :3, 3]

    def _read(self, what: str, name: str) -> bytes:
        return read_below(self._fs, self._root, name, what)

    def _find_version(self, root: str) -> str:
        """Return the version to read: the one asked for, or the only one there is."""
        entries = self._fs.ls(self._root, detail=True)
        # The archives v1.0-*.tgz often lie beside what was in them.
        directories = (str(entry["name"]) for entry in entries if entry["type"] == "directory")
        names = (posixpath.basename(path.rstrip("/")) for path in directories)
        versions = sorted(name for name in names if name.startswith("v1.0-"))
        wanted = self.options.tables
        if wanted in versions:
            return wanted
        if not wanted and len(versions) == 1:
            return versions[0]
        found = ", ".join(versions) or "no directory v1.0-*"
        ask = "which tables to read is not clear: say --tables" if versions else "is no nuScenes"
        what = f"has no {wanted}" if wanted else ask
        raise UserError(f"--root {root}: {what}; it holds {found}")
