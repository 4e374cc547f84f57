"""Synthetic scenes in COLMAP's files: distorted images, a sparse model in a unit of its own, and the exact truth.

<out>/<scene>/images/*.jpg, sparse/0/{cameras,images,points3D}.bin (or .txt)
<out>/<scene>-dense/{images, sparse, stereo/depth_maps}       undistorted, with exact depth, where asked for
<out>/truth/<scene>.json
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Annotated, Any

import orjson
from fsspec import AbstractFileSystem
from pydantic import Field

from vlm3data.config import Config
from vlm3data.formats.colmap.cameras import stored
from vlm3data.formats.colmap.depth_map import SUFFIX, encode_depth_map
from vlm3data.formats.colmap.images import Observations, StoredImage
from vlm3data.formats.colmap.model import Form
from vlm3data.formats.colmap.writing import WrittenPoints, write_model
from vlm3data.geometry import invert_pose, project, rays
from vlm3data.geometry.quaternion import quaternion_from_rotation
from vlm3data.images import encode_jpeg
from vlm3data.layouts._colmap.sparse import sparse_points
from vlm3data.layouts._colmap.stage import Domain, LensName, Stage, set_up
from vlm3data.randomness import rng_for
from vlm3data.storage import open_store, write_whole
from vlm3data.synth.views import depth_of
from vlm3data.types import Camera

JPEG_QUALITY = 92


class ColmapLayoutOptions(Config):
    """How much to write, and through which lens."""

    scenes: Annotated[int, Field(ge=1)] = 2
    images: Annotated[int, Field(ge=2)] = 12
    """Of each scene."""
    width_px: Annotated[int, Field(ge=32)] = 640
    height_px: Annotated[int, Field(ge=32)] = 480
    domains: Annotated[tuple[Domain, ...], Field(min_length=1)] = ("room", "yard")
    """Scenes take these in turn."""
    lens: LensName = "opencv"
    """A camera model of COLMAP, in lower case."""
    form: Form = "binary"
    points: Annotated[int, Field(ge=1)] = 400
    """Points looked for in each image; those that two images see make the model."""
    noise_px: Annotated[float, Field(ge=0)] = 0.0
    """Standard deviation of what the images observe, per axis; the points themselves stay exact."""
    dense: bool = False
    """Write the undistorted workspace with its depth maps as well."""


class ColmapLayout:
    """Writes `scenes` reconstructions, each with a unit of its own."""

    Options = ColmapLayoutOptions

    def __init__(self, options: ColmapLayoutOptions, seed: int) -> None:
        self.options, self.seed = options, seed

    def write(self, out: str, progress: Callable[[int, int], None]) -> dict[str, Any]:
        """Write everything below `out` and return the counts."""
        fs, root = open_store(out)
        options, points, observations = self.options, 0, 0
        fs.makedirs(f"{root}/truth", exist_ok=True)
        for number in range(options.scenes):
            progress(number, options.scenes)
            name = f"scene-{number:04d}"
            rng = rng_for(self.seed, "colmap layout", name)
            domain, size_px = options.domains[number % len(options.domains)], (options.width_px, options.height_px)
            stage = set_up(name, domain, options.lens, options.images, size_px, rng)
            table, observed = sparse_points(stage, options.points, options.noise_px, rng)
            self._write_scene(fs, f"{root}/{name}", stage, table, observed)
            if options.dense:
                self._write_dense(fs, f"{root}/{name}-dense", stage, table, observed)
            write_whole(fs, f"{root}/truth/{name}.json", orjson.dumps(_truth(stage)))
            points += len(table.point_id)
            observations += len(table.track)
        progress(options.scenes, options.scenes)
        images = options.scenes * options.images
        return {"scenes": options.scenes, "images": images, "points": points, "observations": observations}

    def _write_scene(
        self, fs: AbstractFileSystem, directory: str, stage: Stage, table: WrittenPoints, observed: list[Observations]
    ) -> None:
        fs.makedirs(f"{directory}/images", exist_ok=True)
        for number in range(len(stage.world_from_cam)):
            write_whole(fs, f"{directory}/images/{_name(number)}", encode_jpeg(stage.image(number), JPEG_QUALITY))
        self._write_model(fs, f"{directory}/sparse/0", stage, stage.camera, table, observed)

    def _write_dense(
        self, fs: AbstractFileSystem, directory: str, stage: Stage, table: WrittenPoints, observed: list[Observations]
    ) -> None:
        """Write what COLMAP's image_undistorter and patch match make of a scene, but exact."""
        for below in ("images", "stereo/depth_maps"):
            fs.makedirs(f"{directory}/{below}", exist_ok=True)
        pinhole = replace(stage.camera, distortion=None)
        for number in range(len(stage.world_from_cam)):
            traced, image = stage.undistorted(number)
            depth = depth_of(traced, stage.far_m) * stage.units_per_metre
            write_whole(fs, f"{directory}/images/{_name(number)}", encode_jpeg(image, JPEG_QUALITY))
            write_whole(fs, f"{directory}/stereo/depth_maps/{_name(number)}{SUFFIX}", encode_depth_map(depth))
        straight = [Observations(project(pinhole, rays(stage.camera, seen.xy_px)), seen.point) for seen in observed]
        self._write_model(fs, f"{directory}/sparse", stage, pinhole, table, straight)

    def _write_model(
        self,
        fs: AbstractFileSystem,
        directory: str,
        stage: Stage,
        camera: Camera,
        table: WrittenPoints,
        observed: list[Observations],
    ) -> None:
        images = [(_stored_image(stage, number), seen) for number, seen in enumerate(observed)]
        write_model(fs, directory, self.options.form, {1: stored(camera)}, images, table)


def _name(number: int) -> str:
    return f"frame_{number:04d}.jpg"


def _stored_image(stage: Stage, number: int) -> StoredImage:
    cam_from_model = invert_pose(stage.model_from_cam(number))
    wxyz = quaternion_from_rotation(cam_from_model[:3, :3])
    return StoredImage(number + 1, tuple(wxyz.tolist()), tuple(cam_from_model[:3, 3].tolist()), 1, _name(number))


def _truth(stage: Stage) -> dict[str, Any]:
    """Return the poses in metres, in the world's own axes (z up), and how the model lies to that world."""
    return {
        "camera": asdict(stage.camera),
        "metres_per_unit": 1 / stage.units_per_metre,
        "model_from_world": stage.model_from_world.tolist(),
        "world_from_cam": {_name(number): pose.tolist() for number, pose in enumerate(stage.world_from_cam)},
    }
