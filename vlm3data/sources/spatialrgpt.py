"""SpatialRGPT-Bench: questions about 2D boxes in images of Omni3D's datasets, one record of its JSON a sample.

`vlm3data.formats.spatialrgpt` describes a record. The file has no intrinsics: they come from another file or from a
calibrator.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from typing import Any

import orjson
import xxhash
from pydantic import ValidationError

from vlm3data.config import Config, explain
from vlm3data.formats.spatialrgpt import BenchRecord, ImageInfo, box_question
from vlm3data.storage import open_root, open_store, read_below, read_whole
from vlm3data.types import Camera, Drop, Frame, SceneRef, SourceFacts, UserError

FILE = "SpatialRGPT-Bench_v1.json"
RECORDS_PER_SCENE = 64


class Intrinsics(Config, extra="ignore"):
    """One entry of the intrinsics file, in pixels of the original image."""

    fx: float
    fy: float
    cx: float
    cy: float


class SpatialRgptSource:
    """`root` is the JSON file, or the directory that holds `SpatialRGPT-Bench_v1.json`; images are relative to it."""

    class Options(Config):
        """What a user may set for this source alone."""

        intrinsics: str = ""
        """JSON or JSON Lines file: `{"file_path", "fx", "fy", "cx", "cy"}` each, or one object by file path."""
        images: str = ""
        """Directory of the images, where it is not the one of the JSON file."""

    facts = SourceFacts(
        name="spatialrgpt",
        licence="as the owners of the images say (Omni3D's datasets); the questions as SpatialRGPT-Bench says",
        metric=True,
        depth_kind="z",
        depth_range_m=(0.05, 1000.0),
        pixel_centre="intrinsics are taken as they stand in the given file; boxes as published",
        splits=("test",),
    )

    def __init__(self, root: str, options: Options, seed: int) -> None:
        self.options = options
        self._fs, path = open_root(root, "file or directory")
        self._file = path if self._fs.isfile(path) else posixpath.join(path, FILE)
        if not self._fs.exists(self._file):
            raise UserError(f"--root {root}: there is no {FILE} in this directory")
        self._image_fs, self._images = (
            open_store(options.images) if options.images else (self._fs, posixpath.dirname(self._file))
        )

    def scenes(self, split: str | None) -> Iterator[SceneRef]:
        """Yield runs of up to `RECORDS_PER_SCENE` records."""
        for first in range(0, len(self._records), RECORDS_PER_SCENE):
            count = min(RECORDS_PER_SCENE, len(self._records) - first)
            stamp = xxhash.xxh3_64(orjson.dumps(self._records[first : first + count]))
            stamp.update(orjson.dumps({name: [*_numbers(entry)] for name, entry in self._intrinsics.items()}))
            yield SceneRef(f"bench-{first:05d}", count, {"first": first}, "test", stamp.hexdigest())

    def frames(self, scene: SceneRef) -> Iterator[Frame]:
        """Yield one frame per record; what is wrong with one is raised as `Drop` when its image is read."""
        first = scene.payload["first"]
        for number in range(first, first + scene.num_frames):
            yield self._frame(self._records[number], f"{number:05d}")

    def _frame(self, values: Any, key: str) -> Frame:
        try:
            record = BenchRecord.model_validate(values)
            question = box_question(record)
            camera = self._camera(record.image_info)
        except ValidationError as error:
            return Frame.unusable(key, key, Drop("bad_record", explain(error, BenchRecord, key)))
        except (ValueError, OverflowError) as error:
            return Frame.unusable(key, key, Drop("bad_record", f"{key}: {error}"))
        path = record.image_info.file_path
        return Frame(
            key=f"{key}-{record.id}",
            scene=posixpath.splitext(path)[0],
            image=partial(self._read, path),
            camera=camera,
            size_px=(record.image_info.width, record.image_info.height),
            box_questions=(question,),
        )

    def _camera(self, info: ImageInfo) -> Camera | None:
        entry = self._intrinsics.get(info.file_path)
        return Camera(*_numbers(entry), info.width, info.height) if entry else None

    def _read(self, file_path: str) -> bytes:
        return read_below(self._image_fs, self._images, file_path, "image")

    @cached_property
    def _records(self) -> list[Any]:
        try:
            records = orjson.loads(read_whole(self._fs, self._file))
        except orjson.JSONDecodeError as error:
            raise UserError(f"{self._file}: not valid JSON: {error}") from error
        except OSError as error:
            raise UserError(f"{self._file}: cannot be read: {error}") from error
        if not isinstance(records, list) or not records:
            raise UserError(f"{self._file}: a list of records is expected, as in {FILE}")
        return records

    @cached_property
    def _intrinsics(self) -> Mapping[str, Intrinsics]:
        if not self.options.intrinsics:
            return {}
        where = self.options.intrinsics
        fs, path = open_store(where)
        try:
            data = read_whole(fs, path)
            whole = where.endswith(".jsonl")
            entries = (
                [orjson.loads(line) for line in data.splitlines() if line.strip()] if whole else orjson.loads(data)
            )
        except orjson.JSONDecodeError as error:
            raise UserError(f"{where}: not valid JSON: {error}") from error
        except OSError as error:
            raise UserError(f"{where}: cannot be read: {error}") from error
        named = entries.items() if isinstance(entries, dict) else ((_path_of(entry, where), entry) for entry in entries)
        return {str(name): Intrinsics.check(entry, where=f"{where}: {name}") for name, entry in named}


def _path_of(entry: Any, where: str) -> str:
    if not isinstance(entry, dict) or not isinstance(entry.get("file_path"), str):
        raise UserError(f"{where}: an entry without a file_path: {entry!r:.80}")
    return entry["file_path"]


def _numbers(entry: Intrinsics) -> tuple[float, float, float, float]:
    return entry.fx, entry.fy, entry.cx, entry.cy
