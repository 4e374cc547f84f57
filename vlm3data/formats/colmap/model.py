"""A COLMAP model: the directory with its cameras, images and points, each file read when first asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from typing import BinaryIO, Literal, cast

from fsspec import AbstractFileSystem

from vlm3data.formats.colmap import cameras, images, points
from vlm3data.storage import read_whole
from vlm3data.types import Camera, Drop, UserError

Form = Literal["binary", "text"]
SUFFIX: dict[str, str] = {"binary": ".bin", "text": ".txt"}
NAMES = ("cameras", "images", "points3D")


def find_form(names: Sequence[str]) -> Form | None:
    """Return the form of the model among a directory's file names, binary where both are there; None: there is none."""
    forms: tuple[Form, ...] = ("binary", "text")
    return next((form for form in forms if all(f"{name}{SUFFIX[form]}" in names for name in NAMES)), None)


class Model:
    """What is in one model's directory; what is damaged raises UserError naming file and record."""

    def __init__(self, fs: AbstractFileSystem, directory: str, form: Form) -> None:
        self._fs, self.directory, self.form = fs, directory, form

    @cached_property
    def cameras(self) -> Mapping[int, Camera | Drop]:
        """The cameras by id; in place of one that cannot be used, why."""
        path = self._path("cameras")
        data = read_whole(self._fs, path)
        if self.form == "binary":
            stored = cameras.parse_binary(data, path)
        else:
            stored = cameras.parse_text(data.splitlines(), path)
        return {camera_id: _usable(camera, f"{path}: camera {camera_id}") for camera_id, camera in stored.items()}

    @cached_property
    def images(self) -> images.Images:
        """The images, by id."""
        path = self._path("images")
        if self.form == "binary":
            read = images.read_binary(partial(self._open, path), self._size(path), path)
        else:
            read = images.read_text(partial(self._open, path), path)
        for image in read.images:
            if image.camera_id not in self.cameras:
                raise UserError(f"{path}: image {image.image_id} ({image.name}) has camera {image.camera_id}, which "
                                f"{self._path('cameras')} does not hold")  # fmt: skip
        return read

    @cached_property
    def points(self) -> points.Points:
        """The points, by id."""
        path = self._path("points3D")
        if self.form == "binary":
            return points.read_binary(partial(self._open, path), self._size(path), path)
        return points.read_text(partial(self._open, path), path)

    def _size(self, path: str) -> int:
        return int(self._fs.size(path) or 0)

    def _path(self, name: Literal["cameras", "images", "points3D"]) -> str:
        return f"{self.directory}/{name}{SUFFIX[self.form]}"

    def _open(self, path: str) -> BinaryIO:
        return cast("BinaryIO", self._fs.open(path, "rb"))


def _usable(camera: cameras.StoredCamera, where: str) -> Camera | Drop:
    try:
        return camera.camera()
    except Drop as drop:
        return Drop(drop.reason, f"{where}: {drop.detail}")
