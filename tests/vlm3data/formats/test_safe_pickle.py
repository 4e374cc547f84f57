"""Pickles from strangers: numpy's own are read, every other is one line; nothing runs, nothing large is allocated."""

from __future__ import annotations

import copyreg
import io
import os
import pickle
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.vlm3data.formats.damage import CASES, damaged
from vlm3data.formats import safe_pickle
from vlm3data.types import UserError

SMALL_BYTES = 4 << 20
"""More than any refusal may allocate."""


def same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        if a.dtype == object:
            return a.shape == b.shape and all(map(same, a.ravel(), b.ravel()))
        return (
            a.shape == b.shape and a.dtype.kind == b.dtype.kind and np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")
        )
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return type(a) is type(b) and a == b


def objects(*items: Any) -> np.ndarray:
    array = np.empty(len(items), object)
    array[:] = items
    return array


def refused(data: bytes) -> str:
    """Return the one line that refuses `data`, after the name; reading it allocated little."""
    tracemalloc.start()
    try:
        with pytest.raises(UserError) as caught:
            safe_pickle.load(data, "scene.npz")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < SMALL_BYTES, peak
    message = str(caught.value)
    assert message.startswith("scene.npz: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_what_numpy_pickles_is_read_as_numpy_reads_it(protocol):
    whole = {
        "c": np.arange(6.0).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(15.0).reshape(3, 5)),
        "swapped": np.arange(4, dtype=">f4"),
        "text": np.array(["ab", "cde"]),
        "bytes": np.array([b"a"]),
        "truth": np.array([True, False]),
        "empty": np.zeros((0, 4), np.float32),
        "zero-dimensional": np.ones(()),
        "objects": objects("a/b.jpg", None, np.eye(4), 3.5, (1, (2, 3))),
        "scalars": [np.float32(2.5), np.int64(7), np.str_("abc"), np.bool_(True)],
        "plain": [1, -3, 10**18, 2.5, None, True, "x", b"", b"yz", (), [], {}],
    }
    assert same(whole, safe_pickle.load(pickle.dumps(whole, protocol), "x"))


numbers = hnp.arrays(
    st.sampled_from(["<f4", "<f8", ">f8", "<i4", "u1", "?", "<c8", "U3", "S2"]),
    hnp.array_shapes(max_dims=3, max_side=4),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(numbers | st.text(max_size=5) | st.none() | st.floats(allow_nan=False), max_size=5), st.integers(2, 5))
def test_arrays_of_any_kind_make_the_round_trip(items, protocol):
    assert same(objects(*items), safe_pickle.load(pickle.dumps(objects(*items), protocol), "x"))


def test_both_numpys_names_are_known():
    data = pickle.dumps(np.arange(3.0), 2)
    for core in (b"numpy.core.multiarray", b"numpy._core.multiarray"):
        renamed = data.replace(b"numpy._core.multiarray", core).replace(b"numpy.core.multiarray", core)
        assert core in renamed
        np.testing.assert_array_equal(safe_pickle.load(renamed, "x"), np.arange(3.0))


class Runs:
    """Pickles to a call."""

    def __init__(self, call: Any, *args: Any) -> None:
        self.call, self.args = call, args

    def __reduce__(self):
        return self.call, self.args


def test_no_call_is_made_and_its_name_is_told(tmp_path: Path):
    mark = tmp_path / "ran"
    calls = {
        "system": Runs(os.system, f"touch {mark}"),
        "builtins.eval": Runs(eval, f"open({str(mark)!r}, 'w')"),
        "builtins.exec": Runs(exec, f"open({str(mark)!r}, 'w')"),
        "builtins.getattr": Runs(getattr, "np", "load"),
        "_reconstructor": Runs(copyreg._reconstructor, Runs, object, None),
        "numpy.load": Runs(np.load, str(mark)),
        "fromfile": Runs(np.fromfile, str(mark)),
        "io.open": Runs(io.open, str(mark), "w"),
        "Path": mark,
        "Runs": pickle.PickleBuffer,
    }
    for name, evil in calls.items():
        for protocol in (2, 4):
            for whole in (evil, {"poses": objects(None, evil)}, [np.eye(3), evil]):
                assert "which no array needs" in refused(pickle.dumps(whole, protocol)), name
    assert "names posix.system" in refused(pickle.dumps(calls["system"], 4))
    assert not mark.exists()


def code(*parts: Any) -> bytes:
    """Assemble a pickle: bytes are operations, a str a text, an int a number, a tuple of names a global."""
    out = b"\x80\x04"
    for part in parts:
        if isinstance(part, tuple):
            out += code(*part)[2:-1] + pickle.STACK_GLOBAL
        elif isinstance(part, str):
            out += pickle.SHORT_BINUNICODE + bytes([len(part)]) + part.encode()
        elif isinstance(part, int):
            raw = part.to_bytes(part.bit_length() // 8 + 1, "little", signed=True)
            out += pickle.LONG1 + bytes([len(raw)]) + raw
        else:
            out += part
    return out + pickle.STOP


CORE = "numpy._core.multiarray"
NDARRAY, DTYPE, RECONSTRUCT = ("numpy", "ndarray"), ("numpy", "dtype"), (CORE, "_reconstruct")
SCALAR, FROMBUFFER, ENCODE = (CORE, "scalar"), ("numpy._core.numeric", "_frombuffer"), ("_codecs", "encode")
T1, T2, T3, MARK, TUPLE = pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3, pickle.MARK, pickle.TUPLE
REDUCE, BUILD, NONE, TRUE, FALSE = pickle.REDUCE, pickle.BUILD, pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE
LIST, DICT, PUT0, GET0 = pickle.EMPTY_LIST, pickle.EMPTY_DICT, pickle.BINPUT + b"\0", pickle.BINGET + b"\0"


def raw(data: bytes) -> bytes:
    return pickle.SHORT_BINBYTES + bytes([len(data)]) + data


F8 = (DTYPE, "f8", FALSE, TRUE, T3, REDUCE)
O8 = (DTYPE, "O8", FALSE, TRUE, T3, REDUCE)
EMPTY = (RECONSTRUCT, NDARRAY, 0, T1, raw(b"b"), T3, REDUCE)
HUGE = 10**12


def array(*state: Any) -> bytes:
    """Return the pickle of an array that is built from (version, shape, dtype, fortran, values)."""
    return code(*EMPTY, MARK, *state, TUPLE, BUILD)


def test_the_assembler_makes_arrays():
    good = array(1, 2, T1, *F8, FALSE, raw(bytes(16)))
    np.testing.assert_array_equal(safe_pickle.load(good, "x"), np.zeros(2))
    np.testing.assert_array_equal(pickle.loads(good), np.zeros(2))  # noqa: S301


HOSTILE = {
    "ndarray called with a huge shape": code(NDARRAY, HUGE, T1, T1, REDUCE),
    "_reconstruct with a huge shape": code(RECONSTRUCT, NDARRAY, HUGE, T1, raw(b"d"), T3, REDUCE),
    "_reconstruct of another class": code(RECONSTRUCT, DTYPE, 0, T1, raw(b"b"), T3, REDUCE),
    "_reconstruct of text": code(RECONSTRUCT, "ndarray", 0, T1, raw(b"b"), T3, REDUCE),
    "state with a huge shape": array(1, HUGE, T1, *F8, FALSE, raw(b"")),
    "state with two sides that overflow": array(1, 2**33, 2**33, T2, *F8, FALSE, raw(b"")),
    "state with a negative side": array(1, -1, T1, *F8, FALSE, raw(bytes(8))),
    "state with two negative sides": array(1, -1, -1, T2, *F8, FALSE, raw(bytes(8))),
    "state with many empty rows": array(1, HUGE, 0, T2, *F8, FALSE, raw(b"")),
    "state with a true side": array(1, TRUE, T1, *F8, FALSE, raw(bytes(8))),
    "state with too few bytes": array(1, 3, T1, *F8, FALSE, raw(bytes(16))),
    "state with a list for bytes": array(1, 1, T1, *F8, FALSE, LIST),
    "state with bytes for objects": array(1, 1, T1, *O8, FALSE, raw(bytes(8))),
    "state with text for a dtype": array(1, 1, T1, "f8", FALSE, raw(bytes(8))),
    "state with a fortran flag of 2": array(1, 1, T1, *F8, 2, raw(bytes(8))),
    "state too short": array(1, 1, T1),
    "state that is a dict": code(*EMPTY, DICT, BUILD),
    "state of a function": code(RECONSTRUCT, DICT, BUILD),
    "slots of a function": code(RECONSTRUCT, NONE, DICT, T2, BUILD),
    "state of a list": code(LIST, NONE, T1, BUILD),
    "a call of a text": code("system", "ls", T1, REDUCE),
    "a call of an array": code(*EMPTY, 1, T1, REDUCE),
    "a call with a list": code(RECONSTRUCT, LIST, REDUCE),
    "dtype of records": code(DTYPE, "V16", FALSE, TRUE, T3, REDUCE),
    "dtype by a name": code(DTYPE, "builtins.object", FALSE, TRUE, T3, REDUCE),
    "dtype of endless text": code(DTYPE, "U9999", FALSE, TRUE, T3, REDUCE),
    "dtype with fields": code(*F8, MARK, 3, "<", NONE, "a", T1, DICT, -1, -1, 0, TUPLE, BUILD),
    "dtype with a subarray": code(*F8, MARK, 3, "<", *F8, HUGE, T1, T2, NONE, NONE, -1, -1, 0, TUPLE, BUILD),
    "dtype of text that grows": code(DTYPE, "U2", FALSE, TRUE, T3, REDUCE)[:-1]
    + code(MARK, 3, "<", NONE, NONE, NONE, 4000, 4, 8, TUPLE, BUILD)[2:],
    "values without a size": array(1, 2**20, T1, DTYPE, "U0", FALSE, TRUE, T3, REDUCE, FALSE, raw(b"")),
    "a scalar of objects": code(SCALAR, *O8, raw(bytes(8)), T2, REDUCE),
    "a scalar too short": code(SCALAR, *F8, raw(bytes(4)), T2, REDUCE),
    "a buffer of objects": code(FROMBUFFER, MARK, raw(bytes(8)), *O8, 1, T1, "C", TUPLE, REDUCE),
    "a buffer with a huge shape": code(FROMBUFFER, MARK, raw(bytes(8)), *F8, HUGE, T1, "C", TUPLE, REDUCE),
    "text encoded by another codec": code(ENCODE, "x", "bz2", T2, REDUCE),
    "bytes of a huge size": code(("builtins", "bytes"), HUGE, T1, REDUCE),
    "a dict with tuples for keys": code(DICT, 1, T1, 1, pickle.SETITEM),
    "items set in an array": code(*EMPTY, "a", 1, pickle.SETITEM),
    "items appended to bytes": code(raw(b"ab"), 1, pickle.APPEND),
    "an object": code(("collections", "OrderedDict"), pickle.EMPTY_TUPLE, pickle.NEWOBJ),
    "an extension": b"\x80\x04" + pickle.EXT1 + b"\x01.",
    "a persistent name": code("x", pickle.BINPERSID),
    "an old-style object": b"(ios\nsystem\n.",
    "a set": code(b"\x8f"),
    "a buffer from elsewhere": code(b"\x97"),
    "a place in the memo that is empty": code(pickle.BINGET + b"\x07"),
    "nothing": b"",
    "no end": code(1)[:-1],
    "an end too early": b"\x80\x04.",
    "protocol 9": b"\x80\x09N.",
    "2**60 bytes": b"\x80\x04" + pickle.BINBYTES8 + struct.pack("<Q", 2**60) + b"abc.",
    "2**63 bytes": b"\x80\x04" + pickle.BINBYTES8 + struct.pack("<Q", 2**63) + b"abc.",
    "a bytearray of 2**60": b"\x80\x05" + pickle.BYTEARRAY8 + struct.pack("<Q", 2**60) + b"abc.",
    "a text of 2**60": b"\x80\x04" + pickle.BINUNICODE8 + struct.pack("<Q", 2**60) + b"abc.",
    "a frame of 2**60": b"\x80\x04" + pickle.FRAME + struct.pack("<Q", 2**60) + b"\x95",
    "an array within itself": code(*EMPTY, PUT0, MARK, 1, 1, T1, *O8, FALSE, LIST, GET0, pickle.APPEND, TUPLE, BUILD),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused_in_one_line(name):
    refused(HOSTILE[name])


def test_no_hostile_pickle_changes_the_reader():
    """What BUILD could have set on the reader's own functions would have shown by now."""
    for data in HOSTILE.values():
        with pytest.raises(UserError):
            safe_pickle.load(data, "x")
    test_what_numpy_pickles_is_read_as_numpy_reads_it(4)


def test_a_memo_of_billions_of_places_costs_nothing():
    data = b"\x80\x04N" + pickle.LONG_BINPUT + struct.pack("<I", 2**32 - 1) + b"."
    tracemalloc.start()
    assert safe_pickle.load(data, "x") is None
    assert tracemalloc.get_traced_memory()[1] < SMALL_BYTES
    tracemalloc.stop()


def test_what_is_held_once_cannot_be_copied_for_ever():
    text = "x" * 100_000
    memo = pickle.BINUNICODE + struct.pack("<I", len(text)) + text.encode() + PUT0
    again = code(ENCODE, GET0, "latin1", T2, REDUCE)[2:-1]
    assert "many times its size" in refused(b"\x80\x04" + memo + again * 1000 + b".")


def test_the_number_of_objects_is_bounded(monkeypatch):
    monkeypatch.setattr(safe_pickle, "MAX_OBJECTS", 1000)
    for grows in (pickle.EMPTY_DICT, pickle.EMPTY_LIST, pickle.MARK, b"N" + pickle.MEMOIZE, b"N" + pickle.TUPLE1):
        assert "more than 1000 objects" in refused(b"\x80\x04" + grows * 2000 + b".")
    assert len(safe_pickle.load(pickle.dumps([[] for _ in range(300)]), "x")) == 300


def test_arrays_of_objects_are_not_nested():
    deep: Any = None
    for _ in range(3):
        deep = objects(deep)
    assert "within one another" in refused(pickle.dumps(deep))
    lists: Any = []
    for _ in range(100_000):
        lists = [lists]
    data = b"\x80\x04" + pickle.EMPTY_LIST * 100_000 + pickle.APPEND * 99_999 + b"."
    assert isinstance(safe_pickle.load(data, "x"), list)


def test_damaged_pickles_end_in_a_result_or_in_one_line():
    good = pickle.dumps({"poses": objects(None, np.eye(4), "a"), "pairs": [((1, 2), 0.5, np.zeros((2, 4)))]}, 4)
    came_of = {True: 0, False: 0}
    for case in range(CASES):
        try:
            safe_pickle.load(damaged(good, np.random.default_rng(case)), "x")
            came_of[True] += 1
        except UserError:
            came_of[False] += 1
    assert min(came_of.values()) > 0
