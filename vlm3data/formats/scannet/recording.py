"""One ScanNet scan's video in any of its three forms: the `.sens` itself, and what its two exporters make of it."""

from __future__ import annotations

import io
import posixpath
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, cast

import numpy as np
from fsspec import AbstractFileSystem
from PIL import Image

from vlm3data.formats.depth_file import decode_depth_file
from vlm3data.formats.depth_image import UInt16Array
from vlm3data.formats.scannet.text import parse_matrix, parse_values
from vlm3data.formats.sens import SensFrame, SensHeader, read_color, read_depth, read_header, walk
from vlm3data.storage import list_files, read_whole
from vlm3data.types import Drop, Float64Array, UInt8Array, UserError

Form = Literal["sens", "python", "cpp"]
EXPORTED_DEPTH_SHIFT = 1000.0
"""The Python exporter writes the stored values as they are: millimetres in every scan of ScanNet."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What holds for all frames; matrices (4, 4) as stored, integers on pixel centres."""

    intrinsic_color: Float64Array
    intrinsic_depth: Float64Array
    extrinsic_color: Float64Array
    """Base from colour camera."""
    extrinsic_depth: Float64Array
    """Base from depth camera."""
    color_size_px: tuple[int, int]
    depth_size_px: tuple[int, int]
    depth_shift: float


class SensRecording:
    """A `.sens` file."""

    def __init__(self, fs: AbstractFileSystem, path: str) -> None:
        """Read the header; raise UserError where it cannot be read on."""
        self._fs, self.path = fs, path
        self._header: SensHeader = read_header(fs, path)
        self.numbers = range(self._header.num_frames)

    @cached_property
    def calibration(self) -> Calibration:
        """Return the header's matrices and sizes."""
        header = self._header
        return Calibration(
            intrinsic_color=header.intrinsic_color.astype(np.float64),
            intrinsic_depth=header.intrinsic_depth.astype(np.float64),
            extrinsic_color=header.extrinsic_color.astype(np.float64),
            extrinsic_depth=header.extrinsic_depth.astype(np.float64),
            color_size_px=header.color_size_px,
            depth_size_px=header.depth_size_px,
            depth_shift=header.depth_shift,
        )

    def poses(self, numbers: Sequence[int]) -> list[Float64Array | Drop]:
        """Return world_from_cam (4, 4), as stored, or what is wrong with it, of each frame."""
        frames = self._frames
        lost = Drop("truncated_sens", f"{self.path}: ends or is damaged at frame {len(frames)}")
        return [frames[i].world_from_cam.astype(np.float64) if i < len(frames) else lost for i in numbers]

    def color(self, number: int) -> bytes | UInt8Array:
        """Return the encoded image, or RGB."""
        return read_color(self._fs, self.path, self._header, self._frames[number])

    def depth(self, number: int) -> UInt16Array:
        """Return the stored values (h, w)."""
        return read_depth(self._fs, self.path, self._header, self._frames[number])

    @cached_property
    def _frames(self) -> list[SensFrame]:
        return walk(self._fs, self.path, self._header)


class ExportedRecording:
    """A directory that one of the exporters wrote: `color/0.jpg ...`, or `frame-000000.color.jpg ...`."""

    def __init__(self, fs: AbstractFileSystem, directory: str, form: Literal["python", "cpp"]) -> None:
        """List the frames; no file is opened."""
        self._fs, self.path = fs, directory
        self._form = form
        self._color = self._files("color", (".jpg", ".png"))
        self._depth = self._files("depth", (".png", ".pgm"))
        self._pose = self._files("pose", (".txt",))
        self.numbers = sorted(self._color.keys() | self._depth.keys())

    @cached_property
    def calibration(self) -> Calibration:
        """Read the matrices, and the sizes from the first images that can be read."""
        matrix, depth_shift = self._from_info() if self._form == "cpp" else (self._from_file, EXPORTED_DEPTH_SHIFT)
        return Calibration(
            intrinsic_color=matrix("color", "intrinsic"),
            intrinsic_depth=matrix("depth", "intrinsic"),
            extrinsic_color=matrix("color", "extrinsic"),
            extrinsic_depth=matrix("depth", "extrinsic"),
            color_size_px=self._size_of(self._color, "colour"),
            depth_size_px=self._size_of(self._depth, "depth"),
            depth_shift=depth_shift,
        )

    def poses(self, numbers: Sequence[int]) -> list[Float64Array | Drop]:
        """Return world_from_cam (4, 4), as stored, or what is wrong with it, of each frame."""
        paths = [self._pose[number] for number in numbers if number in self._pose]
        # At once: over a network, a request a frame would take minutes.
        texts = cast("Any", self._fs).cat_ranges(paths, None, None, on_error="return")
        found = dict(zip(paths, texts, strict=True))
        return [self._pose_of(self._pose.get(number), found) for number in numbers]

    def color(self, number: int) -> bytes:
        """Return the encoded image. Raises Drop: colour_missing."""
        if number not in self._color:
            raise Drop("colour_missing", f"{self.path}: frame {number}")
        return read_whole(self._fs, self._color[number])

    def depth(self, number: int) -> UInt16Array:
        """Return the stored values (h, w). Raises Drop: depth_missing, and what a damaged image raises."""
        if number not in self._depth:
            raise Drop("depth_missing", f"{self.path}: frame {number}")
        stored = decode_depth_file(read_whole(self._fs, self._depth[number]), self.calibration.depth_size_px)
        if stored.dtype.kind not in "iu" or stored.min() < 0 or stored.max() > np.iinfo(np.uint16).max:
            raise Drop("corrupt_depth", f"{self._depth[number]}: not whole numbers of 16 bits")
        return stored.astype(np.uint16)

    def _files(self, kind: str, endings: tuple[str, ...]) -> dict[int, str]:
        """Return the paths of one kind of file by the frame's number; of a PNG and a PGM the PNG is taken."""
        directory = self.path if self._form == "cpp" else f"{self.path}/{kind}"
        pattern = r"frame-(\d{1,9})\." + kind if self._form == "cpp" else r"(\d{1,9})"
        found: dict[int, str] = {}
        for ending in reversed(endings):
            for path in list_files(self._fs, directory, ending):
                if match := re.fullmatch(pattern, posixpath.basename(path).removesuffix(ending), re.ASCII):
                    found[int(match[1])] = path
        return found

    def _size_of(self, files: dict[int, str], what: str) -> tuple[int, int]:
        """Return (width, height) of the first of `files` whose header can be read."""
        for number in sorted(files)[:10]:
            try:
                with Image.open(io.BytesIO(read_whole(self._fs, files[number]))) as image:
                    return image.size
            except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
                continue  # a damaged frame, which is dropped by name when it is built
        raise UserError(f"{self.path}: none of its first {what} images can be read")

    def _from_file(self, camera: str, kind: str) -> Float64Array:
        path = f"{self.path}/intrinsic/{kind}_{camera}.txt"
        return parse_matrix(self._read_text(path).decode("utf-8", "replace"), path)

    def _from_info(self) -> tuple[Callable[[str, str], Float64Array], float]:
        """Return what finds the matrices in `_info.txt`, and its depth shift."""
        path = f"{self.path}/_info.txt"
        values = parse_values(self._read_text(path), path)

        def matrix(camera: str, kind: str) -> Float64Array:
            key = f"m_calibration{camera.title()}{kind.title()}"
            return parse_matrix(values.get(key, ""), f"{path}: {key}")

        return matrix, _depth_shift(values, path)

    def _read_text(self, path: str) -> bytes:
        try:
            return read_whole(self._fs, path)
        except FileNotFoundError as error:
            raise UserError(f"{path}: there is no such file; the export is not complete") from error

    def _pose_of(self, path: str | None, texts: dict[str, bytes | Exception]) -> Float64Array | Drop:
        text = texts.get(path) if path is not None else None
        if not isinstance(text, bytes):
            return Drop("pose_missing", str(path or self.path))
        try:
            return parse_matrix(text.decode("utf-8", "replace"), str(path))
        except UserError as error:
            return Drop("bad_pose", str(error))


def _depth_shift(values: dict[str, str], path: str) -> float:
    try:
        shift = float(values.get("m_depthShift", ""))
    except ValueError as error:
        raise UserError(f"{path}: m_depthShift: {error}") from error
    if not 0 < shift < float("inf"):
        raise UserError(f"{path}: m_depthShift is {shift}")
    return shift


Recording = SensRecording | ExportedRecording


def find_form(directory: str, entries: Sequence[str]) -> tuple[Form, str] | None:
    """Tell from a directory's `entries` (paths) whether a scan lies in it: (its form, the path to open), or None."""
    names = {posixpath.basename(entry): entry for entry in entries}
    sens = sorted(name for name in names if name.endswith(".sens"))
    if len(sens) > 1:
        raise UserError(f"{directory}: holds {len(sens)} .sens files; a scan has one")
    if sens:
        return "sens", names[sens[0]]
    if "_info.txt" in names:
        return "cpp", directory
    if {"color", "depth"} <= names.keys():
        return "python", directory
    return None


def open_recording(fs: AbstractFileSystem, form: Form, path: str) -> Recording:
    """Open what `find_form` found; cheap, but for the listing of an export."""
    return SensRecording(fs, path) if form == "sens" else ExportedRecording(fs, path, form)
