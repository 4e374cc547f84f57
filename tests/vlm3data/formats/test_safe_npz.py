"""Array files from strangers: what numpy writes is read, a lie about a size is told before anything is allocated."""

from __future__ import annotations

import io
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fsspec.implementations.local import LocalFileSystem

from tests.vlm3data.formats.damage import CASES, survives
from tests.vlm3data.formats.test_safe_pickle import SMALL_BYTES, objects, same
from vlm3data.formats import safe_npz
from vlm3data.formats.safe_npz import read_npy, read_npz
from vlm3data.types import UserError

FS = LocalFileSystem()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def header(shape: str, descr: str = "'<f8'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def zipped(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def refused(path: Path, *names: str) -> str:
    tracemalloc.start()
    try:
        with pytest.raises(UserError) as caught:
            read_npz(FS, str(path), names or ("a",))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < SMALL_BYTES
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_numpy_saves_is_read(tmp_path):
    whole: dict[str, Any] = {
        "a": np.eye(3),
        "o": objects(None, np.eye(4), "x"),
        "f": np.asfortranarray(np.ones((2, 3))),
    }
    for save, name in ((np.savez, "plain.npz"), (np.savez_compressed, "packed.npz")):
        save(tmp_path / name, **whole)
        assert same(read_npz(FS, str(tmp_path / name), ("a", "o", "f", "none")), whole)
        assert read_npz(FS, str(tmp_path / name), ("a",)).keys() == {"a"}
    (tmp_path / "raw.npz").write_bytes(pickle.dumps(whole))
    assert same(read_npz(FS, str(tmp_path / "raw.npz"), ("a", "o", "none")), {"a": whole["a"], "o": whole["o"]})


def test_an_array_that_is_not_asked_for_is_not_read(tmp_path):
    class Evil:
        def __reduce__(self):
            return print, ("ran",)

    np.savez(tmp_path / "s.npz", a=np.eye(2), evil=objects(Evil()))
    assert read_npz(FS, str(tmp_path / "s.npz"), ("a",)).keys() == {"a"}
    assert "evil: not read, because its pickle names builtins.print" in refused(tmp_path / "s.npz", "evil")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (header("(1000000000000,)") + bytes(8), "shape"),
        (header("(60000000,)") + bytes(8), "in 8 bytes"),
        (header("(4294967296, 4294967296)") + bytes(8), "shape"),
        (header("(0, 1000000000000)"), "shape"),
        (header("(-1, -8)") + bytes(64), "shape"),
        (header("(3,)", "[('a', '<f8')]") + bytes(24), "an array"),
        (header("(9,)", "'V0'"), "an array"),
        (header("(9,)", "'U0'"), "an array"),
        (header("(3,)", "'M8[s]'") + bytes(24), "an array"),
        (header("(1,)" + " " * 20000) + bytes(8), "not a sound array"),
        (header("(" * 3000), "not a sound array"),
        (header("__import__('os').system('true')"), "not a sound array"),
        (header("(2,)", "'|O'") + pickle.dumps([1, 2]), "not the array"),
        (header("(1000000,)", "'|O'") + pickle.dumps(objects(1, 2)), "not the array"),
        (header("(2,)") + bytes(15), "in 15 bytes"),
        (header("(2,)") + bytes(17), "in 17 bytes"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "not a sound array"),
        (b"\x93NUMPY\x07\x00", "not a sound array"),
        (b"", "not a sound array"),
    ],
    ids=range(19),
)
def test_a_header_is_held_against_the_bytes(tmp_path, data, says):
    with pytest.raises(UserError, match="here: ") as caught:
        read_npy(data, "here")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    refused(zipped(tmp_path / "s.npz", {"a.npy": data}))


def test_a_zip_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(safe_npz, "MAX_MEMBER", 1 << 20)
    bomb = header("(2621440,)") + bytes(20 << 20)
    assert "claims" in refused(zipped(tmp_path / "bomb.npz", {"a.npy": bomb}))


def claiming(path: Path, size: int, packed: int | None = None) -> Path:
    """Change the sizes, plain and packed, that both headers of a zip's first member claim."""
    data = bytearray(zipped(path, {"a.npy": npy(np.zeros(100))}).read_bytes())
    (true,) = struct.unpack_from("<I", data, 22)
    for at in (22, data.rindex(b"PK\x01\x02") + 24):
        assert struct.unpack_from("<I", data, at) == (true,)
        struct.pack_into("<I", data, at, size)
        if packed is not None:
            struct.pack_into("<I", data, at - 4, packed)
    path.write_bytes(data)
    return path


def test_a_member_is_of_the_size_that_it_claims(tmp_path):
    assert "claims 4000000000 bytes" in refused(claiming(tmp_path / "more.npz", 4_000_000_000))
    assert "claims" in refused(claiming(tmp_path / "ratio.npz", 200_000))
    assert "claims 900000000 bytes" in refused(claiming(tmp_path / "both.npz", 900_000_000, 900_000_000))
    refused(claiming(tmp_path / "some.npz", 1000))
    refused(claiming(tmp_path / "less.npz", 100))


def test_a_zip_that_numpy_does_not_write_is_refused(tmp_path):
    good = npy(np.zeros(3))
    with zipfile.ZipFile(tmp_path / "twice.npz", "w") as archive:
        archive.writestr("a.npy", good)
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.npy", npy(np.ones(3)))
    assert "twice" in refused(tmp_path / "twice.npz")
    assert "packed in a way" in refused(zipped(tmp_path / "bz2.npz", {"a.npy": good}, zipfile.ZIP_BZIP2))
    many = zipped(tmp_path / "many.npz", {f"{number:0900}": b"" for number in range(1300)})
    assert "its list of members is too long" in refused(many)
    locked = bytearray(zipped(tmp_path / "locked.npz", {"a.npy": good}).read_bytes())
    for at in (6, locked.rindex(b"PK\x01\x02") + 8):
        locked[at] |= 1
    (tmp_path / "locked.npz").write_bytes(locked)
    assert "packed in a way" in refused(tmp_path / "locked.npz")


def test_other_files_are_refused(tmp_path, monkeypatch):
    for name, data in {"npy": npy(np.ones(3)), "empty": b"", "text": b"hello", "cut": b"PK\x03\x04"}.items():
        (tmp_path / name).write_bytes(data)
        refused(tmp_path / name)
    (tmp_path / "list").write_bytes(pickle.dumps([1, 2]))
    assert "a pickled list, not a dict" in refused(tmp_path / "list")
    monkeypatch.setattr(safe_npz, "MAX_PICKLE", 10)
    assert "more than any scene needs" in refused(tmp_path / "list")


def test_damaged_files_end_in_a_result_or_in_one_line(tmp_path):
    whole = {"a": np.arange(12.0).reshape(3, 4), "o": objects(None, np.eye(4), "x")}
    plain, packed = io.BytesIO(), io.BytesIO()
    np.savez(plain, **whole)
    np.savez_compressed(packed, **whole)
    path = tmp_path / "damaged.npz"
    for good in (plain.getvalue(), packed.getvalue(), pickle.dumps(whole)):
        came_of = survives(good, path, lambda: read_npz(FS, str(path), ("a", "o")), CASES // 2)
        assert came_of["refused"] > 0
