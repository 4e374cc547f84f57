"""The parts of a sample's JSON, as plain values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vlm3data.types import Calibration, Camera, Distortion, Question, SourceFacts, View


def question_record(question: Question) -> dict[str, Any]:
    """Return one question with the numbers behind it."""
    return {
        "task": question.task,
        "question": question.question,
        "answer": question.answer,
        "truth": dict(question.truth),
    }


def camera_of(record: Mapping[str, Any]) -> Camera:
    """Return the camera of a record."""
    lens = record["distortion"]
    known: dict[str, Any] = {**record, "distortion": lens and Distortion(lens["model"], tuple(lens["params"]))}
    return Camera(**known)


def view_record(view: View) -> dict[str, Any]:
    """Return what moved a source image to the stored one; its pose only where it is known, `calibration` only where
    the camera was estimated.
    """
    record: dict[str, Any] = {
        "frame": view.frame,
        "source_camera": camera_record(view.source_camera),
        "camera": camera_record(view.camera),
        "scale": list(view.scale),
        "crop_xy_px": list(view.crop_xy_px),
    }
    if view.world_from_cam is not None:
        record["world_from_cam"] = view.world_from_cam.tolist()
    if view.calibration is not None:
        record["calibration"] = _calibration_record(view.calibration)
    return record


def _calibration_record(calibration: Calibration) -> dict[str, Any]:
    """Return how `source_camera` came about."""
    return {
        "method": calibration.method,
        "focal_sigma_rel": calibration.focal_sigma_rel,
        "evidence": dict(calibration.evidence),
    }


def camera_record(camera: Camera) -> dict[str, Any]:
    """Return what `asdict` would, without its deep copies, which cost more than the labels."""
    distortion = camera.distortion
    return {
        "fx_px": camera.fx_px,
        "fy_px": camera.fy_px,
        "cx_px": camera.cx_px,
        "cy_px": camera.cy_px,
        "width_px": camera.width_px,
        "height_px": camera.height_px,
        "distortion": distortion and {"model": distortion.model, "params": list(distortion.params)},
    }


def by_task(questions: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Return stored questions by task."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for question in questions:
        found.setdefault(question["task"], []).append(question)
    return found


def facts_of(record: Mapping[str, Any]) -> SourceFacts:
    """Return the facts that a dataset.json holds."""
    plain: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in record.items()}
    return SourceFacts(**plain)
