"""Synthetic places in MegaDepth's files, prepared as by D2-Net or LoFTR, each at a scale of its own; and the truth.

    <out>/phoenix/S6/zl548/MegaDepth_v1/<place>/dense0/{imgs,depths}, <out>/Undistorted_SfM/<place>/images
    <out>/scene_info/<place>.npz, or LoFTR's <out>/scene_info_0.1_0.7/<place>_0.1_0.3.npz ...
    <out>/truth/<place>.json: scale, cameras, poses in metres; <place>-<number>.depth.npy: depth in metres

Some photographs have only an ordinal map, as MegaDepth gives those whose reconstruction is poor: half of them are
None in the scene_info, half are listed, as where the preparation's test by file size misses one.
"""

from __future__ import annotations

import io
import posixpath
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

import numpy as np
import orjson
from fsspec import AbstractFileSystem
from pydantic import Field

from vlm3data.config import Config
from vlm3data.formats.hdf5 import write_array
from vlm3data.formats.scene_info import Photo, encode_d2net, encode_loftr
from vlm3data.geometry import rotation_from_yaw_pitch_roll_deg
from vlm3data.images import encode_jpeg
from vlm3data.randomness import rng_for
from vlm3data.storage import open_store, write_whole
from vlm3data.synth.outdoors import street, yard
from vlm3data.synth.photos import Photograph, overlaps, take
from vlm3data.types import Camera, Float32Array, Float64Array

DATASET = "phoenix/S6/zl548/MegaDepth_v1"
UNDISTORTED = "Undistorted_SfM"
BINS = ((0.1, 0.3), (0.3, 0.5), (0.5, 0.7))
"""Of overlap, a file each, in LoFTR's index."""
SCALES = (0.02, 50.0)
JPEG_QUALITY = 92
ORDINAL = (-2.0, -1.0, 0.0)
"""What ordinal maps hold: in MegaDepth's, what is negative says background or foreground."""


class MegadepthLayoutOptions(Config):
    """How much to write, and in which form."""

    places: Annotated[int, Field(ge=1, le=1000)] = 2
    photos: Annotated[int, Field(ge=2)] = 24
    """Of each place."""
    form: Literal["d2net", "loftr"] = "d2net"
    """Whose scene_info: a zip of arrays, or a pickled dict for each of three ranges of overlap."""
    long_side_px: Annotated[int, Field(ge=64)] = 960
    """Of the largest photograph; the smallest have two thirds of it."""
    ordinal: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the photographs that have an ordinal map only."""
    scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Units of the files in a metre; each place has its own without it."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Everything about one place; poses in metres."""

    name: str
    photographs: list[Photograph]
    ordinal: list[bool]
    listed: list[bool]
    scale: float
    sfm_from_world: Float64Array
    """A turn and a shift, before the scale: the reconstruction's axes are anybody's."""

    def stored_pose(self, number: int) -> Float64Array:
        """Return world from camera in the reconstruction's axes and unit."""
        pose = self.sfm_from_world @ self.photographs[number].world_from_cam
        pose[:3, 3] *= self.scale
        return pose


class MegadepthLayout:
    """Writes `places`, each photographed by cameras of every kind."""

    Options = MegadepthLayoutOptions

    def __init__(self, options: MegadepthLayoutOptions, seed: int) -> None:
        self.options, self.seed = options, seed

    def write(self, out: str, progress: Callable[[int, int], None]) -> dict[str, Any]:
        """Write everything below `out` and return the counts."""
        fs, root = open_store(out)
        options, ordinal = self.options, 0
        for number in range(options.places):
            progress(number, options.places)
            place = self._place(number)
            depths_m = _write_files(fs, root, place)
            _write_scene_info(fs, root, place, depths_m, options.form)
            _write_truth(fs, root, place, depths_m)
            ordinal += sum(place.ordinal)
        progress(options.places, options.places)
        return {"places": options.places, "photos": options.places * options.photos, "ordinal": ordinal}

    def _place(self, number: int) -> _Place:
        options, name = self.options, f"{number:04d}"
        rng = rng_for(self.seed, "megadepth layout", name)
        low, high = SCALES
        drawn = float(low * (high / low) ** rng.random())
        ordinal = rng.random(options.photos) < options.ordinal
        photographs = take((street, yard)[int(rng.integers(2))], self._camera, options.photos, rng)
        return _Place(
            name=name,
            photographs=photographs,
            ordinal=ordinal.tolist(),
            listed=(~ordinal | (np.cumsum(ordinal) % 2 == 0)).tolist(),
            scale=drawn if options.scale is None else options.scale,
            sfm_from_world=_axes(rng),
        )

    def _camera(self, rng: np.random.Generator) -> Camera:
        """Draw a camera: landscape or portrait, any lens; the principal point is not quite in the middle."""
        long_px = int(self.options.long_side_px * rng.uniform(2 / 3, 1))
        size = (long_px, int(long_px * rng.choice([2 / 3, 3 / 4])))
        width, height = size if rng.random() < 0.7 else size[::-1]
        focal_px = long_px * float(rng.uniform(0.7, 1.4))
        cx, cy = (side / 2 + float(rng.uniform(-0.01, 0.01)) * side for side in (width, height))
        return Camera(focal_px, focal_px, cx, cy, width, height)


def _axes(rng: np.random.Generator) -> Float64Array:
    pose = np.eye(4)
    pose[:3, :3] = rotation_from_yaw_pitch_roll_deg(*rng.uniform((-180, -60, -180), (180, 60, 180)))
    pose[:3, 3] = rng.uniform(-20, 20, 3)
    return pose


def _image(place: _Place, number: int) -> str:
    return f"{UNDISTORTED}/{place.name}/images/{_stem(number)}.jpg"


def _depth(place: _Place, number: int) -> str:
    return f"{DATASET}/{place.name}/dense0/depths/{_stem(number)}.h5"


def _stem(number: int) -> str:
    return f"{104729 * (number + 1) % 1000003:06d}_o"  # names of photographs on the web say nothing of their order


def _write_files(fs: AbstractFileSystem, root: str, place: _Place) -> list[Float32Array]:
    """Write images and depth maps and return the depths in metres."""
    imgs = f"{root}/{DATASET}/{place.name}/dense0/imgs"
    for directory in (
        imgs,
        posixpath.dirname(f"{root}/{_image(place, 0)}"),
        posixpath.dirname(f"{root}/{_depth(place, 0)}"),
    ):
        fs.makedirs(directory, exist_ok=True)
    depths_m: list[Float32Array] = []
    for number, photograph in enumerate(place.photographs):
        image, depth_m = photograph.taken()
        jpeg = encode_jpeg(image, JPEG_QUALITY)
        write_whole(fs, f"{imgs}/{_stem(number)}.jpg", jpeg)
        write_whole(fs, f"{root}/{_image(place, number)}", jpeg)
        stored = np.nan_to_num(depth_m * np.float32(place.scale))
        if place.ordinal[number]:
            median_m = np.nanmedian(depth_m)
            stored = np.select([depth_m > 1.5 * median_m, depth_m < 0.7 * median_m], ORDINAL[:2], ORDINAL[2])
        write_whole(fs, f"{root}/{_depth(place, number)}", write_array("depth", stored.astype(np.float32)))
        depths_m.append(depth_m)
    return depths_m


def _write_scene_info(
    fs: AbstractFileSystem, root: str, place: _Place, depths_m: list[Float32Array], form: str
) -> None:
    photos = [_photo(place, number) if listed else None for number, listed in enumerate(place.listed)]
    listed = np.array(place.listed)
    overlap = overlaps(place.photographs, depths_m)
    overlap[~(listed[:, None] & listed) | np.eye(len(listed), dtype=bool)] = -1.0
    if form == "d2net":
        fs.makedirs(f"{root}/scene_info", exist_ok=True)
        write_whole(fs, f"{root}/scene_info/{place.name}.npz", encode_d2net(photos, overlap))
        return
    fs.makedirs(f"{root}/scene_info_0.1_0.7", exist_ok=True)
    both = np.minimum(overlap, overlap.T)
    for low, high in BINS:
        numbers = np.argwhere(np.triu((both > low) & (both <= high)))
        pairs = [((i, j), float(both[i, j]), np.zeros((0, 4))) for i, j in numbers.tolist()]
        write_whole(fs, f"{root}/scene_info_0.1_0.7/{place.name}_{low}_{high}.npz", encode_loftr(photos, pairs))


def _photo(place: _Place, number: int) -> Photo:
    camera = place.photographs[number].camera
    focal, centre = (camera.fx_px, camera.fy_px), (camera.cx_px, camera.cy_px)
    return Photo(_image(place, number), _depth(place, number), focal, centre, place.stored_pose(number))


def _write_truth(fs: AbstractFileSystem, root: str, place: _Place, depths_m: list[Float32Array]) -> None:
    fs.makedirs(f"{root}/truth", exist_ok=True)
    photos = [
        {
            "image": _image(place, number),
            "ordinal": place.ordinal[number],
            "listed": place.listed[number],
            "camera": asdict(photograph.camera),
            "world_from_cam": photograph.world_from_cam.tolist(),
        }
        for number, photograph in enumerate(place.photographs)
    ]
    write_whole(fs, f"{root}/truth/{place.name}.json", orjson.dumps({"scale": place.scale, "photos": photos}))
    for number, depth_m in enumerate(depths_m):
        file = io.BytesIO()
        np.save(file, depth_m, allow_pickle=False)
        write_whole(fs, f"{root}/truth/{place.name}-{number:05d}.depth.npy", file.getvalue())
