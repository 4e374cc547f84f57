"""A staged scan's video, written as `.sens` or as one of ScanNet's exporters would have exported it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
from fsspec import AbstractFileSystem

from vlm3data.formats.depth_image import UInt16Array, encode_pgm16, encode_png16
from vlm3data.formats.scannet.recording import Form
from vlm3data.formats.scannet.text import format_matrix, format_values
from vlm3data.formats.sens import SensHeader, write_sens
from vlm3data.images import encode_jpeg
from vlm3data.layouts._scannet.stage import DEPTH_SHIFT, Stage
from vlm3data.layouts._scannet.truth import Truth
from vlm3data.storage import write_whole
from vlm3data.types import Camera, Float64Array

JPEG_QUALITY = 90
Picture = tuple[Float64Array, bytes, UInt16Array]
"""Stored pose, JPEG, stored depth."""


def write_video(fs: AbstractFileSystem, directory: str, stage: Stage, form: Form, truth: Truth) -> None:
    """Write every frame below `directory`; each frame's truth is noted on the way, because it costs the same look."""
    pictures = _pictures(stage, truth)
    if form == "sens":
        with cast("Any", fs.open(f"{directory}/{stage.name}.sens", "wb")) as file:
            write_sens(file, _header(stage), pictures)
    elif form == "python":
        _write_python_export(fs, directory, stage, pictures)
    else:
        _write_cpp_export(fs, directory, stage, pictures)


def _pictures(stage: Stage, truth: Truth) -> Iterator[Picture]:
    for number in range(len(stage.world_from_cam)):
        traced = stage.look(number)
        truth.note(number, traced)
        yield (
            stage.stored_pose(number),
            encode_jpeg(stage.image(number, traced), JPEG_QUALITY),
            stage.stored_depth(number),
        )


def _write_python_export(fs: AbstractFileSystem, directory: str, stage: Stage, pictures: Iterator[Picture]) -> None:
    for name in ("color", "depth", "pose", "intrinsic"):
        fs.makedirs(f"{directory}/{name}", exist_ok=True)
    for name, matrix in _matrices(stage).items():
        write_whole(fs, f"{directory}/intrinsic/{name}.txt", format_matrix(matrix).encode())
    for number, (pose, jpeg, depth) in enumerate(pictures):
        write_whole(fs, f"{directory}/color/{number}.jpg", jpeg)
        write_whole(fs, f"{directory}/depth/{number}.png", encode_png16(depth))
        write_whole(fs, f"{directory}/pose/{number}.txt", format_matrix(pose).encode())


def _write_cpp_export(fs: AbstractFileSystem, directory: str, stage: Stage, pictures: Iterator[Picture]) -> None:
    about: dict[str, object] = {"m_versionNumber": 4, "m_sensorName": "StructureSensor"}
    for name, camera in (("color", stage.color_camera), ("depth", stage.depth_camera)):
        about |= {f"m_{name}Width": camera.width_px, f"m_{name}Height": camera.height_px}
    about["m_depthShift"] = DEPTH_SHIFT
    for name, matrix in _matrices(stage).items():
        kind, camera = name.split("_")
        about[f"m_calibration{camera.title()}{kind.title()}"] = matrix
    about["m_frames.size"] = len(stage.world_from_cam)
    write_whole(fs, f"{directory}/_info.txt", format_values(about).encode())
    for number, (pose, jpeg, depth) in enumerate(pictures):
        stem = f"{directory}/frame-{number:06d}"
        write_whole(fs, f"{stem}.color.jpg", jpeg)
        write_whole(fs, f"{stem}.depth.pgm", encode_pgm16(depth))
        write_whole(fs, f"{stem}.pose.txt", format_matrix(pose).encode())


def _header(stage: Stage) -> SensHeader:
    matrices = {name: matrix.astype(np.float32) for name, matrix in _matrices(stage).items()}
    return SensHeader(
        sensor="StructureSensor",
        **matrices,
        color_compression="jpeg",
        depth_compression="zlib_ushort",
        color_size_px=(stage.color_camera.width_px, stage.color_camera.height_px),
        depth_size_px=(stage.depth_camera.width_px, stage.depth_camera.height_px),
        depth_shift=DEPTH_SHIFT,
        num_frames=len(stage.world_from_cam),
    )


def _matrices(stage: Stage) -> dict[str, Float64Array]:
    return {
        "intrinsic_color": _stored_intrinsic(stage.color_camera),
        "extrinsic_color": np.eye(4),
        "intrinsic_depth": _stored_intrinsic(stage.depth_camera),
        "extrinsic_depth": stage.color_from_depth,
    }


def _stored_intrinsic(camera: Camera) -> Float64Array:
    """Return the matrix in ScanNet's convention: integers on pixel centres."""
    matrix = np.eye(4)
    matrix[0, 0], matrix[1, 1] = camera.fx_px, camera.fy_px
    matrix[:2, 2] = camera.cx_px - 0.5, camera.cy_px - 0.5
    return matrix
