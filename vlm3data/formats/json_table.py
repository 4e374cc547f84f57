"""Large JSON tables, one list of records, read in pieces: memory stays bounded and every record is checked.

`msgspec` does the parsing and the checking. What it needs is whole records; where a piece of the file can be cut is
guessed and then proven by the parser: a cut inside a string or a nested value leaves it open, which is no JSON.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, TypeVar, cast

import msgspec
from fsspec import AbstractFileSystem

from vlm3data.storage import is_local
from vlm3data.types import UserError

PIECE = 1 << 17
"""Bytes read at a time: few enough that they and their records stay in a core's cache, which halves the time."""
REMOTE_BLOCK = 8 << 20
"""Bytes asked of an object store at a time."""
MAX_RECORD = 4 << 20
"""No record is longer: where none ends within so many bytes, this is not a table."""
_BETWEEN_RECORDS = re.compile(rb"\}\s*,\s*(?=\{)")
_SPACES = re.compile(r"\s*")
_JSON = json.JSONDecoder()
_OPEN, _CLOSE = b"[]"
_PLACE = re.compile(r" - at `\$(?:\[\d+\])?\.?(.*)`$")

Record = TypeVar("Record", bound=msgspec.Struct)


def read_table(fs: AbstractFileSystem, path: str, name: str, record: type[Record]) -> Iterator[list[Record]]:
    """Yield the records of the table at `path`, a few thousand at a time, in order.

    `record` says which fields are read and of which type they are; others are skipped. A field of type `msgspec.Raw`
    must be used before the next records are asked for: its memory is used again. Raises UserError, calling the table
    `name` and naming the record, where the file is missing, cut short, no list of records, or a field is missing or
    of the wrong type.
    """
    decoder = msgspec.json.Decoder(list[record])
    text = bytearray(1 + MAX_RECORD + PIECE)
    text[0] = _OPEN
    view = memoryview(text)
    with _opened(fs, path, name) as file:
        used, count, ended = _skip_bracket(file, view, name), 0, False
        while not ended:
            new = cast("Any", file).readinto(view[used : used + PIECE])
            ended = not new
            used += new
            end, following = (used, used) if ended else _last_record(text, used)
            cut_off = text[end : end + 1]
            if not ended and end:
                text[end] = _CLOSE
            try:
                records = decoder.decode(view[: end + (not ended)]) if end else []
            except (msgspec.DecodeError, UnicodeDecodeError):  # a mistake in the table, or a cut that was none
                text[end : end + 1] = cut_off
                records, read = _one_by_one(bytes(view[1:used]), name, record, count, ended=ended)
                following = 1 + read
            except RecursionError as error:
                raise UserError(f"{name}: not a table: nested too deeply after record {count}") from error
            if records:
                yield records
            count += len(records)
            text[1 : 1 + used - following] = text[following:used]
            used = 1 + used - following
            if used > MAX_RECORD:
                raise UserError(f"{name}: no record ends within {MAX_RECORD} bytes after record {count}")


def _skip_bracket(file: BinaryIO, view: memoryview, name: str) -> int:
    """Fill `view` up to where we return, after a bracket that is there, with what follows the one in the file."""
    while piece := file.read(PIECE):
        begin = piece.lstrip(b" \t\r\n")
        if begin[:1] == b"[":
            view[: len(begin)] = begin
            return len(begin)
        if begin:
            raise UserError(f"{name}: is not a JSON list of records")
    raise UserError(f"{name}: is empty")


def _last_record(text: bytearray, used: int) -> tuple[int, int]:
    """Return where the last record that another one seems to follow ends, and where that one begins; 0, 1 if none."""
    at = text.rfind(b"}", 0, used)
    while at >= 0:
        if between := _BETWEEN_RECORDS.match(text, at, used):
            return at + 1, between.end()
        at = text.rfind(b"}", 0, at)
    return 0, 1


def _one_by_one(text: bytes, name: str, record: type[Record], count: int, *, ended: bool) -> tuple[list[Record], int]:
    """Return the whole records at the beginning of `text`, and where the next one begins; slow, but exact.

    Raises UserError for the record that is wrong; one that merely goes on after `text` is left for later unless the
    file has `ended`.
    """
    try:
        string = codecs.getincrementaldecoder("utf-8")().decode(text, ended)
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: not UTF-8 some way after record {count}: {error.reason}") from error
    found: list[Record] = []
    next_record = 0
    while True:
        start = _SPACES.match(string, next_record).end()  # pyright: ignore[reportOptionalMemberAccess]
        try:
            value, end = _JSON.raw_decode(string, start)
        except (ValueError, RecursionError) as error:
            if not ended and len(string) - start <= MAX_RECORD:
                break
            raise UserError(f"{name}: record {count + len(found)}: {_reason(error, string)}") from error
        after = _SPACES.match(string, end).end()  # pyright: ignore[reportOptionalMemberAccess]
        if after == len(string) and not ended:
            break  # what follows this record is not known yet
        found.append(_checked(string[start:end], value, name, record, count + len(found)))
        if string[after : after + 1] != ",":
            if string[after:].rstrip() == "]":
                return found, len(string[:after].encode())
            what = repr(string[after : after + 10]) if after < len(string) else "nothing: the table is cut short"
            raise UserError(f"{name}: record {count + len(found) - 1} is followed by {what}")
        next_record = after + 1
    return found, len(string[:next_record].encode())


def _reason(error: Exception, string: str) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if not isinstance(error, json.JSONDecodeError):
        return str(error)
    open_string = error.msg.startswith("Unterminated string")
    if open_string or error.pos >= len(string.rstrip()):
        return "the table is cut short"
    return f"not valid JSON: {error.msg}"


def _checked(text: str, value: object, name: str, record: type[Record], number: int) -> Record:
    token = value.get("token") if isinstance(value, dict) else None
    where = f"{name}: record {number}" + (f" (token {token!r})" if isinstance(token, str) else "")
    try:
        return msgspec.json.decode(text, type=record)
    except msgspec.ValidationError as error:
        place = _PLACE.search(str(error))
        what = str(error)[: place.start()] if place else str(error)
        raise UserError(f"{where}: {place.group(1) + ': ' if place else ''}{what}") from error
    except (msgspec.DecodeError, RecursionError) as error:  # msgspec is stricter than the standard library: NaN
        raise UserError(f"{where}: not valid JSON: {error}") from error


@contextmanager
def _opened(fs: AbstractFileSystem, path: str, name: str) -> Generator[BinaryIO]:
    try:
        file = open(path, "rb", buffering=0) if is_local(fs) else fs.open(path, "rb", block_size=REMOTE_BLOCK)  # noqa: SIM115, PTH123
    except FileNotFoundError as error:
        raise UserError(f"{name}: there is no such table ({path})") from error
    except OSError as error:
        raise UserError(f"{name}: cannot be read: {error}") from error
    with file:
        yield cast("BinaryIO", file)
