"""The JSON Lines form that DepthLM publishes its curated sets in, iBims-1 among them.

One image a line: `{"image" (or "image_path"), "intrinsics": [fx, fy, cx, cy, W, H], "pixel_coords": [[x, y], ...],
"depth": [m, ...]}`, and where its owner has written it `"depth_type"` (or `"depth_kind"`): which kind of depth
that is. Image paths are relative to the file's directory.

Own photos with measured depths need no intrinsics: `{"image", "pixel_coords", "depth"}`, and a calibrator.
"""

from __future__ import annotations

import math
import posixpath
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Annotated, BinaryIO, Literal, cast

import numpy as np
import xxhash
from pydantic import AliasChoices, Field, ValidationError

from vlm3data.config import Config, explain
from vlm3data.exif import UPRIGHT, read_exif
from vlm3data.storage import list_files, open_root, read_below
from vlm3data.types import Camera, DepthKind, DepthPoints, Drop, Frame, SceneRef, SourceFacts, UserError

LINES_PER_SCENE = 64
SPLITS = ("train", "val", "test", "eval")
KIND_WORDS: dict[str, DepthKind] = {"z": "z", "z_depth": "z", "euclidean": "euclidean", "euclid": "euclidean"}
"""How lines name the kind of their depth; `z_depth` is DepthVLM-Bench's word."""
PUBLISHED: dict[str, DepthKind] = {"ibims1_val.jsonl": "z"}
"""Files whose lines do not say it, by their published names: DepthLM's iBims-1, whose labels are, to the last digit,
the z-depth of the dataset's own maps. DepthLM's other sets are published as scripts, not as files."""


class JsonlRecord(Config, extra="ignore"):
    """One line of the file; further keys are the curator's own and are left alone."""

    image: Annotated[str, Field(validation_alias=AliasChoices("image", "image_path"), min_length=1)]
    intrinsics: Annotated[list[float], Field(min_length=6, max_length=6)] | None = None
    pixel_coords: list[tuple[float, float]]
    depth: list[float | None]
    depth_type: Annotated[str | None, Field(validation_alias=AliasChoices("depth_type", "depth_kind"))] = None


class JsonlSource:
    """`root` is the `.jsonl` file, or a directory that holds one or several."""

    class Options(Config):
        """What a user may set for this source alone."""

        depth_kind: DepthKind | None = None
        """What the depths are, z or euclidean; needed where the file does not record it."""
        half_pixel: Literal["add", "none"] = "none"
        """`add` where the intrinsics put integer coordinates on pixel centres (OpenCV calibrations)."""
        orientation: Literal["upright", "stored"] | None = None
        """Which pixels labels of photos without intrinsics name, where EXIF says that a photo is to be turned: those
        that viewers show (upright) or those in the file (stored)."""

    def __init__(self, root: str, options: Options, seed: int) -> None:
        self.options = options
        self._fs, path = open_root(root, "file or directory")
        self._files = self._find(path, root)
        self._recorded: dict[str, DepthKind | None] = {file: self._kind_in(file) for file in self._files}
        self.facts = SourceFacts(
            name="jsonl",
            licence="as the owner of the images says",
            metric=True,
            depth_kind=self._kind(root),
            depth_range_m=(0.05, 1000.0),  # what two decimals can say, and what nobody labels beyond
            pixel_centre="half_pixel: " + options.half_pixel,
            splits=tuple(sorted({_split_of(file) for file in self._files})),
        )

    def scenes(self, split: str | None) -> Iterator[SceneRef]:
        """Yield runs of up to `LINES_PER_SCENE` lines, found by their byte offset."""
        for file in self._files:
            if split not in (None, _split_of(file)):
                continue
            stem = posixpath.basename(file).removesuffix(".jsonl")
            for first, offset, count, stamp in self._runs(file):
                payload = {"file": file, "first": first, "offset": offset}
                yield SceneRef(f"{stem}-{first:08d}", count, payload, _split_of(file), stamp)

    def frames(self, scene: SceneRef) -> Iterator[Frame]:
        """Yield one frame per line; what is wrong with a line is raised as `Drop` when its image is read."""
        file, number = scene.payload["file"], scene.payload["first"]
        with cast("BinaryIO", self._fs.open(file, "rb")) as lines:
            lines.seek(scene.payload["offset"])
            count = 0
            for line in lines:
                if count == scene.num_frames:
                    return
                if line.strip():
                    yield self._frame(line, file, f"{scene.scene.rsplit('-', 1)[0]}-{number + count:08d}")
                    count += 1

    def _frame(self, line: bytes, file: str, key: str) -> Frame:
        try:
            record = JsonlRecord.model_validate_json(line, strict=True)
            camera = self._camera(record.intrinsics) if record.intrinsics is not None else None
        except ValidationError as error:
            return Frame.unusable(key, key, Drop("bad_record", explain(error, JsonlRecord, key)))
        except (ValueError, OverflowError) as error:
            return Frame.unusable(key, key, Drop("bad_intrinsics", f"{key}: {error}"))
        if len(record.pixel_coords) != len(record.depth):
            return Frame.unusable(key, key, Drop("bad_record", f"{key}: pixel_coords and depth differ in length"))
        if (record.depth_type or self._recorded[file]) and _kind_of(record.depth_type) != self.facts.depth_kind:
            return Frame.unusable(
                key, key, Drop("depth_kind_differs", f"{key}: {record.depth_type}, not {self.facts.depth_kind}")
            )
        pixels = np.floor(np.asarray(record.pixel_coords, np.float64).reshape(-1, 2))
        depth_m = np.array([math.nan if value is None else value for value in record.depth], np.float64)
        points = DepthPoints(np.clip(np.nan_to_num(pixels, nan=-1), -1, 2**31).astype(np.int64), depth_m)
        stem = posixpath.splitext(record.image)[0]
        return Frame(
            key=key,
            scene=stem,
            image=partial(self._read_own if camera is None else self._read, posixpath.dirname(file), record.image),
            upright=camera is None and self.options.orientation == "upright",
            camera=camera,
            points=lambda: points,
        )

    def _camera(self, intrinsics: list[float]) -> Camera:
        fx, fy, cx, cy, width, height = intrinsics
        if width != int(width) or height != int(height):
            raise ValueError(f"width and height must be whole numbers, not {width} and {height}")
        half = 0.5 if self.options.half_pixel == "add" else 0.0
        return Camera(fx, fy, cx + half, cy + half, int(width), int(height))

    def _read(self, directory: str, image: str) -> bytes:
        return read_below(self._fs, directory, image, "image")

    def _read_own(self, directory: str, image: str) -> bytes:
        """Return a photo whose camera nobody measured; it must be clear which of its pixels labels name."""
        data = self._read(directory, image)
        if self.options.orientation is None and read_exif(data).orientation != UPRIGHT:
            raise Drop(
                "orientation_unclear", f"{image}: pass --orientation upright (as shown) or stored (as in the file)"
            )
        return data

    def _kind(self, root: str) -> DepthKind:
        """Return the one kind that all files hold: what their lines say, else the option, else the published name."""
        given, kinds = self.options.depth_kind, set[DepthKind]()
        for file in self._files:
            kind = self._recorded[file] or given or PUBLISHED.get(posixpath.basename(file))
            if kind is None:
                self._refuse_what_is_no_record(file)
                raise UserError(
                    f"{file} does not say which depth it holds: pass --depth-kind z (along the optical axis) or "
                    "--depth-kind euclidean (along the ray); they differ by up to 1.25 at 37 degrees off axis"
                )
            if given not in (None, kind):
                raise UserError(f"--depth-kind {given}: the lines of {file} say {kind}")
            kinds.add(kind)
        if len(kinds) > 1:
            raise UserError(f"--root {root}: its files hold depths of both kinds: build each file by itself")
        return kinds.pop()

    def _kind_in(self, file: str) -> DepthKind | None:
        """Return the kind that the first of a file's lines to name one names; later ones must agree with it."""
        with cast("BinaryIO", self._fs.open(file, "rb")) as lines:
            for line in islice(lines, LINES_PER_SCENE):
                try:
                    record = JsonlRecord.model_validate_json(line)
                except ValidationError:  # counted when its frame is read
                    continue
                if record.depth_type is None:
                    continue
                if kind := _kind_of(record.depth_type):
                    return kind
                raise UserError(f"{file}: depth_type {record.depth_type!r} is none of {', '.join(KIND_WORDS)}")
        return None

    def _refuse_what_is_no_record(self, file: str) -> None:
        """Raise UserError where the file begins with something else: it is no file of records."""
        with cast("BinaryIO", self._fs.open(file, "rb")) as lines:
            try:
                JsonlRecord.model_validate_json(next(lines, b""))
            except ValidationError as error:
                raise UserError(explain(error, JsonlRecord, f"{file}: line 1")) from error

    def _find(self, path: str, root: str) -> list[str]:
        files = [path] if self._fs.isfile(path) else list_files(self._fs, path, ".jsonl")
        if not files:
            raise UserError(f"--root {root}: there is no .jsonl file in this directory")
        return [str(file) for file in files]

    def _runs(self, file: str) -> Iterator[tuple[int, int, int, str]]:
        """Yield (number of the first record, byte offset, records, hash) of each run; blank lines are no records."""
        first = offset = count = position = 0
        digest = xxhash.xxh3_64()
        with cast("BinaryIO", self._fs.open(file, "rb")) as lines:
            for line in lines:
                if count == LINES_PER_SCENE:
                    yield first, offset, count, digest.hexdigest()
                    first, offset, count = first + count, position, 0
                    digest.reset()
                count += bool(line.strip())
                digest.update(line)
                position += len(line)
        if count:
            yield first, offset, count, digest.hexdigest()


def _kind_of(word: str | None) -> DepthKind | None:
    return KIND_WORDS.get(word.lower()) if word else None


def _split_of(file: str) -> str:
    """Return the split in a file's name: `ibims1_val.jsonl` -> val; a name without one is `all`."""
    last = posixpath.basename(file).removesuffix(".jsonl").rpartition("_")[2]
    return last if last in SPLITS else "all"
