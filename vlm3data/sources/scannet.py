"""ScanNet: RGB-D video of rooms, as `.sens` files or as what its two exporters make of them.

What is read, how it is put into our conventions and what is dropped: docs/scannet.md.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from functools import lru_cache, partial
from typing import Annotated, Any, cast

import orjson
import xxhash
from pydantic import Field

from vlm3data.config import Config
from vlm3data.formats.scannet.recording import Form, Recording, find_form, open_recording
from vlm3data.formats.scannet.scan import Scan
from vlm3data.formats.scannet.splits import split_of
from vlm3data.storage import open_root
from vlm3data.types import Drop, Float64Array, Frame, SceneRef, SourceFacts, UserError


class ScannetOptions(Config):
    """What a user may set for this source alone."""

    stride: Annotated[int, Field(ge=1)] = 10
    """Frames whose number is divisible by this are taken: of the 30 a second three by default, of an export that was
    thinned already those that are left."""


class ScannetSource:
    """`root` is a scan, a directory of scans, or one that holds `scans/` (and `scans_test/`)."""

    Options = ScannetOptions
    facts = SourceFacts(
        name="scannet",
        licence="ScanNet Terms of Use (research only)",
        metric=True,
        depth_kind="z",
        depth_range_m=(0.1, 10.0),
        pixel_centre="stored with integers on pixel centres (mx_depth 319.5 of 640); 0.5 is added to cx and cy",
        splits=("train", "val", "test", "all"),
        world_up=(0.0, 0.0, 1.0),
        # The sensor's maker states 1 % at 3 m; the fixed part is the millimetres of pose and registration.
        depth_noise=(0.005, 0.015),
    )

    def __init__(self, root: str, options: ScannetOptions, seed: int) -> None:
        self.options = options
        self._fs, self._path = open_root(root)
        self._root = root
        self._scan = lru_cache(maxsize=2)(partial(Scan, self._fs))
        # frames() is called once for each shard that a scan is spread over
        self._poses = lru_cache(maxsize=2)(self._read_poses)

    def scenes(self, split: str | None) -> Iterator[SceneRef]:
        """List the scans that have a video, by name; of each the directory and the video's header are read."""
        found = 0
        for directory, entries in self._directories():
            form_and_path = find_form(directory, [str(entry["name"]) for entry in entries])
            if form_and_path is None:
                continue
            found += 1
            form, path = form_and_path
            scan = posixpath.basename(directory)
            if split not in (None, split_of(scan)):
                continue
            numbers = self._numbers(open_recording(self._fs, form, path))
            if not numbers:
                raise UserError(f"{directory}: holds no frame")
            payload = {"directory": directory, "form": form, "path": path}
            stamp = _stamp(entries, numbers)
            yield SceneRef(scan, len(numbers), payload, split_of(scan), stamp)
        if not found:
            raise UserError(f"--root {self._root}: there is no .sens file and no export in it or in its directories")

    def frames(self, scene: SceneRef) -> Iterator[Frame]:
        """Yield every `stride`-th frame; what is wrong with one is raised when its image is read."""
        where = (scene.payload["directory"], scene.payload["form"], scene.payload["path"])
        scan = self._scan(*where)
        for number, pose in self._poses(*where):
            yield self._frame(scan, number, pose)

    def _frame(self, scan: Scan, number: int, pose: Float64Array | Drop) -> Frame:
        key = f"{scan.name}-{number:06d}"
        if isinstance(pose, Drop):
            return Frame.unusable(key, scan.name, pose)
        return Frame(
            key=key,
            scene=scan.name,
            image=partial(scan.recording.color, number),
            camera=scan.camera,
            depth_m=partial(scan.depth_m, number, self.facts.depth_range_m),
            depth_camera=scan.depth_camera,
            world_from_cam=pose,
            boxes=partial(scan.boxes, number, pose, self.facts.depth_range_m),
        )

    def _read_poses(self, directory: str, form: Form, path: str) -> list[tuple[int, Float64Array | Drop]]:
        scan = self._scan(directory, form, path)
        numbers = self._numbers(scan.recording)
        return list(zip(numbers, scan.poses(numbers), strict=True))

    def _numbers(self, recording: Recording) -> list[int]:
        return [number for number in recording.numbers if number % self.options.stride == 0]

    def _directories(self) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """Yield each directory that may be a scan, with its entries."""
        entries = self._ls(self._path)
        if find_form(self._path, [str(entry["name"]) for entry in entries]):
            yield self._path, entries
            return
        below = [str(entry["name"]).rstrip("/") for entry in entries if entry["type"] == "directory"]
        parts = [path for path in below if posixpath.basename(path) in ("scans", "scans_test")]
        for part in parts or [self._path]:
            inside = self._ls(part) if parts else entries
            for path in sorted(str(entry["name"]).rstrip("/") for entry in inside if entry["type"] == "directory"):
                yield path, self._ls(path)

    def _ls(self, directory: str) -> list[dict[str, Any]]:
        return cast("list[dict[str, Any]]", self._fs.ls(directory, detail=True))


def _stamp(entries: list[dict[str, Any]], numbers: list[int]) -> str:
    """Return a digest of the names and sizes of a scan's files and of the numbers of its frames."""
    files = sorted((posixpath.basename(str(entry["name"])), entry.get("size")) for entry in entries)
    return xxhash.xxh3_64_hexdigest(orjson.dumps([files, numbers]))
