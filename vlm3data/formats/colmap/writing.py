"""Writing a model: what the synthetic layout and the benchmark need, and round trips with reading."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from fsspec import AbstractFileSystem

from vlm3data.formats.colmap import cameras
from vlm3data.formats.colmap.cameras import StoredCamera
from vlm3data.formats.colmap.images import Observations, StoredImage
from vlm3data.formats.colmap.model import SUFFIX, Form
from vlm3data.formats.colmap.points import ELEMENT, HEAD
from vlm3data.types import Float64Array, Int64Array, UInt8Array

_AT_ONCE = 50_000


class WrittenPoints(NamedTuple):
    """Points with colours and whole tracks: that of point i is `track[first[i]:first[i + 1]]`."""

    point_id: Int64Array
    xyz: Float64Array
    rgb: UInt8Array
    error_px: Float64Array
    first: Int64Array
    track: Int64Array
    """(m, 2): image id, and the number of the observation among the image's."""


def write_model(
    fs: AbstractFileSystem,
    directory: str,
    form: Form,
    stored: Mapping[int, StoredCamera],
    images: Sequence[tuple[StoredImage, Observations]],
    points: WrittenPoints,
) -> None:
    """Write the three files of a model."""
    fs.makedirs(directory, exist_ok=True)
    writers = {
        "cameras": [cameras.format_binary(stored) if form == "binary" else cameras.format_text(stored)],
        "images": images_binary(images) if form == "binary" else images_text(images),
        "points3D": points_binary(points) if form == "binary" else points_text(points),
    }
    for name, parts in writers.items():
        with cast("Any", fs.open(f"{directory}/{name}{SUFFIX[form]}", "wb")) as file:
            for part in parts:
                file.write(part)


def images_binary(images: Sequence[tuple[StoredImage, Observations]]) -> Iterator[bytes]:
    """Yield the parts of `images.bin`."""
    yield len(images).to_bytes(8, "little")
    for image, seen in images:
        yield struct.pack("<I4d3dI", image.image_id, *image.wxyz, *image.translation, image.camera_id)
        table = np.empty(len(seen.point), [("xy", "<f8", 2), ("point", "<i8")])
        table["xy"], table["point"] = seen.xy_px, seen.point
        yield image.name.encode() + b"\0" + len(table).to_bytes(8, "little") + table.tobytes()


def points_binary(points: WrittenPoints) -> Iterator[bytes]:
    """Yield the parts of `points3D.bin`."""
    yield len(points.point_id).to_bytes(8, "little")
    for begin in range(0, len(points.point_id), _AT_ONCE):
        some = slice(begin, begin + _AT_ONCE)
        head = np.empty(len(points.point_id[some]), HEAD)
        head["id"], head["xyz"], head["rgb"] = points.point_id[some], points.xyz[some], points.rgb[some]
        head["error"], head["track"] = points.error_px[some], np.diff(points.first)[some]
        track = points.track[points.first[begin] : points.first[begin + len(head)]].astype("<i4").view(np.uint8)
        elements = head["track"].astype(np.int64)
        before = np.cumsum(elements) - elements
        at = np.arange(len(head)) * HEAD.itemsize + before * ELEMENT
        data = np.empty(len(head) * HEAD.itemsize + int(elements.sum()) * ELEMENT, np.uint8)
        is_head = np.zeros(len(data), bool)
        is_head[(at[:, None] + np.arange(HEAD.itemsize)).ravel()] = True
        data[is_head] = head.view(np.uint8).reshape(-1)
        data[~is_head] = track.reshape(-1)
        yield data.tobytes()


def images_text(images: Sequence[tuple[StoredImage, Observations]]) -> Iterator[bytes]:
    yield b"# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME\n# POINTS2D[] as (X, Y, POINT3D_ID)\n"
    for image, seen in images:
        pose = " ".join(f"{value:.17g}" for value in (*image.wxyz, *image.translation))
        rows = zip(seen.xy_px.tolist(), seen.point.tolist(), strict=True)
        line = " ".join(f"{x:.17g} {y:.17g} {point}" for (x, y), point in rows)
        yield f"{image.image_id} {pose} {image.camera_id} {image.name}\n{line}\n".encode()


def points_text(points: WrittenPoints) -> Iterator[bytes]:
    yield b"# POINT3D_ID, X, Y, Z, R, G, B, ERROR, TRACK[] as (IMAGE_ID, POINT2D_IDX)\n"
    for number, point_id in enumerate(points.point_id.tolist()):
        xyz = " ".join(f"{value:.17g}" for value in points.xyz[number].tolist())
        rgb = " ".join(map(str, points.rgb[number].tolist()))
        track = points.track[points.first[number] : points.first[number + 1]].ravel().tolist()
        yield f"{point_id} {xyz} {rgb} {points.error_px[number]:.17g} {' '.join(map(str, track))}\n".encode()
