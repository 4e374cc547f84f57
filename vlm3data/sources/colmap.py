"""COLMAP reconstructions: photographs with the poses, lenses and sparse points that structure from motion found.

Which directories are read, what becomes a label and what is left out: docs/colmap.md.
"""

from __future__ import annotations

import math
import posixpath
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache, partial
from typing import Annotated

import numpy as np
import orjson
import xxhash
from pydantic import Field

from vlm3data.config import Config
from vlm3data.errors import UsageError
from vlm3data.formats.colmap.depth_map import DepthMaps
from vlm3data.formats.colmap.images import StoredImage
from vlm3data.formats.colmap.model import Model
from vlm3data.formats.colmap.workspace import Workspace, find_models, find_workspaces, workspace_of
from vlm3data.geometry import invert_pose
from vlm3data.geometry.quaternion import pose_from_quaternion
from vlm3data.geometry.sparse import Seen, reprojection_px, shared_share, sound, z_depth_of
from vlm3data.labels import CANDIDATES
from vlm3data.randomness import rng_for
from vlm3data.storage import absolute, open_store, read_below
from vlm3data.types import (
    Camera,
    DepthPoints,
    Drop,
    Float32Array,
    Float64Array,
    Frame,
    SceneRef,
    SourceFacts,
    Tracks,
    UserError,
)

MIN_OBSERVED = 10
"""An image that observes fewer points than this overlaps with no other as far as anybody knows."""
CONTRADICTION_PX = 4.0
"""COLMAP keeps no observation farther off than this; where half of an image's are, its pose or its lens is wrong."""
_UNIT_TOLERANCE = 1e-2
"""How far from 1 a stored quaternion's length may be."""


class ColmapOptions(Config):
    """What a user may set for this source alone."""

    images: str = ""
    """The directory of the images, if it is not `images` beside the model: below the root, or anywhere else."""
    model: str = ""
    """The directory of the model, if it is not `sparse` or below it: below the root, or anywhere else."""
    metres_per_unit: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """How long a unit of the model is, where somebody has measured it; without it no answer holds a length."""
    max_error_px: Annotated[float, Field(gt=0)] = 1.0
    """Observations that lie farther than this from where their point projects to are not used."""
    min_track: Annotated[int, Field(ge=2)] = 3
    """Points that fewer images than this observe are not used: two rays can agree by chance."""


class ColmapSource:
    """`root` is a workspace (`images/` beside `sparse/`, or a dense one), or a directory of workspaces."""

    Options = ColmapOptions
    memory_mb = 2000
    """A model of 10,000 images with all its observations takes 431 MB; there are larger ones."""
    facts = SourceFacts(
        name="colmap",
        licence="as the owner of the images says",
        metric=False,
        depth_kind="z",
        # in units that may be anything: only what no reconstruction can hold is out of range
        depth_range_m=(1e-9, 1e9),
        pixel_centre="COLMAP's pixels have their centres at +0.5, as ours do; nothing is added",
        splits=("all",),
        # what LoFTR and glue-factory train on, counted in the same way: shared points of all that a view observes
        pair_overlap=(0.1, 0.7),
        # of what survives the check of a depth map against its neighbours'; no length, for units may be anything
        depth_noise=(0.0, 0.01),
    )

    def __init__(self, root: str, options: ColmapOptions, seed: int) -> None:
        self.options = options
        self._root, self._seed = root, seed
        self._fs, path = open_store(root or absolute("."))
        if root and not self._fs.isdir(path):
            raise UserError(f"--root {root}: there is no such directory")
        if not root and not (options.images and options.model):
            raise UsageError("--root is missing: give the workspace, or both --images and --model")
        self._workspaces = {workspace.name: workspace for workspace in self._find(path)}
        if options.metres_per_unit is not None:
            if len(self._workspaces) > 1:
                raise UserError(
                    f"--metres-per-unit {options.metres_per_unit:g}: {root} holds {len(self._workspaces)} models "
                    f"({', '.join(list(self._workspaces)[:4])} ...), each with a unit of its own: name one with --model"
                )
            self.facts = replace(type(self).facts, metric=True, depth_range_m=(0.05, 1000.0))
        self._model = lru_cache(maxsize=1)(self._open_model)
        self._depth_maps = lru_cache(maxsize=1)(self._open_depth_maps)
        self._share = lru_cache(maxsize=1)(self._compute_share)

    def scenes(self, split: str | None) -> Iterator[SceneRef]:
        """List the models; the cameras and the images of each are read, but not what they observe."""
        for name, workspace in self._workspaces.items():
            model = self._model(name)
            if not model.images.images:
                raise UserError(f"{workspace.model}: holds no image")
            yield SceneRef(name, len(model.images.images), {"name": name}, stamp=self._stamp(workspace))

    def frames(self, scene: SceneRef) -> Iterator[Frame]:
        """Yield the images by id; what is wrong with one is raised when it is read."""
        name = scene.payload["name"]
        workspace, model, depth_maps = self._workspaces[name], self._model(name), self._depth_maps(name)
        for number in range(len(model.images.images)):
            yield self._frame(workspace, model, depth_maps, number)

    def overlap(self, scene: SceneRef) -> Float32Array:
        """Return the share of the points that the row's image observes which the column's observes too."""
        return self._share(scene.payload["name"])

    def _frame(self, workspace: Workspace, model: Model, depth_maps: DepthMaps, number: int) -> Frame:
        image = model.images.images[number]
        key = f"{workspace.name}/{image.name}"
        camera = model.cameras[image.camera_id]
        try:
            pose = self._world_from_cam(image)
            if isinstance(camera, Drop):
                raise camera
        except Drop as drop:
            return Frame.unusable(
                key, workspace.name, Drop(drop.reason, f"{model.images.where}: {image.name}: {drop.detail}")
            )
        seen = partial(self._seen, model, number, camera, pose)
        dense = image.name in depth_maps
        return Frame(
            key=key,
            scene=workspace.name,
            image=partial(read_below, self._fs, workspace.images, image.name, "image"),
            camera=camera,
            points=partial(self._points, seen, pose, key) if self.facts.metric and not dense else None,
            depth_m=partial(self._depth_m, depth_maps, image.name, camera) if dense else None,
            depth_camera=depth_maps.camera_of(image.name, camera) if dense else None,
            world_from_cam=pose,
            tracks=partial(_tracks, seen),
        )

    def _world_from_cam(self, image: StoredImage) -> Float64Array:
        """Return the pose in metres, or in the model's units where nobody knows how long they are."""
        if not np.isfinite((*image.wxyz, *image.translation)).all():
            raise Drop("pose_not_finite")
        length = math.hypot(*image.wxyz)
        if abs(length - 1) > _UNIT_TOLERANCE:
            raise Drop("pose_not_rigid", f"a quaternion of length {length:.3g}")
        pose = invert_pose(pose_from_quaternion(image.wxyz, image.translation))
        pose[:3, 3] *= self._unit
        return pose

    @property
    def _unit(self) -> float:
        return self.options.metres_per_unit or 1.0

    def _seen(self, model: Model, number: int, camera: Camera, pose: Float64Array) -> Seen:
        """Return the observations that can be trusted; raises Drop: point_missing, pose_contradicts_points."""
        observed = model.images.observations(number)
        tracked, name = observed.point >= 0, model.images.images[number].name
        point = observed.point[tracked]
        place = model.points.find(point)
        if (place < 0).any():
            missing = point[place < 0][0]
            raise Drop("point_missing", f"{model.points.where}: no point {missing}, which {name} observes")
        seen = Seen(point, observed.xy_px[tracked], model.points.xyz[place] * self._unit)
        error_px = reprojection_px(seen, camera, pose)
        if len(error_px) and np.median(error_px) > CONTRADICTION_PX:
            raise Drop("pose_contradicts_points", f"{name}: half its points are {np.median(error_px):.3g} px off")
        often = model.points.track_length[place] >= self.options.min_track
        return sound(seen.only(often), camera, error_px[often], self.options.max_error_px)

    def _points(self, seen: Callable[[], Seen], pose: Float64Array, key: str) -> DepthPoints:
        """Return the labels of up to `CANDIDATES` of the points: far more than are stored."""
        found = seen()
        if len(found.point) > CANDIDATES:
            rng = rng_for(self._seed, "points", key)
            chosen = np.zeros(len(found.point), bool)
            chosen[rng.choice(len(chosen), CANDIDATES, replace=False, shuffle=False)] = True
            found = found.only(chosen)
        return DepthPoints(np.floor(found.xy_px).astype(np.int64), z_depth_of(found, pose))

    def _depth_m(self, depth_maps: DepthMaps, image: str, camera: Camera) -> Float32Array:
        """Return a dense map in metres, or in the model's units; NaN where it is unknown or out of range."""
        depth = depth_maps.read(image, camera) * np.float32(self._unit)
        low_m, high_m = self.facts.depth_range_m
        with np.errstate(invalid="ignore"):
            return np.where((depth >= low_m) & (depth <= high_m), depth, np.float32(np.nan))

    def _find(self, path: str) -> list[Workspace]:
        """Return the workspaces that the root and the options name."""
        options = self.options
        if not (options.images or options.model):
            found = find_workspaces(self._fs, path)
            if not found:
                raise UserError(
                    f"--root {self._root}: there is no COLMAP model in it or in its directories: images/ and sparse/ "
                    "with cameras, images and points3D in .bin or .txt; or name both with --images and --model"
                )
            return found
        images, above = (
            posixpath.normpath(posixpath.join(path, name or usual))
            for name, usual in ((options.images, "images"), (options.model, "sparse"))
        )
        for flag, directory in (("--images", images), ("--model", above)):
            if not self._fs.isdir(directory):
                raise UserError(f"{flag}: there is no directory {directory}")
        models = list(find_models(self._fs, above))
        if len(models) != 1:
            raise UserError(f"--model {above}: {len(models)} COLMAP models in it, not one")
        return [workspace_of(self._fs, posixpath.basename(path), images, *models[0])]

    def _open_model(self, name: str) -> Model:
        workspace = self._workspaces[name]
        return Model(self._fs, workspace.model, workspace.form)

    def _open_depth_maps(self, name: str) -> DepthMaps:
        return DepthMaps(self._fs, self._workspaces[name].depth_maps)

    def _compute_share(self, name: str) -> Float32Array:
        return shared_share(self._model(name).images.all_observations(), MIN_OBSERVED)

    def _stamp(self, workspace: Workspace) -> str:
        """Return a digest of the names and sizes of the model's files."""
        entries = self._fs.ls(workspace.model, detail=True)
        files = sorted((posixpath.basename(str(entry["name"])), entry.get("size")) for entry in entries)
        return xxhash.xxh3_64_hexdigest(orjson.dumps(files))


def _tracks(seen: Callable[[], Seen]) -> Tracks:
    found = seen()
    return Tracks(found.point, found.xy_px)
