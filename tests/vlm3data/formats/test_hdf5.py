"""HDF5 from strangers: one array of floats out of this file, and out of no other."""

from __future__ import annotations

import io
import sys
import tracemalloc
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.vlm3data.formats.damage import CASES, survives
from vlm3data.formats import hdf5
from vlm3data.formats.hdf5 import array_size, read_array, write_array
from vlm3data.types import Drop, UserError

DEPTH = np.random.default_rng(0).uniform(1, 9, (61, 47)).astype(np.float32)


def file_with(libver: str | None = None, **settings: object) -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w", libver=libver) as opened:
        opened.create_dataset("depth", **{"data": DEPTH, **settings})
    return file.getvalue()


def refused(data: bytes, name: str = "depth") -> str:
    tracemalloc.start()
    try:
        with pytest.raises(Drop) as caught:
            read_array(data, name)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert caught.value.reason == "corrupt_hdf5"
    assert "\n" not in str(caught.value)
    return caught.value.detail


@settings(max_examples=40, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from([np.float16, np.float32, np.float64]), hnp.array_shapes(min_dims=2, max_dims=2, max_side=40)
    )
)
def test_the_round_trip_is_exact(values):
    data = write_array("depth", values)
    found = read_array(data, "depth")
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, values)
    assert array_size(io.BytesIO(data), "depth") == values.shape[::-1]


@pytest.mark.parametrize("libver", [None, "latest"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"compression": "gzip", "shuffle": True},
        {"chunks": (20, 30)},
        {"compression": "lzf"},
        {"compression": "lzf", "shuffle": True, "data": np.ones((90, 70), np.float32)},
        {"compression": "gzip", "data": np.frombuffer(np.random.default_rng(0).bytes(64), np.float32).reshape(4, 4)},
        {"chunks": (61, 47), "compression": "gzip"},
        {"chunks": (64, 64), "maxshape": (None, None), "compression": "gzip"},
        {"data": DEPTH.astype(">f8")},
        {"data": DEPTH.astype(np.float16).astype(np.float64)},
    ],
)
def test_every_plain_storage_is_read_as_h5py_reads_it(settings, libver):
    np.testing.assert_array_equal(read_array(file_with(libver, **settings), "depth"), settings.get("data", DEPTH))


def test_what_points_elsewhere_is_refused(tmp_path: Path):
    (tmp_path / "secret.h5").write_bytes(file_with())
    (tmp_path / "secret.raw").write_bytes(DEPTH.tobytes())
    layout = h5py.VirtualLayout(DEPTH.shape, np.float32)
    layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "depth", DEPTH.shape)
    forms = {
        "a link elsewhere": lambda opened: opened.__setitem__(
            "depth", h5py.ExternalLink(str(tmp_path / "secret.h5"), "depth")
        ),
        "link elsewhere": lambda opened: opened.__setitem__("depth", h5py.SoftLink("/other")),
        "in other files": lambda opened: opened.create_virtual_dataset("depth", layout),
        "other files": lambda opened: opened.create_dataset(
            "depth", DEPTH.shape, np.float32, external=[(str(tmp_path / "secret.raw"), 0, h5py.h5f.UNLIMITED)]
        ),
        "no array": lambda opened: opened.create_group("depth"),
        "not in the file": lambda opened: opened.create_dataset("other", data=DEPTH),
    }
    for says, make in forms.items():
        path = tmp_path / "hostile.h5"
        path.unlink(missing_ok=True)
        with h5py.File(path, "w") as opened:
            make(opened)
        assert says in refused(path.read_bytes())
        with pytest.raises(Drop):
            array_size(io.BytesIO(path.read_bytes()), "depth")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"data": DEPTH.astype(int)}, "not plain floats"),
        ({"data": np.zeros((3, 3), "c8")}, "not plain floats"),
        ({"data": np.zeros((3, 3), [("a", "f4")])}, "not plain floats"),
        ({"data": np.array([["a"]], object), "dtype": h5py.string_dtype()}, "not plain floats"),
        ({"data": None, "shape": (3, 3), "dtype": h5py.vlen_dtype(np.float32)}, "not plain floats"),
        ({"data": DEPTH[0]}, "shape"),
        ({"data": DEPTH[None]}, "shape"),
        ({"data": np.float32(1)}, "shape"),
        ({"data": None, "shape": (1 << 20, 1 << 20), "dtype": "f4", "chunks": (64, 64)}, "shape"),
        ({"data": None, "shape": (4000, 4000), "dtype": "f4", "chunks": (64, 64)}, "0 of 3969 chunks"),
        ({"data": None, "shape": (4000, 4000), "dtype": "f4", "chunks": (1, 1)}, "chunks of (1, 1)"),
        ({"data": None, "shape": (40, 40), "dtype": "f4"}, "ends inside"),
        ({"fletcher32": True}, "filter 3"),
        ({"scaleoffset": 2}, "filter 6"),
    ],
)
def test_what_is_no_depth_map_is_refused(settings, says):
    assert says in refused(file_with(**settings))


def test_a_chunk_that_inflates_beyond_its_size_is_refused():
    file = io.BytesIO()
    with h5py.File(file, "w") as opened:
        depth = opened.create_dataset("depth", (8, 8), np.float32, chunks=(8, 8), compression="gzip")
        depth.id.write_direct_chunk((0, 0), zlib.compress(bytes(50 << 20)))
    assert "a chunk of 257 bytes, not 256" in refused(file.getvalue())


def test_a_chunk_that_skips_a_filter_is_read_as_it_is():
    file, values = io.BytesIO(), np.arange(64.0).reshape(8, 8)
    with h5py.File(file, "w") as opened:
        depth = opened.create_dataset("depth", (8, 8), np.float64, chunks=(8, 8), compression="gzip", shuffle=True)
        shuffled = values.view(np.uint8).reshape(-1, 8).T.tobytes()
        depth.id.write_direct_chunk((0, 0), shuffled, filter_mask=2)
    np.testing.assert_array_equal(read_array(file.getvalue(), "depth"), values)


def test_lzf_that_claims_a_chunk_of_another_size_is_refused():
    good = file_with(compression="lzf", data=np.ones((64, 64), np.float32), chunks=(64, 64))
    settings = np.array([4, 261, 64 * 64 * 4], "<u4").tobytes()
    assert good.count(settings) == 1
    refused(good.replace(settings, np.array([4, 261, 2**32 - 1], "<u4").tobytes()))


def test_a_file_that_ends_early_is_refused():
    data = write_array("depth", DEPTH)
    for length in (0, 5, 100, len(data) // 2, len(data) - 1):
        refused(data[:length])
    refused(b"not HDF5 at all")
    contiguous = file_with()
    refused(contiguous[:-8])


def test_damaged_files_end_in_a_result_or_in_a_drop(tmp_path):
    path = tmp_path / "damaged.h5"

    def read() -> None:
        with path.open("rb") as file:
            array_size(file, "depth")
        read_array(path.read_bytes(), "depth")

    for good in (
        write_array("depth", DEPTH),
        file_with("latest", compression="gzip", chunks=(20, 20)),
        file_with(),
        file_with(compression="lzf", shuffle=True),
    ):
        came_of = survives(good, path, read, CASES // 10)
        assert min(came_of.values()) > 0


def test_without_h5py_the_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UserError, match=r"pip install 'vlm3\[megadepth\]'"):
        hdf5.read_array(b"", "depth")
