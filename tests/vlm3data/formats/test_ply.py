"""PLY vertices: the three encodings, elements and properties around them, damage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.vlm3data.formats.damage import survives
from vlm3data.formats.ply import read_vertices, write_mesh
from vlm3data.storage import open_store
from vlm3data.types import UserError

VERTICES = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
FACES = np.arange(48).reshape(-1, 3)


def read(path: Path) -> np.ndarray:
    return read_vertices(*open_store(str(path)))


@pytest.fixture
def mesh(tmp_path: Path) -> Path:
    path = tmp_path / "mesh.ply"
    with path.open("wb") as file:
        write_mesh(file, VERTICES, FACES)
    return path


def test_what_is_written_is_read(mesh):
    np.testing.assert_array_equal(read(mesh), VERTICES.astype(float))


@pytest.mark.parametrize("encoding", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_further_properties_and_elements_are_passed_over(tmp_path, encoding):
    """As ScanNet's own: colours beside the axes, in any order; an element before the vertices."""
    lines = [
        "ply", f"format {encoding} 1.0", "comment made here", "element camera 2", "property double view",
        f"element vertex {len(VERTICES)}", "property float z", "property uchar red", "property double x",
        "property uchar alpha", "property float y", "element face 1", "property list uchar int vertex_indices",
        "end_header",
    ]  # fmt: skip
    rows = np.zeros(len(VERTICES), [("z", "f4"), ("red", "u1"), ("x", "f8"), ("alpha", "u1"), ("y", "f4")])
    for i, axis in enumerate("xyz"):
        rows[axis] = VERTICES[:, i]
    rows["red"] = 200
    if encoding == "ascii":
        body = "1.5\n2.5\n" + "".join(f"{z!r} {r} {x!r} {a} {y!r}\n" for z, r, x, a, y in rows.tolist()) + "3 0 1 2\n"
        data = body.encode()
    else:
        order = "<" if "little" in encoding else ">"
        data = np.array([1.5, 2.5], order + "f8").tobytes() + rows.astype(rows.dtype.newbyteorder(order)).tobytes()
    path = tmp_path / "mesh.ply"
    path.write_bytes("\n".join(lines).encode() + b"\n" + data)
    np.testing.assert_array_equal(read(path), VERTICES.astype(float))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (b"ply\n", b"plx\n", "is no PLY file"),
        (b"vertex 50", b"vertex 5000000000", "claims 5000000000 vertices"),
        (b"vertex 50", b"vertex -5", "damaged PLY header"),
        (b"vertex 50", b"vortex 50", "'face' with lists stands before the vertices"),
        (b"float z", b"float w", "not plain x, y, z"),
        (b"property float x", b"property list uchar float x", "not plain x, y, z"),
        (b"end_header", b"end_haeder", "damaged PLY header"),
        (b"binary_little_endian", b"rot13", "damaged PLY header"),
    ],
)
def test_damage_is_named(mesh, old, new, says):
    mesh.write_bytes(mesh.read_bytes().replace(old, new))
    with pytest.raises(UserError) as refusal:
        read(mesh)
    assert says in str(refusal.value)
    assert str(mesh) in str(refusal.value)


def test_a_file_that_is_cut_off_or_not_finite_is_refused(mesh):
    data = mesh.read_bytes()
    start = data.index(b"end_header\n") + 11
    mesh.write_bytes(data[: start + 599])
    with pytest.raises(UserError, match=r"ends inside the vertices|claims 50 vertices"):
        read(mesh)
    mesh.write_bytes(data[:start] + np.float32(np.nan).tobytes() + data[start + 4 :])
    with pytest.raises(UserError, match="not finite"):
        read(mesh)


def test_any_damage_gives_a_refusal_or_a_result(mesh):
    came_of = survives(mesh.read_bytes(), mesh, lambda: read(mesh))
    assert min(came_of.values()) > 0
