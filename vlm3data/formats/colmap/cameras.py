"""`cameras.bin` and `cameras.txt`: intrinsics of every model that COLMAP knows."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np

from vlm3data.formats.colmap.text import Rows
from vlm3data.geometry.lenses import lens_of
from vlm3data.types import Camera, Distortion, DistortionModel, Drop, UserError

_HEAD = struct.Struct("<IiQQ")
"""Camera id, model id, width, height; the parameters follow as float64."""
MAX_SIZE_PX = 2**20


class CameraModel(NamedTuple):
    """A line of COLMAP's table of camera models: whether it has one focal length, and how many more parameters."""

    model_id: int
    one_focal: bool
    num_extra: int
    supported: bool = True

    @property
    def num_params(self) -> int:
        """Return how many parameters there are: focal length(s), principal point, distortion."""
        return (3 if self.one_focal else 4) + self.num_extra


MODELS = {
    "SIMPLE_PINHOLE": CameraModel(0, True, 0),
    "PINHOLE": CameraModel(1, False, 0),
    "SIMPLE_RADIAL": CameraModel(2, True, 1),
    "RADIAL": CameraModel(3, True, 2),
    "OPENCV": CameraModel(4, False, 4),
    "OPENCV_FISHEYE": CameraModel(5, False, 4),
    "FULL_OPENCV": CameraModel(6, False, 8),
    "FOV": CameraModel(7, False, 1),
    "SIMPLE_RADIAL_FISHEYE": CameraModel(8, True, 1),
    "RADIAL_FISHEYE": CameraModel(9, True, 2),
    "THIN_PRISM_FISHEYE": CameraModel(10, False, 8),
    "RAD_TAN_THIN_PRISM_FISHEYE": CameraModel(11, False, 12),
    "SIMPLE_DIVISION": CameraModel(12, True, 1, supported=False),
    "DIVISION": CameraModel(13, False, 1, supported=False),
    "SIMPLE_FISHEYE": CameraModel(14, True, 0),
    "FISHEYE": CameraModel(15, False, 0),
    "EUCM": CameraModel(16, False, 2, supported=False),
}
"""Those that are not supported are read over: only the frames that use them are lost."""
_BY_ID = {model.model_id: name for name, model in MODELS.items()}
_UNDISTORTED = ("SIMPLE_PINHOLE", "PINHOLE")
_PLAIN_FISHEYE = ("SIMPLE_FISHEYE", "FISHEYE")


@dataclass(frozen=True, slots=True)
class StoredCamera:
    """A camera as its file holds it."""

    model: str
    width_px: int
    height_px: int
    params: tuple[float, ...]

    def camera(self) -> Camera:
        """Return it in our terms; raises Drop: camera_model_unsupported, bad_intrinsics."""
        model = MODELS[self.model]
        if not model.supported:
            raise Drop("camera_model_unsupported", self.model)
        fx, fy, cx, cy, *extra = self.params[:1] + self.params if model.one_focal else self.params
        if not np.isfinite(self.params).all() or max(self.width_px, self.height_px) > MAX_SIZE_PX:
            raise Drop("bad_intrinsics", str(self))
        distortion = None
        if self.model in _PLAIN_FISHEYE:
            distortion = Distortion("opencv_fisheye", (0.0, 0.0, 0.0, 0.0))
        elif self.model not in _UNDISTORTED:
            distortion = Distortion(cast("DistortionModel", self.model.lower()), tuple(extra))
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                if distortion:
                    lens_of(distortion)  # refuses parameters that are no lens
            return Camera(fx, fy, cx, cy, self.width_px, self.height_px, distortion)
        except ValueError as error:
            raise Drop("bad_intrinsics", str(error)) from error


def stored(camera: Camera) -> StoredCamera:
    """Return a camera as COLMAP stores it; brown_conrady becomes FULL_OPENCV."""
    distortion, model = camera.distortion, "PINHOLE"
    extra: tuple[float, ...] = ()
    if distortion is not None:
        padded = distortion.params + (0.0,) * (8 - len(distortion.params))
        model, extra = ("FULL_OPENCV", padded) if distortion.model == "brown_conrady" else (
            distortion.model.upper(), distortion.params
        )  # fmt: skip
    focal = (camera.fx_px,) if MODELS[model].one_focal else (camera.fx_px, camera.fy_px)
    if MODELS[model].one_focal and camera.fx_px != camera.fy_px:
        raise ValueError(f"{model} has one focal length: {camera}")
    return StoredCamera(model, camera.width_px, camera.height_px, (*focal, camera.cx_px, camera.cy_px, *extra))


def parse_binary(data: bytes, where: str) -> dict[int, StoredCamera]:
    """Return the cameras of `cameras.bin` by id; raises UserError naming the record that is damaged."""
    if len(data) < 8:
        raise UserError(f"{where}: {len(data)} bytes, too short for COLMAP's cameras")
    count, offset = int.from_bytes(data[:8], "little"), 8
    if count * (_HEAD.size + 24) > len(data):
        raise UserError(f"{where}: says that it holds {count} cameras, more than its {len(data)} bytes can")
    cameras: dict[int, StoredCamera] = {}
    for number in range(count):
        record = f"{where}: camera record {number} at byte {offset}"
        if offset + _HEAD.size > len(data):
            raise UserError(f"{record}: the file ends in it")
        camera_id, model_id, width, height = _HEAD.unpack_from(data, offset)
        if model_id not in _BY_ID:
            raise UserError(f"{record}: unknown camera model id {model_id}; known: {', '.join(MODELS)}")
        name = _BY_ID[model_id]
        end = offset + _HEAD.size + 8 * MODELS[name].num_params
        if end > len(data):
            raise UserError(f"{record}: the file ends in it")
        params = struct.unpack_from(f"<{MODELS[name].num_params}d", data, offset + _HEAD.size)
        _add(cameras, camera_id, StoredCamera(name, width, height, params), record)
        offset = end
    if offset != len(data):
        raise UserError(f"{where}: {len(data) - offset} bytes follow the last of its {count} cameras")
    return cameras


def parse_text(lines: Iterable[bytes], where: str) -> dict[int, StoredCamera]:
    """Return the cameras of `cameras.txt` by id; raises UserError naming the line that is damaged."""
    cameras: dict[int, StoredCamera] = {}
    for row in Rows(lines, where):
        camera_id, name = row.integer(0), row.word(1)
        if name not in MODELS:
            raise row.error(f"unknown camera model {name!r}; known: {', '.join(MODELS)}")
        params = row.floats(4, 4 + MODELS[name].num_params)
        if len(row.words) != 4 + len(params):
            raise row.error(f"{len(row.words) - 4} parameters, {name} has {len(params)}")
        _add(cameras, camera_id, StoredCamera(name, row.integer(2), row.integer(3), params), row.where)
    return cameras


def _add(cameras: dict[int, StoredCamera], camera_id: int, camera: StoredCamera, record: str) -> None:
    if camera_id in cameras:
        raise UserError(f"{record}: camera {camera_id} appears twice")
    cameras[camera_id] = camera


def format_binary(cameras: Mapping[int, StoredCamera]) -> bytes:
    """Return `cameras.bin`."""
    parts = [len(cameras).to_bytes(8, "little")]
    for camera_id, camera in cameras.items():
        parts.append(_HEAD.pack(camera_id, MODELS[camera.model].model_id, camera.width_px, camera.height_px))
        parts.append(struct.pack(f"<{len(camera.params)}d", *camera.params))
    return b"".join(parts)


def format_text(cameras: Mapping[int, StoredCamera]) -> bytes:
    """Return `cameras.txt`."""
    lines = ["# CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]"]
    for camera_id, camera in cameras.items():
        numbers = " ".join(f"{value:.17g}" for value in camera.params)
        lines.append(f"{camera_id} {camera.model} {camera.width_px} {camera.height_px} {numbers}")
    return ("\n".join(lines) + "\n").encode()
