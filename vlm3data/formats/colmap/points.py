"""`points3D.bin` and `points3D.txt`: where the points lie, and how many images observe each.

Which images observe a point is in the images' own records; of a track only its length is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from vlm3data.formats.colmap.chain import record_starts
from vlm3data.formats.colmap.text import Rows
from vlm3data.types import Float64Array, Int64Array, UserError

HEAD = np.dtype([("id", "<i8"), ("xyz", "<f8", 3), ("rgb", "u1", 3), ("error", "<f8"), ("track", "<u8")])
"""The fixed part of a record; the track follows, 8 bytes an element."""
TRACK_AT = 43
ELEMENT = 8
_BLOCK = 2**24
"""Bytes that are looked at together."""


@dataclass(frozen=True)
class Points:
    """The points of a model by rising id."""

    point_id: Int64Array
    xyz: Float64Array
    """(n, 3), in the units of the model."""
    error_px: Float64Array
    """(n,) The mean reprojection error as the file states it."""
    track_length: Int64Array
    where: str

    def find(self, point_id: Int64Array) -> Int64Array:
        """Return the places (k,) of ids (k,); -1 for those that there are none of."""
        if not len(self.point_id):
            return np.full(len(point_id), -1)
        place = np.minimum(np.searchsorted(self.point_id, point_id), len(self.point_id) - 1)
        return np.where(self.point_id[place] == point_id, place, -1)


def read_binary(opener: Callable[[], BinaryIO], size: int, where: str) -> Points:
    """Return the points of `points3D.bin`, which is `size` bytes long; raises UserError naming a damaged record."""
    if size < 8:
        raise UserError(f"{where}: {size} bytes, too short for COLMAP's points")
    with opener() as file:
        count = int.from_bytes(file.read(8), "little")
        if count * HEAD.itemsize > size:
            raise UserError(f"{where}: says that it holds {count} points, more than its {size} bytes can")
        ids, track = np.empty(count, np.int64), np.empty(count, np.int64)
        xyz, error = np.empty((count, 3)), np.empty(count)
        done, offset, rest = 0, 8, b""
        while done < count:
            block = rest + file.read(max(_BLOCK, len(rest)))  # a record longer than a block needs a longer one
            starts, used = record_starts(block, count - done, HEAD.itemsize, TRACK_AT, ELEMENT)
            if not len(starts):
                _check_first(block, size - offset, f"{where}: point record {done} at byte {offset}")
                rest = block
                continue
            new = slice(done, done + len(starts))
            ids[new], track[new] = _column(block, starts, 0, "<i8"), _column(block, starts, TRACK_AT, "<i8")
            error[new] = _column(block, starts, 35, "<f8")
            for axis in range(3):
                xyz[new, axis] = _column(block, starts, 8 + 8 * axis, "<f8")
            done, offset, rest = new.stop, offset + used, block[used:]
    if offset != size:
        raise UserError(f"{where}: {size - offset} bytes follow the last of its {count} points")
    return _sorted(ids, xyz, error, track, where)


def _check_first(block: bytes, left: int, record: str) -> None:
    """Raise UserError where the record that `block` begins with, or the file, cannot be whole."""
    if left < HEAD.itemsize or len(block) < HEAD.itemsize:
        raise UserError(f"{record}: the file ends in it")
    (head,) = np.frombuffer(block, HEAD, 1)
    if HEAD.itemsize + int(head["track"]) * ELEMENT > left or len(block) >= left:
        raise UserError(f"{record} (id {head['id']}): a track of {head['track']} images, more than the file holds")


def _column(block: bytes, starts: Int64Array, at: int, kind: str) -> np.ndarray:
    """Return the number `at` bytes into each record: a view with a stride of one byte is indexed by its place."""
    everywhere = np.ndarray((len(block) - 7,), kind, block, 0, (1,))
    return everywhere[starts + at]


def read_text(opener: Callable[[], BinaryIO], where: str) -> Points:
    """Return the points of `points3D.txt`; raises UserError naming a damaged line."""
    ids, track = [], []
    numbers: list[tuple[float, ...]] = []
    with opener() as file:
        for row in Rows(file, where):
            ids.append(row.integer(0))
            numbers.append(row.floats(1, 4) + row.floats(7, 8))
            if len(row.words) % 2:
                raise row.error(f"{len(row.words) - 8} numbers in the track, which come in pairs")
            track.append((len(row.words) - 8) // 2)
    table = np.array(numbers, np.float64).reshape(-1, 4)
    return _sorted(np.array(ids, np.int64), table[:, :3], table[:, 3], np.array(track, np.int64), where)


def _sorted(ids: Int64Array, xyz: Float64Array, error: Float64Array, track: Int64Array, where: str) -> Points:
    if (ids[1:] > ids[:-1]).all():
        return Points(ids, xyz, error, track, where)
    order = np.argsort(ids, kind="stable")
    ids = ids[order]
    if (again := np.flatnonzero(ids[1:] == ids[:-1])).size:
        raise UserError(f"{where}: two points have the id {ids[again[0]]}")
    return Points(ids, xyz[order], error[order], track[order], where)
