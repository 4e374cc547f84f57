"""The cameras of a scene's frames and of their depth maps."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Sequence

from fsspec import AbstractFileSystem

from vlm3data.formats.rgbd.calibration import Pinhole, camera_of, given, parse
from vlm3data.formats.rgbd.patterns import Intrinsics, Patterns, listed
from vlm3data.formats.rgbd.poses import nearest
from vlm3data.geometry.camera import with_size
from vlm3data.storage import read_below
from vlm3data.types import Camera, Drop, UserError

TRIES = 10
"""How many files of a scene are opened to learn their size, where the first are damaged."""
ASPECT_TOLERANCE = 0.02


def read_file(fs: AbstractFileSystem, path: str, what: str) -> bytes:
    """Return a file's bytes; raises Drop: <what>_missing, <what>_unreadable."""
    return read_below(fs, posixpath.dirname(path), posixpath.basename(path), what)


def find_file(fs: AbstractFileSystem, name: str, places: Sequence[str]) -> str | None:
    """Return the path of the file `name` in the first of the directories that has it."""
    paths = (posixpath.join(place, name) for place in places)
    return next((path for path in paths if fs.isfile(path)), None)


def read_intrinsics(
    fs: AbstractFileSystem, places: Sequence[str], intrinsics: Intrinsics, patterns: Patterns, names: list[str]
) -> Callable[[str], Pinhole]:
    """Return what gives the intrinsics of a frame by its name, or raises Drop: intrinsics_missing, bad_intrinsics.

    `places` are the scene's directory and where else a file for all frames may lie; one that is not there, or that
    cannot be read, is a UserError.
    """
    if intrinsics.path is None:
        pinhole = given(intrinsics)
        return lambda name: pinhole
    if "{frame}" not in intrinsics.path:
        path = find_file(fs, intrinsics.path, places)
        if path is None:
            raise UserError(f"{places[0]}: there is no {intrinsics.path}, neither here nor in {places[-1]}")
        try:
            pinhole = parse(read_file(fs, path, "intrinsics"), intrinsics, path)
        except Drop as drop:
            raise UserError(f"{path}: {drop.detail.removeprefix(path + ': ')}") from drop
        return lambda name: pinhole
    paths = nearest(listed(fs, places[0], intrinsics.path), names, patterns)

    def of_frame(name: str) -> Pinhole:
        if name not in paths:
            raise Drop("intrinsics_missing", f"{places[0]}: frame {name}")
        return parse(read_file(fs, paths[name], "intrinsics"), intrinsics, paths[name])

    return of_frame


def depth_camera_of(
    directory: str, camera: Camera, pinhole: Pinhole | None, size_px: tuple[int, int], first_pixel_centre: float
) -> Camera:
    """Return the camera of depth maps of `size_px`: with their own intrinsics, or the image's camera.

    Either is scaled where it is written for another size.
    """
    if pinhole is not None:
        camera = camera_of(pinhole, size_px, first_pixel_centre)
    sx, sy = size_px[0] / camera.width_px, size_px[1] / camera.height_px
    if abs(sx / sy - 1) > ASPECT_TOLERANCE:
        raise UserError(
            f"{directory}: depth maps of {size_px[0]}x{size_px[1]} pixels cannot show all of an image of "
            f"{camera.width_px}x{camera.height_px}; give depth.intrinsics of their own size"
        )
    return with_size(camera, size_px)


def common_size_px(
    fs: AbstractFileSystem, paths: Sequence[str], size_of: Callable[[bytes], tuple[int, int]]
) -> tuple[int, int] | None:
    """Return the size of the first file that can be read: all are of one size, others are dropped by name."""
    for path in paths[:TRIES]:
        try:
            return size_of(read_file(fs, path, "file"))
        except Drop:  # it is dropped, and counted, when its frame is read
            continue
    return None
