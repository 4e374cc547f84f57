"""Reading pickled numpy arrays from strangers: data come out, and nothing is ever called or looked up.

The names in a pickle are not resolved: `_NAMES` maps the few that numpy's own pickles hold to functions of this
module, which check shape and type against the bytes that are there. All others are refused by name. The interpreter
is the standard library's in Python, not the one in C, which allocates what a pickle claims before it reads
(a memo of 2**32 places, a string of 2**60 bytes).
"""

# The standard library's interpreter in Python has a private name only; opcodes are `_Reader`'s own methods.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import io
import math
import pickle
import re
import struct
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from vlm3data.types import UserError

MAX_OBJECTS = 1 << 23
"""Containers, arrays, scalars and places in the memo, of one pickle; a hundred thousand pairs of images take two
million."""
MAX_SIDE = 1 << 26
MAX_DIMENSIONS = 8
MAX_LETTERS = 1 << 12

_PLAIN = re.compile(r"(b1|[iu][1248]|f(2|4|8)|c(8|16)|O[48]?|[US]\d{1,4})")
_SPOILT = (
    pickle.UnpicklingError, EOFError, IndexError, KeyError, TypeError, ValueError, AttributeError, OverflowError,
    AssertionError, RecursionError, struct.error,
)  # fmt: skip


def load(data: bytes, where: str) -> Any:
    """Return what a pickle of protocol 2 to 5 holds: plain containers, numbers, strings, numpy arrays and scalars.

    Dicts have text keys. Raises UserError, one line that begins with `where`, for anything else.
    """
    try:
        return _Reader(data).load()
    except _Refused as error:
        raise UserError(f"{where}: not read, because its pickle {error}") from error
    except _SPOILT as error:
        told = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(f"{where}: not a sound pickle: {told}") from error


class _Refused(Exception):
    """What a pickle wants that arrays do not need."""


class _Name:
    """What a name in a pickle stands for here; only `_Reader` ever calls its function."""

    def __init__(self, name: str, call: Callable[[tuple[Any, ...]], Any] | None) -> None:
        self.name, self.call = name, call


class _Dtype:
    """A numpy dtype as it is being pickled: kind and size, then the byte order."""

    def __init__(self, plain: str) -> None:
        self.plain, self.order = plain, "="

    def make(self) -> np.dtype[Any]:
        plain = self.plain[0] if self.plain[0] == "O" else self.plain
        dtype = np.dtype(plain).newbyteorder(self.order)  # pyright: ignore[reportArgumentType]
        if not dtype.itemsize:
            raise _Refused("holds values without a size")
        return dtype

    def build(self, state: tuple[Any, ...]) -> None:
        # (version, order, subarray, names, fields, size, alignment, flags); more only for dates
        if len(state) != 8 or state[0] != 3 or state[1] not in ("<", ">", "|", "=") or state[2:5] != (None,) * 3:
            raise _Refused("holds records or dates, not plain numbers")
        if self.plain[0] in "US" and state[5] != self.make().itemsize:
            raise _Refused("holds text of another size than it claims")
        self.order = state[1]


def _dtype(args: tuple[Any, ...]) -> _Dtype:
    if len(args) != 3 or not isinstance(args[0], str) or not _PLAIN.fullmatch(args[0]):
        raise _Refused(f"holds values of type {str(args[:1])[:40]}")
    if args[0][0] in "US" and int(args[0][1:]) > MAX_LETTERS:
        raise _Refused(f"holds text of type {args[0]}")
    return _Dtype(args[0])


def _reconstruct(args: tuple[Any, ...]) -> npt.NDArray[Any]:
    if len(args) != 3 or args[0] is not _NDARRAY or args[1] != (0,) or args[2] not in (b"b", "b"):
        raise _Refused("calls numpy's _reconstruct as no array does")
    return np.ndarray((0,), np.int8)


def _scalar(args: tuple[Any, ...]) -> Any:
    (kind, raw) = args
    dtype = _made(kind)
    if dtype.hasobject or not isinstance(raw, bytes) or len(raw) != dtype.itemsize:
        raise _Refused("holds a scalar that is not of its size")
    return np.frombuffer(raw, dtype)[0]


def _frombuffer(args: tuple[Any, ...]) -> npt.NDArray[Any]:
    raw, kind, shape, order = args[:4]
    dtype = _made(kind)
    if any(arg is not None for arg in args[4:]) or order not in ("C", "F") or not isinstance(raw, bytes):
        raise _Refused("calls numpy's _frombuffer as no array does")
    _check_size(shape, dtype, raw)
    return np.frombuffer(raw, dtype).reshape(shape, order=order)


def _latin1(args: tuple[Any, ...]) -> bytes:
    text, codec = args  # how protocol 2 writes bytes
    if codec not in ("latin1", "latin-1"):
        raise _Refused(f"encodes text as {str(codec)[:40]!r}")
    return str.encode(text, "latin-1")


def _no_bytes(args: tuple[Any, ...]) -> bytes:
    if args != ():
        raise _Refused("calls bytes")
    return b""  # how protocol 2 writes empty bytes


def _made(kind: Any) -> np.dtype[Any]:
    if not isinstance(kind, _Dtype):
        raise _Refused("holds an array without a type")
    return kind.make()


def _check_size(shape: Any, dtype: np.dtype[Any], raw: bytes | list[Any]) -> None:
    """Refuse a shape that the values do not fill exactly."""
    sides = isinstance(shape, tuple) and len(shape) <= MAX_DIMENSIONS and all(type(side) is int for side in shape)
    if not sides or not all(0 <= side <= MAX_SIDE for side in shape):
        raise _Refused(f"holds an array of shape {str(shape)[:60]}")
    size = 1 if isinstance(raw, list) else dtype.itemsize
    if math.prod(shape) * size != len(raw):
        raise _Refused(f"holds an array of shape {shape} of {dtype} in {len(raw)} {'items' if size == 1 else 'bytes'}")


_NDARRAY = _Name("numpy.ndarray", None)
_NAMES = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Name("numpy.dtype", _dtype),
    ("_codecs", "encode"): _Name("_codecs.encode", _latin1),
    ("builtins", "bytes"): _Name("bytes", _no_bytes),
    ("__builtin__", "bytes"): _Name("bytes", _no_bytes),
} | {
    (f"numpy.{core}.{module}", name): _Name(f"numpy.{name}", call)
    for core in ("core", "_core")  # numpy 1 and 2
    for module, name, call in (
        ("multiarray", "_reconstruct", _reconstruct),
        ("multiarray", "scalar", _scalar),
        ("numeric", "_frombuffer", _frombuffer),
    )
}


class _Opcodes(dict[int, Callable[[Any], None]]):
    def __missing__(self, code: int) -> NoReturn:
        raise _Refused(f"has the operation {code:#04x}, which arrays do not need")


class _Reader(pickle._Unpickler):
    """The standard unpickler with fewer operations, and none that does more than put values together."""

    stack: list[Any]
    read: Callable[[int], bytes]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self._objects = 0
        self._copied, self._may_copy = 0, 4 * len(data) + (1 << 20)
        self._held: dict[int, npt.NDArray[Any]] = {}
        self._of_objects: dict[int, npt.NDArray[Any]] = {}

    def find_class(self, module: str, name: str) -> _Name:
        if (module, name) not in _NAMES:
            raise _Refused(f"names {module[:60]}.{name[:60]}, which no array needs")
        return _NAMES[module, name]

    def _counted(self) -> None:
        self._objects += 1
        if self._objects > MAX_OBJECTS:
            raise _Refused(f"holds more than {MAX_OBJECTS} objects")

    def _copying(self, count: int) -> None:
        """Refuse to copy a value again and again that a pickle holds once."""
        self._copied += count
        if self._copied > self._may_copy:
            raise _Refused("grows to many times its size")

    def _reduce(self) -> None:
        args, name = self.stack.pop(), self.stack.pop()
        if not isinstance(name, _Name) or name.call is None or type(args) is not tuple:
            raise _Refused(f"calls {name.name if isinstance(name, _Name) else type(name).__name__}")
        self._counted()
        self._copying(sum(len(arg) for arg in args if isinstance(arg, str | bytes)))
        self.stack.append(name.call(args))

    def _build(self) -> None:
        state, made = self.stack.pop(), self.stack[-1]
        if type(state) is not tuple or not isinstance(made, _Dtype | np.ndarray):
            raise _Refused(f"sets the state of {made.name if isinstance(made, _Name) else type(made).__name__}")
        if isinstance(made, _Dtype):
            made.build(state)
        else:
            self._build_array(made, state)

    def _build_array(self, array: npt.NDArray[Any], state: tuple[Any, ...]) -> None:
        version, shape, kind, fortran, raw = state
        dtype = _made(kind)
        if version != 1 or type(fortran) is not bool or type(raw) is not (list if dtype.hasobject else bytes):
            raise _Refused("holds an array whose state is not numpy's")
        _check_size(shape, dtype, raw)
        self._copying(len(raw) * (4 if dtype.hasobject else 1))
        if dtype.hasobject:
            inner = [item for item in raw if isinstance(item, np.ndarray)]
            # Arrays of objects within one another would be freed by recursion in C, without an end.
            if id(array) in self._held or any(id(item) in self._of_objects or item is array for item in inner):
                raise _Refused("holds arrays of objects within one another")
            self._held |= {id(item): item for item in inner}
            self._of_objects[id(array)] = array
        array.__setstate__((1, shape, dtype, fortran, raw))  # pyright: ignore[reportArgumentType]

    def _append(self) -> None:
        item = self.stack.pop()
        self._list().append(item)

    def _appends(self) -> None:
        items = self.pop_mark()
        self._list().extend(items)

    def _list(self) -> list[Any]:
        if type(self.stack[-1]) is not list:
            raise _Refused(f"appends to {type(self.stack[-1]).__name__}")
        return self.stack[-1]

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def _set_items(self) -> None:
        self._set(self.pop_mark())

    def _set(self, items: list[Any]) -> None:
        into = self.stack[-1]
        if type(into) is not dict or any(type(key) is not str for key in items[::2]):
            raise _Refused("has a dict whose keys are not text")  # hashing others can take for ever
        into.update(zip(items[::2], items[1::2], strict=True))

    def _bytes8(self) -> None:
        size = int.from_bytes(self.read(8), "little")
        if size > np.iinfo(np.int64).max:
            raise _Refused(f"holds {size} bytes")
        raw = self.read(size)  # no more than there are
        if len(raw) != size:
            raise EOFError(f"{size} bytes claimed, {len(raw)} there")
        self.stack.append(raw)


def _counting(operation: Callable[[Any], None]) -> Callable[[_Reader], None]:
    def counted(reader: _Reader) -> None:
        reader._counted()
        operation(reader)

    return counted


def _opcodes() -> _Opcodes:
    known = pickle._Unpickler.dispatch
    kept = [
        pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE, pickle.EMPTY_TUPLE,
        pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1, pickle.BINFLOAT,
        pickle.SHORT_BINUNICODE, pickle.BINUNICODE, pickle.BINUNICODE8, pickle.SHORT_BINBYTES, pickle.BINBYTES,
        pickle.BINGET, pickle.LONG_BINGET, pickle.GLOBAL, pickle.STACK_GLOBAL,
    ]  # fmt: skip
    growing = [
        pickle.MARK, pickle.EMPTY_LIST, pickle.EMPTY_DICT, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3, pickle.TUPLE,
        pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE,
    ]  # fmt: skip
    ours = {
        pickle.REDUCE: _Reader._reduce,
        pickle.BUILD: _Reader._build,
        pickle.APPEND: _Reader._append,
        pickle.APPENDS: _Reader._appends,
        pickle.SETITEM: _Reader._set_item,
        pickle.SETITEMS: _Reader._set_items,
        pickle.BINBYTES8: _Reader._bytes8,
        pickle.BYTEARRAY8: _Reader._bytes8,
    }
    codes = {code[0]: known[code[0]] for code in kept}
    codes |= {code[0]: _counting(known[code[0]]) for code in growing}
    return _Opcodes(codes | {code[0]: call for code, call in ours.items()})


_Reader.dispatch = _opcodes()
