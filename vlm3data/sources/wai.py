"""Scenes in WAI, the format that MapAnything's conversions write: one directory with a `scene_meta.json` each.

With it ScanNet++, BlendedMVS, DL3DV, ASE, TartanAir V2, MVS-Synth, Spring, ETH3D and others are read, once their
owner's conversion has been run: docs/wai.md.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from functools import lru_cache, partial
from typing import Annotated, Literal, NamedTuple

import cv2
import numpy as np
import xxhash
from pydantic import Field

from vlm3data.config import Config
from vlm3data.formats.depth_file import decode_depth_file, depth_size_px
from vlm3data.formats.exr import HEADER_BYTES, decode_exr, exr_size_px
from vlm3data.formats.safe_npz import read_npy
from vlm3data.formats.wai import WaiFrame, WaiScene, camera_of, pose_of, read_frame, read_scene_meta
from vlm3data.geometry.camera import resized
from vlm3data.images import decode_rgb
from vlm3data.storage import list_files, open_root, read_below, read_whole
from vlm3data.types import Drop, Float32Array, Frame, SceneRef, SourceFacts, UserError

META = "scene_meta.json"
DEEPEST = 3
"""How many directories below the root scenes are looked for."""
DEPTHS = ("depth", "rendered_depth")
"""The modalities that hold true depth, in MapAnything's order; predicted ones must be asked for."""
MASK = "pred_mask/moge2"
"""Where it exists, MapAnything takes depth only inside it: outside lie sky and what stereo makes of it."""
CONFIDENCE = "depth_confidence"
MIN_CONFIDENCE = 0.25
"""MapAnything's threshold for predicted depth that has a confidence (DL3DV)."""
COVISIBILITY = "covisibility/v0"
PNG = ".png"


class _Files(NamedTuple):
    """What of a frame is read besides its image."""

    depth: str | None
    mask: str | None
    confidence: str | None


class WaiSource:
    """`root` is a scene, a converted dataset, or a directory of converted datasets of one kind of scale."""

    class Options(Config):
        """What a user may set for this source alone."""

        depth: str = ""
        """The modality to take depth from, such as pred_depth/mvsanywhere; without it depth or rendered_depth."""
        scale: Literal["metric", "colmap"] | None = None
        """What scenes that do not state their scale_type are in: metres, or a reconstruction's own unit."""
        png_metres: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
        """Metres (or units) in one count of 16-bit PNG depth; WAI's own depth is EXR and needs none."""

    def __init__(self, root: str, options: Options, seed: int) -> None:
        self.options = options
        self._fs, self._root = open_root(root)
        self._scenes = self._find()
        # frames() is called once for each shard that a scene is spread over
        self._scene = lru_cache(maxsize=2)(self._read_scene)
        metric = self._scale_of(self._scenes[0]) == "metric"
        self.facts = SourceFacts(
            name="wai",
            licence="as the owners of the converted dataset say",
            metric=metric,
            depth_kind="z",
            depth_range_m=(0.01, 1000.0) if metric else (0.0, np.inf),
            pixel_centre="the first pixel's centre is (0.5, 0.5), as here; in ASE (0, 0): 0.5 is added to cx and cy",
            splits=("all",),
            # Half floats are good to 0.05 %; the rest is what scans and stereo are good to.
            depth_noise=(0.01, 0.005) if metric else (0.0, 0.01),
        )

    def scenes(self, split: str | None) -> Iterator[SceneRef]:
        """Yield each directory with a scene_meta.json, which is read; nothing else is."""
        for directory in self._scenes:
            scene = self._scene(directory)
            if (self._scale_of(directory) == "metric") != self.facts.metric:
                raise UserError(
                    f"--root {self._root}: {self._scenes[0]} and {directory} are of different scale_type; "
                    "build what is metric and what is not as two datasets"
                )
            if self.options.depth and not self._depth_key(scene):
                raise UserError(f"--depth {self.options.depth}: {directory} has no such modality")
            covisibility = self._covisibility_file(directory)
            payload = {"directory": directory, "covisibility": covisibility}
            yield SceneRef(self._name(directory), len(scene.frames), payload, "all", _stamp(scene, covisibility))

    def frames(self, scene: SceneRef) -> Iterator[Frame]:
        """Yield the frames as listed; what is wrong with one is raised when its image is read."""
        directory = str(scene.payload["directory"])
        meta, seen = self._scene(directory), set[str]()
        for number, values in enumerate(meta.frames):
            key = f"{scene.scene}/{values.get('frame_name', number)}"
            if key in seen:
                raise UserError(f"{posixpath.join(directory, META)}: two frames are named {values['frame_name']!r}")
            seen.add(key)
            try:
                yield self._frame(directory, scene.scene, key, meta, read_frame(values, key))
            except Drop as drop:
                yield Frame.unusable(key, scene.scene, drop)

    def overlap(self, scene: SceneRef) -> Float32Array | None:
        """Return MapAnything's covisibility: the mean of both ways, as a share of what the row's frame itself knows.

        The file's [i, j] is the share of all of i's pixels that j sees, [i, i] so the share that has depth. None
        where the stage `covisibility` was not run.
        """
        name = scene.payload["covisibility"]
        if name is None:
            return None
        directory = str(scene.payload["directory"])
        path = posixpath.join(directory, str(name))
        try:
            stored = read_npy(read_below(self._fs, directory, str(name), "covisibility"), path)
        except Drop as drop:
            raise UserError(f"{directory}: {drop}; run the stage covisibility again") from drop
        if stored.shape != (scene.num_frames, scene.num_frames) or stored.dtype.kind != "f":
            raise UserError(
                f"{path}: {stored.shape} of {stored.dtype}, not a number for each two of {scene.num_frames} frames; "
                "run the stage covisibility again"
            )
        seen = stored.astype(np.float32)
        itself = np.diag(seen)[:, None]
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            share = np.where(itself > 0, (seen + seen.T) / 2 / itself, np.nan)
            return np.where(share >= 0, np.minimum(share, 1), np.nan).astype(np.float32)

    def _frame(self, directory: str, scene: str, key: str, meta: WaiScene, frame: WaiFrame) -> Frame:
        camera = camera_of(meta, frame)
        image = frame.file(meta.key_of("image") or "image") or frame.file_path
        if image is None:
            raise Drop("bad_record", f"{key}: it names no image")
        files = self._files_of(meta, frame)
        size = self._depth_size(directory, files.depth) if files.depth else None
        other = size is not None and size != (camera.width_px, camera.height_px)
        return Frame(
            key=key,
            scene=scene,
            image=partial(read_below, self._fs, directory, image, "image"),
            camera=camera,
            depth_m=partial(self._depth, directory, files) if files.depth else None,
            depth_camera=resized(camera, size) if size is not None and other else None,
            world_from_cam=pose_of(frame),
        )

    def _depth_key(self, meta: WaiScene) -> str | None:
        wanted = (self.options.depth,) if self.options.depth else DEPTHS
        return next((key for modality in wanted if (key := meta.key_of(modality))), None)

    def _files_of(self, meta: WaiScene, frame: WaiFrame) -> _Files:
        predicted_by = self.options.depth.partition("/")[2]
        keys = (self._depth_key(meta), meta.key_of(MASK), meta.key_of(f"{CONFIDENCE}/{predicted_by}"))
        return _Files(*(frame.file(key) if key else None for key in keys))

    def _depth_size(self, directory: str, name: str) -> tuple[int, int] | None:
        """Return (width, height) from the header, None where it cannot be read: reading the map then says why."""
        try:
            head = read_below(self._fs, directory, name, "depth", HEADER_BYTES)
            return depth_size_px(head) if name.endswith(PNG) else exr_size_px(head)
        except Drop:
            return None

    def _depth(self, directory: str, files: _Files) -> Float32Array:
        depth = self._map(directory, files.depth or "", "depth")
        unknown = ~(np.isfinite(depth) & (depth > 0))
        if files.mask:
            mask = decode_rgb(read_below(self._fs, directory, files.mask, "mask")).max(axis=2)
            unknown |= _nearest(mask, depth) < 128  # a black and white picture: white is inside
        if files.confidence:
            confidence = self._map(directory, files.confidence, "confidence")
            unknown |= ~(_nearest(confidence, depth) > MIN_CONFIDENCE)
        depth[unknown] = np.nan
        return depth

    def _map(self, directory: str, name: str, what: str) -> Float32Array:
        data = read_below(self._fs, directory, name, what)
        if not name.endswith(PNG):
            return decode_exr(data, exr_size_px(data))
        if self.options.png_metres is None:
            raise UserError(f"{posixpath.join(directory, name)}: say what a count of it is with --png-metres")
        return (decode_depth_file(data, depth_size_px(data)) * self.options.png_metres).astype(np.float32)

    def _read_scene(self, directory: str) -> WaiScene:
        path = posixpath.join(directory, META)
        return read_scene_meta(read_whole(self._fs, path), path)

    def _scale_of(self, directory: str) -> str:
        scale = self._scene(directory).scale_type or self.options.scale
        if scale is None:
            raise UserError(f"{posixpath.join(directory, META)}: it has no scale_type: pass --scale metric or colmap")
        return scale

    def _covisibility_file(self, directory: str) -> str | None:
        """Return the file of the pairwise covisibility: the one that the scene names, else the only one there is."""
        named = self._scene(directory).scene_modalities.get("pairwise_covisibility")
        if isinstance(named, dict) and isinstance(named.get("scene_key"), str):
            return named["scene_key"]
        found = list_files(self._fs, posixpath.join(directory, COVISIBILITY), ".npy")
        return posixpath.join(COVISIBILITY, posixpath.basename(found[0])) if len(found) == 1 else None

    def _find(self) -> list[str]:
        """Return the directories that hold a scene_meta.json, and look no deeper where one does."""
        found, level = list[str](), [self._root]
        for _ in range(DEEPEST + 1):
            scenes = [path for path in level if self._fs.isfile(posixpath.join(path, META))]
            found += scenes
            level = [path for parent in level if parent not in scenes for path in self._below(parent)]
        if not found:
            raise UserError(
                f"--root {self._root}: there is no {META} in it or {DEEPEST} directories deep; run WAI's conversion, "
                "and its stage undistort where there is only a scene_meta_distorted.json"
            )
        return sorted(found)

    def _below(self, directory: str) -> list[str]:
        entries = self._fs.ls(directory, detail=True)
        return [str(entry["name"]).rstrip("/") for entry in entries if entry["type"] == "directory"]

    def _name(self, directory: str) -> str:
        return posixpath.basename(directory) if directory == self._root else posixpath.relpath(directory, self._root)


def _stamp(scene: WaiScene, covisibility: str | None) -> str:
    return xxhash.xxh3_64_hexdigest(f"{scene.model_dump_json()}\n{covisibility}".encode())


def _nearest(values: np.ndarray, like: Float32Array) -> np.ndarray:
    """Return `values` (h, w) at the pixels of a map of another size, each from the nearest pixel."""
    height, width = like.shape
    return (
        values if values.shape == like.shape else cv2.resize(values, (width, height), interpolation=cv2.INTER_NEAREST)
    )
