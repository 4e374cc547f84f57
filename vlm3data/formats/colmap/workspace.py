"""Where a COLMAP workspace keeps its images, its models and its depth maps."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from fsspec import AbstractFileSystem

from vlm3data.formats.colmap.model import Form, find_form

_DEEPEST = 2
"""Models are looked for in `sparse`, `sparse/0` and, as MegaDepth has them, `sparse/manhattan/0`."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """A model with the directories that belong to it."""

    name: str
    images: str
    model: str
    form: Form
    depth_maps: str | None
    """The directory of the dense depth maps; only those of undistorted images are of use."""


def find_workspaces(fs: AbstractFileSystem, root: str) -> list[Workspace]:
    """Return the workspaces at `root`: one a model; it is a workspace itself, or its directories are."""
    own = list(_models_of(fs, root))
    return own or [found for directory in _directories(fs, root) for found in _models_of(fs, directory)]


def find_models(fs: AbstractFileSystem, directory: str, depth: int = 0) -> Iterator[tuple[str, Form]]:
    """Yield the directories at and below `directory` that hold a model, by number where their names are numbers."""
    names = [posixpath.basename(str(entry["name"])) for entry in _entries(fs, directory) if entry["type"] == "file"]
    if form := find_form(names):
        yield directory, form
    elif depth < _DEEPEST:
        for below in _directories(fs, directory):
            yield from find_models(fs, below, depth + 1)


def workspace_of(fs: AbstractFileSystem, name: str, images: str, model: str, form: Form) -> Workspace:
    """Return the workspace of a model and the images it was made from; depth maps lie beside them."""
    depth_maps = posixpath.join(posixpath.dirname(images), "stereo", "depth_maps")
    return Workspace(name, images, model, form, depth_maps if fs.isdir(depth_maps) else None)


def _models_of(fs: AbstractFileSystem, directory: str) -> Iterator[Workspace]:
    images, sparse = posixpath.join(directory, "images"), posixpath.join(directory, "sparse")
    if not (fs.isdir(images) and fs.isdir(sparse)):
        return
    models = list(find_models(fs, sparse))
    for model, form in models:
        below = posixpath.relpath(model, sparse).replace("/", "-")
        name = posixpath.basename(directory) + (f"-{below}" if len(models) > 1 else "")
        yield workspace_of(fs, name, images, model, form)


def _directories(fs: AbstractFileSystem, directory: str) -> list[str]:
    paths = [str(entry["name"]).rstrip("/") for entry in _entries(fs, directory) if entry["type"] == "directory"]
    return sorted(paths, key=_by_number)


def _by_number(path: str) -> tuple[int, str]:
    name = posixpath.basename(path)
    return (int(name) if name.isdecimal() else -1, path)


def _entries(fs: AbstractFileSystem, directory: str) -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", fs.ls(directory, detail=True))
