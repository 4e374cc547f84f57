"""Synthetic rooms in ScanNet's files: video, calibration, labelled mesh, axis alignment, and the exact truth.

    <out>/scans/<scan>/<scan>.sens (or an export), <scan>.txt, <scan>_vh_clean_2.ply, ....segs.json, .aggregation.json
    <out>/truth/<scan>.json, <scan>-<frame>.depth.npy

The poses are the depth camera's, in a world turned and shifted against the aligned one; a frame here and there has
lost track.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from fsspec import AbstractFileSystem
from pydantic import Field

from vlm3data.config import Config
from vlm3data.formats.scannet.labels import write_instances
from vlm3data.formats.scannet.recording import Form
from vlm3data.formats.scannet.text import format_values
from vlm3data.layouts._scannet.stage import Stage, set_up
from vlm3data.layouts._scannet.truth import Truth
from vlm3data.layouts._scannet.video import write_video
from vlm3data.randomness import rng_for
from vlm3data.storage import open_store, write_whole
from vlm3data.synth.mesh import patches

_SIDES = {1: "floor", -1: "ceiling", 0: "wall"}
"""The label of a plane by the vertical part of its normal."""


class ScannetLayoutOptions(Config):
    """How much to write, and in which form."""

    scans: Annotated[int, Field(ge=1, le=707)] = 2
    frames: Annotated[int, Field(ge=1)] = 120
    """Of each scan."""
    form: Form = "sens"
    """sens, or what the exporters make of it: python (color/0.jpg ...), cpp (frame-000000.color.jpg ...)."""
    color_width_px: Annotated[int, Field(ge=16)] = 1296
    color_height_px: Annotated[int, Field(ge=16)] = 968
    depth_width_px: Annotated[int, Field(ge=16)] = 640
    depth_height_px: Annotated[int, Field(ge=16)] = 480
    lost: Annotated[float, Field(ge=0, lt=1)] = 0.02
    """Share of the frames whose pose is lost."""
    apart: bool = False
    """The depth camera stands some centimetres beside the colour camera, and the files say so."""


class ScannetLayout:
    """Writes `scans` rooms, each filmed on one way through it."""

    Options = ScannetLayoutOptions

    def __init__(self, options: ScannetLayoutOptions, seed: int) -> None:
        self.options, self.seed = options, seed

    def write(self, out: str, progress: Callable[[int, int], None]) -> dict[str, Any]:
        """Write everything below `out` and return the counts."""
        fs, root = open_store(out)
        options, objects, lost = self.options, 0, 0
        fs.makedirs(f"{root}/truth", exist_ok=True)
        for number in range(options.scans):
            progress(number, options.scans)
            stage = self._stage(number)
            directory = f"{root}/scans/{stage.name}"
            fs.makedirs(directory, exist_ok=True)
            truth = Truth(fs, f"{root}/truth", stage)
            write_video(fs, directory, stage, options.form, truth)
            write_whole(fs, f"{directory}/{stage.name}.txt", _scan_txt(stage).encode())
            _write_labels(fs, directory, stage)
            truth.write()
            objects += len(stage.packed.world.things)
            lost += sum(stage.lost)
        progress(options.scans, options.scans)
        return {"scans": options.scans, "frames": options.scans * options.frames, "lost": lost, "objects": objects}

    def _stage(self, number: int) -> Stage:
        options, name = self.options, f"scene{number:04d}_00"
        return set_up(
            name,
            options.frames,
            (options.color_width_px, options.color_height_px),
            (options.depth_width_px, options.depth_height_px),
            options.lost,
            apart=options.apart,
            rng=rng_for(self.seed, "scannet layout", name),
        )


def _scan_txt(stage: Stage) -> str:
    """Return `<scan>.txt`, with the intrinsics as ScanNet counts pixels."""
    values: dict[str, object] = {"axisAlignment": stage.aligned_from_scan}
    for name, camera in (("color", stage.color_camera), ("depth", stage.depth_camera)):
        values |= {
            f"{name}Height": camera.height_px,
            f"{name}Width": camera.width_px,
            f"fx_{name}": camera.fx_px,
            f"fy_{name}": camera.fy_px,
            f"mx_{name}": camera.cx_px - 0.5,
            f"my_{name}": camera.cy_px - 0.5,
        }
    count = len(stage.world_from_cam)
    values |= {"numColorFrames": count, "numDepthFrames": count, "numIMUmeasurements": 0, "sceneType": "Synthetic"}
    return format_values(values)


def _write_labels(fs: AbstractFileSystem, directory: str, stage: Stage) -> None:
    """Write the mesh, a segment to each patch, and the objects that the segments belong to."""
    world = stage.packed.world
    pieces = list(patches(world))
    first = np.cumsum([0, *(len(piece.vertices_m) for piece in pieces)])
    vertices = np.concatenate([piece.vertices_m for piece in pieces])
    faces = np.concatenate([piece.faces + start for piece, start in zip(pieces, first.tolist(), strict=False)])
    numbers = 7 * np.arange(len(pieces)) + 3  # ScanNet's are neither dense nor from 0
    segments = np.repeat(numbers, np.diff(first))
    objects = [
        (thing.label, [number for number, piece in zip(numbers.tolist(), pieces, strict=True) if piece.thing == index])
        for index, thing in enumerate(world.things)
    ]
    objects += [
        (_SIDES[round(world.planes[piece.plane].normal[2])], [number])
        for number, piece in zip(numbers.tolist(), pieces, strict=True)
        if piece.plane >= 0
    ]
    scan_from_aligned = np.linalg.inv(stage.aligned_from_scan)
    stored = vertices @ scan_from_aligned[:3, :3].T + scan_from_aligned[:3, 3]
    write_instances(fs, directory, stage.name, stored, faces, segments, objects)
