"""Depth maps of a dense workspace: `stereo/depth_maps/<image name>.geometric.bin`, z-depth of undistorted images."""

from __future__ import annotations

import posixpath
import re
from dataclasses import replace
from typing import Any, cast

import numpy as np
from fsspec import AbstractFileSystem

from vlm3data.storage import read_below
from vlm3data.types import Camera, Drop, Float32Array

SUFFIX = ".geometric.bin"
"""Of the maps that agree with their neighbours; the others, `.photometric.bin`, hold too much that is wrong."""
_HEADER = re.compile(rb"(\d{1,9})&(\d{1,9})&(\d{1,9})&")
_HEADER_MAX = 30


class DepthMaps:
    """The depth maps below one directory, by the names of the images that they belong to."""

    def __init__(self, fs: AbstractFileSystem, directory: str | None) -> None:
        self._fs, self._directory = fs, directory
        found = fs.find(directory) if directory else []
        names = (posixpath.relpath(str(path), directory) for path in found)
        self._names = {name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX)}
        self._cameras: dict[Camera, Camera] = {}

    def __contains__(self, image: str) -> bool:
        return image in self._names

    def read(self, image: str, camera: Camera) -> Float32Array:
        """Return the map of an image; raises Drop: depth_of_distorted_image, depth_missing, depth_unreadable."""
        if camera.distortion is not None:
            raise Drop("depth_of_distorted_image", f"{image}: COLMAP makes depth maps of undistorted images alone")
        return decode_depth_map(read_below(self._fs, self._directory or "", image + SUFFIX, "depth"))

    def camera_of(self, image: str, camera: Camera) -> Camera:
        """Return the camera of an image's map: COLMAP may make the maps smaller than the images.

        The maps of one camera have one size; a map of another is found out, and dropped, when it is read.
        """
        if camera not in self._cameras:
            self._cameras[camera] = self._resized(image, replace(camera, distortion=None))
        return self._cameras[camera]

    def _resized(self, image: str, camera: Camera) -> Camera:
        with cast("Any", self._fs.open(f"{self._directory}/{image}{SUFFIX}", "rb")) as file:
            header = _HEADER.match(file.read(_HEADER_MAX))
        width, height = (int(number) for number in header.groups()[:2]) if header else (0, 0)
        if not width * height:
            return camera  # reading the map says what is wrong with it
        sx, sy = width / camera.width_px, height / camera.height_px
        return Camera(camera.fx_px * sx, camera.fy_px * sy, camera.cx_px * sx, camera.cy_px * sy, width, height)


def decode_depth_map(data: bytes) -> Float32Array:
    """Return the z-depth (h, w) in the model's units; NaN where it is unknown (0 in the file, or not a number).

    The header is `width&height&channels&` in ASCII, then float32 row by row. Raises Drop: depth_unreadable.
    """
    header = _HEADER.match(data)
    if header is None:
        raise Drop("depth_unreadable", f"begins with {data[:24]!r}, not with width&height&channels&")
    width, height, channels = (int(number) for number in header.groups())
    if channels != 1 or len(data) - header.end() != 4 * width * height or not width * height:
        raise Drop("depth_unreadable", f"{width}x{height}x{channels} said, {len(data) - header.end()} bytes found")
    depth = np.frombuffer(data, "<f4", offset=header.end()).reshape(height, width)
    with np.errstate(invalid="ignore"):
        return np.where((depth > 0) & np.isfinite(depth), depth, np.float32(np.nan))


def encode_depth_map(depth: Float32Array) -> bytes:
    """Return a z-depth map (h, w), NaN where unknown, in COLMAP's form."""
    height, width = depth.shape
    return f"{width}&{height}&1&".encode() + np.nan_to_num(depth, nan=0.0).astype("<f4").tobytes()
