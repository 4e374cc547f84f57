"""Readers of one file's bytes, each with small sound files of its own."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem
from PIL import Image

from tests import exif_photos
from tests.conftest import photo
from tests.vlm3data.sources.test_rgbd import STORED, npy
from vlm3data import exif, growth
from vlm3data.formats import depth_file, exr, hdf5, json_table, mat5, ply, poses, safe_npz, safe_pickle
from vlm3data.formats.colmap import cameras
from vlm3data.formats.colmap.depth_map import decode_depth_map, encode_depth_map
from vlm3data.formats.depth_image import encode_pgm16, encode_png16
from vlm3data.formats.nuscenes.lidar import points_from_bytes, points_to_bytes
from vlm3data.formats.scannet import text
from vlm3data.images import decode_rgb

FS = LocalFileSystem()
SIZE = (32, 24)
POSE = poses.from_axis_angle((0.1, 0.2, -0.1), (0.5, 0.5, -0.3))


class Reader(NamedTuple):
    """How to make sound files, and how to read one's bytes; `path` is where they lie."""

    seeds: Callable[[], Sequence[bytes]]
    read: Callable[[bytes, Path], Any]
    by_path: bool = False
    """Whether the bytes must be on the disk."""


def _saved(form: str, mode: str = "RGB", size: tuple[int, int] = SIZE, **options: Any) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(file, form, **options)
    return file.getvalue()


def _images() -> list[bytes]:
    return [
        photo(1, *SIZE), _saved("JPEG", progressive=True), _saved("JPEG", "CMYK"), _saved("PNG"), _saved("PNG", "P"),
        _saved("PNG", "RGBA"), _saved("WEBP"), _saved("BMP"), _saved("TIFF"), _saved("TIFF", compression="tiff_lzw"),
        _saved("GIF", "P"), _saved("PPM"),
    ]  # fmt: skip


def _photos() -> list[bytes]:
    camera = {exif.FOCAL_LENGTH: 4.25, exif.FOCAL_LENGTH_35MM: 26, exif.PIXEL_WIDTH: 160, exif.PIXEL_HEIGHT: 120}
    plane = {exif.PLANE_X: 5000.0, exif.PLANE_Y: 5000.0, exif.PLANE_UNIT: 2}
    return [
        exif_photos.with_exif(camera | plane, orientation=6, make="A", model="B", form=form, size=SIZE)
        for form in ("JPEG", "PNG", "TIFF", "WEBP")
    ]


def _depth_files() -> list[bytes]:
    tiff = io.BytesIO()
    Image.fromarray(STORED.astype(np.float32)).save(tiff, "TIFF")
    return [encode_png16(STORED), encode_pgm16(STORED), npy(), tiff.getvalue()]


def _depth_m() -> np.ndarray:
    return (STORED / 1000).astype(np.float32)


def _exrs() -> list[bytes]:
    return [exr.encode_exr(_depth_m())]


def _mats() -> list[bytes]:
    fields = {"depth": _depth_m().astype(np.float64), "rgb": np.zeros((24, 32, 3), np.uint8), "calib": np.eye(3)}
    return [mat5.write_struct("data", fields)]


def _h5s() -> list[bytes]:
    return [hdf5.write_array("depth", _depth_m())]


def _objects(*items: Any) -> np.ndarray:
    array = np.empty(len(items), object)
    array[:] = items
    return array


WHOLE = {"poses": _objects(np.eye(4), None), "names": _objects("a.jpg", "b.jpg"), "overlap": np.eye(3)}


def _npzs() -> list[bytes]:
    plain, packed = io.BytesIO(), io.BytesIO()
    np.savez(plain, **WHOLE)
    np.savez_compressed(packed, **WHOLE)
    return [plain.getvalue(), packed.getvalue(), pickle.dumps(WHOLE, 4)]


def _npys() -> list[bytes]:
    files = []
    for array in (np.eye(3), _objects("a", np.eye(2)), np.asfortranarray(np.ones((3, 5), np.float32))):
        file = io.BytesIO()
        np.save(file, array)
        files.append(file.getvalue())
    return files


def _pickles() -> list[bytes]:
    return [pickle.dumps(WHOLE, protocol) for protocol in (2, 3, 4, 5)]


def _plys() -> list[bytes]:
    mesh, points = io.BytesIO(), io.BytesIO()
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]])
    ply.write_mesh(mesh, corners, [[0, 1, 2], [0, 2, 3]])
    ply.write_points(points, corners, np.zeros((4, 3), np.uint8))
    header = (
        "ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nproperty float y\nproperty float z\nend_header\n"
    )
    return [mesh.getvalue(), points.getvalue(), (header + "0 1 2\n3 4 5\n").encode()]


class _Row(msgspec.Struct):
    token: str
    numbers: tuple[float, float]
    raw: msgspec.Raw


def _tables() -> list[bytes]:
    rows = [{"token": f"t{n}", "numbers": [n, 0.5], "raw": {"a": [n]}, "more": "}, {"} for n in range(8)]
    return [json.dumps(rows, indent=indent).encode() for indent in (None, 0, 2)]


def _lines() -> list[bytes]:
    return [poses.format_tum([("1.0", POSE), ("2.0", POSE)]).encode(), poses.format_log({0: POSE, 3: POSE}).encode()]


def _read_lines(data: bytes, path: Path) -> None:
    words = data.decode("utf-8", "replace")
    for row in poses.parse_rows(words, 8, str(path)) if words.count("\n") < 4 else poses.parse_log(words, "x").values():
        _ = poses.from_quaternion(row[1:4], row[4:8]) if row.ndim == 1 else poses.rigid(row)


def _cameras() -> list[bytes]:
    stored = {n: cameras.StoredCamera("OPENCV", 64, 48, (50.0, 50, 32, 24, 0.1, 0, 0, 0)) for n in (1, 7)}
    return [cameras.format_binary(stored), cameras.format_text(stored)]


def _read_cameras(data: bytes, path: Path) -> None:
    is_text = data[:1] == b"#" or (data[:4].isascii() and data[:1].isdigit())
    found = cameras.parse_text(data.splitlines(True), "x") if is_text else cameras.parse_binary(data, "x")
    for camera in found.values():
        try:
            camera.camera()
        except AttributeError:
            return


def _texts() -> list[bytes]:
    return [text.format_matrix(np.eye(4)).encode(), text.format_values({"a": np.eye(4), "b": np.eye(4)}).encode()]


def _read_text(data: bytes, path: Path) -> None:
    for value in text.parse_values(data, "x").values() if b"=" in data else [data.decode("utf-8", "replace")]:
        text.parse_matrix(value, "x")


def _plans() -> list[bytes]:
    from vlm3data.plan import SCHEMA

    kinds = {pa.string(): "x", pa.int64(): 1}
    row = {field.name: [kinds.get(field.type, 0), kinds.get(field.type, 0)] for field in SCHEMA}
    file = io.BytesIO()
    import pyarrow.parquet as pq

    pq.write_table(pa.table(row, schema=SCHEMA.with_metadata({"config": "ab"})), file)
    return [file.getvalue()]


def _read_plan(data: bytes, path: Path) -> None:
    built = growth.built_by("out", data)
    _ = built.config, built.generations


READERS = {
    "image": Reader(_images, lambda data, path: decode_rgb(data)),
    "image of a known size": Reader(_images, lambda data, path: decode_rgb(data, SIZE, upright=True)),
    "exif": Reader(_photos, lambda data, path: exif.read_exif(data)),
    "depth file (png, pgm, npy, tiff)": Reader(
        _depth_files, lambda data, path: depth_file.decode_depth_file(data, SIZE)
    ),
    "exr": Reader(_exrs, lambda data, path: exr.decode_exr(data, SIZE)),
    "mat5": Reader(_mats, lambda data, path: mat5.read_struct(data, "data", ("depth", "rgb", "calib"))),
    "hdf5": Reader(_h5s, lambda data, path: hdf5.read_array(data, "depth")),
    "npz": Reader(_npzs, lambda data, path: safe_npz.read_npz(FS, str(path), list(WHOLE)), by_path=True),
    "npy": Reader(_npys, lambda data, path: safe_npz.read_npy(data, "x")),
    "pickle": Reader(_pickles, lambda data, path: safe_pickle.load(data, "x")),
    "ply": Reader(_plys, lambda data, path: ply.read_vertices(FS, str(path)), by_path=True),
    "json table": Reader(
        _tables, lambda data, path: list(json_table.read_table(FS, str(path), "t", _Row)), by_path=True
    ),
    "trajectory": Reader(_lines, _read_lines),
    "colmap cameras": Reader(_cameras, _read_cameras),
    "colmap depth map": Reader(lambda: [encode_depth_map(_depth_m())], lambda data, path: decode_depth_map(data)),
    "lidar sweep": Reader(
        lambda: [points_to_bytes(np.ones((40, 3)), 1.0, 3.0)], lambda data, path: points_from_bytes(data, "x")
    ),
    "scannet text": Reader(_texts, _read_text),
    "plan.parquet": Reader(_plans, _read_plan),
}  # fmt: skip
"""By the name in the table."""
