"""The vertices of a PLY mesh; small meshes as ScanNet's are, and coloured points, written (binary, little-endian).

Our own few lines, because the well-known reader is under the GPL. Of the format's header, `element`, `property`
and the three encodings are understood; an element before the vertices must have properties of fixed size.
"""

from __future__ import annotations

import io
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt
from fsspec import AbstractFileSystem

from vlm3data.types import Float64Array, UserError

MAX_HEADER = 1 << 16
"""Bytes; real headers have a few hundred."""
_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip
_ENCODINGS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": ""}


def read_vertices(fs: AbstractFileSystem, path: str) -> Float64Array:
    """Return the x, y, z (n, 3) of a mesh's vertices; raise UserError, naming the file, where it is damaged."""
    size = int(fs.size(path) or 0)
    with cast("BinaryIO", fs.open(path, "rb")) as file:
        order, elements = _read_header(file, path)
        skipped_rows = skipped_bytes = 0
        for name, count, properties in elements:
            if name == "vertex":
                break
            if any(kind == "list" for _, kind in properties):
                raise UserError(f"{path}: element {name!r} with lists stands before the vertices; cannot be read")
            skipped_rows += count
            skipped_bytes += count * _row(properties, order or "<").itemsize
        else:
            raise UserError(f"{path}: this PLY file has no vertices")
        if any(kind == "list" for _, kind in properties) or not {"x", "y", "z"} <= {axis for axis, _ in properties}:
            raise UserError(f"{path}: its vertices are not plain x, y, z with further numbers")
        row = _row(properties, order or "<")
        least_bytes = row.itemsize if order else 2 * len(properties)  # a digit and a space
        if count * least_bytes + (skipped_bytes if order else 2 * skipped_rows) > size:
            raise UserError(f"{path}: claims {count} vertices, but has only {size} bytes; copy it again")
        names = [name for name, _ in properties]
        if not order:
            return _ascii_vertices(file, skipped_rows, count, names, path)
        file.seek(skipped_bytes, io.SEEK_CUR)
        data = file.read(count * row.itemsize)
    if len(data) < count * row.itemsize:
        raise UserError(f"{path}: the file ends inside the vertices; copy it again")
    rows = np.frombuffer(data, row)
    with np.errstate(invalid="ignore"):  # damage may look like a signalling NaN
        axes = [rows[f"{names.index(axis)}"].astype(np.float64) for axis in "xyz"]
    return _finite(np.stack(axes, axis=1), path)


def write_mesh(file: BinaryIO, vertices_m: npt.ArrayLike, faces: npt.ArrayLike) -> None:
    """Write vertices (n, 3) in float32 and triangles (m, 3) of vertex numbers."""
    xyz, corners = np.asarray(vertices_m, "<f4"), np.asarray(faces, "<i4")
    header = (
        "ply\nformat binary_little_endian 1.0\n"
        f"element vertex {len(xyz)}\nproperty float x\nproperty float y\nproperty float z\n"
        f"element face {len(corners)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    rows = np.empty(len(corners), np.dtype([("count", "u1"), ("corners", "<i4", 3)]))
    rows["count"], rows["corners"] = 3, corners
    file.write(header.encode() + xyz.tobytes() + rows.tobytes())


def write_points(file: BinaryIO, points_m: npt.ArrayLike, rgb: npt.ArrayLike) -> None:
    """Write points (n, 3) in float32 with their colours (n, 3) in 0 to 255."""
    xyz = np.asarray(points_m, "<f4").reshape(-1, 3)
    colours = "".join(f"property uchar {name}\n" for name in ("red", "green", "blue"))
    header = (
        "ply\nformat binary_little_endian 1.0\ncomment metres; x right, y down, z forward\n"
        f"element vertex {len(xyz)}\nproperty float x\nproperty float y\nproperty float z\n{colours}end_header\n"
    )
    rows = np.empty(len(xyz), np.dtype([("xyz", "<f4", 3), ("rgb", "u1", 3)]))
    rows["xyz"], rows["rgb"] = xyz, np.asarray(rgb, np.uint8).reshape(-1, 3)
    file.write(header.encode() + rows.tobytes())


def _read_header(file: BinaryIO, path: str) -> tuple[str, list[tuple[str, int, list[tuple[str, str]]]]]:
    """Return the byte order ("" for text) and the elements: name, count, (name, type) of each property."""
    order: str | None = None
    elements: list[tuple[str, int, list[tuple[str, str]]]] = []
    if file.readline(16).strip() != b"ply":
        raise UserError(f"{path}: is no PLY file")
    read = 0
    while read < MAX_HEADER:
        line = file.readline(MAX_HEADER)
        read += len(line)
        match line.decode("latin-1").split():
            case ["end_header"] if order is not None:
                return order, elements
            case ["format", encoding, "1.0"] if encoding in _ENCODINGS:
                order = _ENCODINGS[encoding]
            case ["element", name, count] if count.isascii() and count.isdigit() and len(count) < 16:
                elements.append((name, int(count), []))
            case ["property", "list", count_kind, kind, name] if elements and {count_kind, kind} <= _TYPES.keys():
                elements[-1][2].append((name, "list"))
            case ["property", kind, name] if elements and kind in _TYPES:
                elements[-1][2].append((name, kind))
            case ["comment" | "obj_info", *_]:
                pass
            case _:
                break
    raise UserError(f"{path}: damaged PLY header")


def _row(properties: list[tuple[str, str]], order: str) -> np.dtype[np.void]:
    """Return the dtype of a row; fields go by number, because names may repeat."""
    return np.dtype([(f"{number}", order + _TYPES[kind]) for number, (_, kind) in enumerate(properties)])


def _ascii_vertices(file: BinaryIO, skip: int, count: int, names: list[str], path: str) -> Float64Array:
    for _ in range(skip):
        file.readline()
    columns = [names.index(axis) for axis in "xyz"]
    rows = np.empty((count, 3))
    for number in range(count):
        words = file.readline().split()
        try:
            rows[number] = [float(words[column]) for column in columns]
        except (ValueError, IndexError) as error:
            raise UserError(f"{path}: vertex {number} is not a line of numbers: {error}") from error
    return _finite(rows, path)


def _finite(vertices: Float64Array, path: str) -> Float64Array:
    if not np.isfinite(vertices).all():
        raise UserError(f"{path}: vertices that are not finite numbers")
    return vertices
