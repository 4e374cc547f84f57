"""`images.bin` and `images.txt`: poses, and which points each image observes where.

A model can hold gigabytes of observations. Reading it walks over them; those of one image are read when asked for.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from vlm3data.formats.colmap.text import Row, words_of
from vlm3data.types import Float64Array, Int64Array, UserError

_HEAD = struct.Struct("<I4d3dI")
"""Image id, quaternion w x y z, translation, camera id; the name follows, then the observations."""
_OBSERVATION = np.dtype([("xy", "<f8", 2), ("point", "<i8")])
"""The id is a uint64, the largest of which stands for none: -1."""
_NAME_MAX = 4096
_SMALLEST = _HEAD.size + 1 + 8


class Observations(NamedTuple):
    """The 2D points of an image: `xy_px` (k, 2), and `point` (k,), the id of the 3D point or -1."""

    xy_px: Float64Array
    point: Int64Array


class StoredImage(NamedTuple):
    """An image's record, but for its observations."""

    image_id: int
    wxyz: tuple[float, ...]
    """Rotation cam_from_world as a quaternion."""
    translation: tuple[float, ...]
    camera_id: int
    name: str


@dataclass(frozen=True)
class Images:
    """All images of a model, by rising id."""

    images: Sequence[StoredImage]
    where: str
    _open: Callable[[], BinaryIO]
    _spans: Sequence[tuple[int, int]]
    """Per image the first byte of its observations and how many there are; of text, how many bytes."""
    _binary: bool

    def observations(self, number: int) -> Observations:
        """Return what the image `number` (not its id) observes; raises UserError where that is damaged."""
        with self._open() as file:
            return self._read(file, number)

    def all_observations(self) -> list[Int64Array]:
        """Return of every image the ids of the 3D points that it observes, each once, sorted."""
        with self._open() as file:
            seen = []
            for number in range(len(self.images)):
                point = np.sort(_ids(self._table(file, number)["point"]))
                seen.append(point[(point >= 0) & np.append(True, point[1:] > point[:-1])[: len(point)]])
            return seen

    def _read(self, file: BinaryIO, number: int) -> Observations:
        table = self._table(file, number)
        return Observations(table["xy"].astype(np.float64), _ids(table["point"]))

    def _table(self, file: BinaryIO, number: int) -> npt.NDArray[np.void]:
        first, length = self._spans[number]
        file.seek(first)
        if not self._binary:
            return _parse_observations(file.read(length), f"{self.where}: image {self.images[number].image_id}")
        data = file.read(length * _OBSERVATION.itemsize)
        if len(data) != length * _OBSERVATION.itemsize:
            raise UserError(
                f"{self.where}: image {self.images[number].image_id}: the file has changed while it is read"
            )
        return np.frombuffer(data, _OBSERVATION)


def read_binary(opener: Callable[[], BinaryIO], size: int, where: str) -> Images:
    """Return the images of `images.bin`, which is `size` bytes long; raises UserError naming a damaged record."""
    if size < 8:
        raise UserError(f"{where}: {size} bytes, too short for COLMAP's images")
    images: list[StoredImage] = []
    spans: list[tuple[int, int]] = []
    with opener() as file:
        count, offset = int.from_bytes(file.read(8), "little"), 8
        if count * _SMALLEST > size:
            raise UserError(f"{where}: says that it holds {count} images, more than its {size} bytes can")
        for number in range(count):
            record = f"{where}: image record {number} at byte {offset}"
            head, name = _head_and_name(file, offset, record)
            begin = offset + _HEAD.size + len(name) + 9
            file.seek(begin - 8)
            word = file.read(8)
            length = int.from_bytes(word, "little")
            end = begin + length * _OBSERVATION.itemsize
            if len(word) < 8 or end > size:
                raise UserError(f"{record} ({name[:80]!r}): {length} observations, more than the file holds")
            text = name.decode("utf-8", "backslashreplace")
            images.append(StoredImage(head[0], head[1:5], head[5:8], head[8], text))
            spans.append((begin, length))
            offset = end
    if offset != size:
        raise UserError(f"{where}: {size - offset} bytes follow the last of its {count} images")
    return _sorted(images, spans, where, opener, binary=True)


def read_text(opener: Callable[[], BinaryIO], where: str) -> Images:
    """Return the images of `images.txt`; raises UserError naming a damaged line."""
    images: list[StoredImage] = []
    spans: list[tuple[int, int]] = []
    with opener() as file:
        offset, awaited = 0, False
        for number, line in enumerate(file, 1):
            if awaited:  # also a blank line: an image that observes nothing
                spans.append((offset, len(line)))
                awaited = False
            elif words := words_of(line):
                images.append(_image_of(Row(words, f"{where}: line {number}")))
                awaited = True
            offset += len(line)
        if awaited:
            spans.append((offset, 0))
    return _sorted(images, spans, where, opener, binary=False)


def _head_and_name(file: BinaryIO, offset: int, record: str) -> tuple[tuple[Any, ...], bytes]:
    data = b""
    for reach in (192, _NAME_MAX):  # nearly all names are short
        file.seek(offset)
        data = file.read(_HEAD.size + reach)
        name, found, _ = data[_HEAD.size :].partition(b"\0")
        if found:
            return _HEAD.unpack_from(data), name
    raise UserError(f"{record}: its name does not end")


def _image_of(row: Row) -> StoredImage:
    numbers = row.floats(1, 8)
    row.word(9)
    # a name may have blanks in it
    name = b" ".join(row.words[9:]).decode("utf-8", "backslashreplace")
    return StoredImage(row.integer(0), numbers[:4], numbers[4:], row.integer(8), name)


def _parse_observations(line: bytes, where: str) -> npt.NDArray[np.void]:
    words = line.split()
    if len(words) % 3:
        raise UserError(f"{where}: {len(words)} numbers of observations, which come in threes")
    try:
        numbers = np.array(words, np.bytes_).astype(np.float64).reshape(-1, 3)
        table = np.empty(len(numbers), _OBSERVATION)
        table["xy"] = numbers[:, :2]
        if words:
            table["point"] = np.array(words[2::3], np.bytes_).astype(np.int64)
    except (ValueError, OverflowError) as error:
        raise UserError(f"{where}: {error}") from error
    return table


def _ids(point: Int64Array) -> Int64Array:
    """Return ids with -1 for none and, of what no model has (negative, or beyond int64), an id that none has either."""
    return np.where(point < -1, np.iinfo(np.int64).max, point)


def _sorted(
    images: list[StoredImage],
    spans: list[tuple[int, int]],
    where: str,
    opener: Callable[[], BinaryIO],
    *,
    binary: bool,
) -> Images:
    order = sorted(range(len(images)), key=lambda number: images[number].image_id)
    ordered = [images[number] for number in order]
    for what, values in (
        ("id", [str(image.image_id) for image in ordered]),
        ("name", [image.name for image in ordered]),
    ):
        if len(set(values)) < len(values):
            raise UserError(f"{where}: two images have the {what} {Counter(values).most_common(1)[0][0]!r}")
    return Images(ordered, where, opener, [spans[number] for number in order], binary)
