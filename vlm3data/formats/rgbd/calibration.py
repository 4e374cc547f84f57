"""Intrinsics of a posed RGB-D folder, from the text or JSON that holds them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson

from vlm3data.formats.rgbd.patterns import Intrinsics
from vlm3data.types import Camera, Drop, Float64Array

_COUNTS = {"fx_fy_cx_cy": (4,), "w_h_fx_fy_cx_cy": (6,)}
_MATRIX_COUNTS = (9, 12, 16)


class Pinhole(NamedTuple):
    """fx, fy, cx, cy as written, and the size where it is written too."""

    numbers: tuple[float, float, float, float]
    size_px: tuple[int, int] | None


def given(intrinsics: Intrinsics) -> Pinhole:
    """Return what the YAML itself says."""
    numbers = (intrinsics.fx, intrinsics.fy, intrinsics.cx, intrinsics.cy)
    return Pinhole(tuple(float(number or 0.0) for number in numbers), intrinsics.size)  # pyright: ignore[reportArgumentType]


def parse(data: bytes, intrinsics: Intrinsics, where: str) -> Pinhole:
    """Return what a file says; raises Drop: bad_intrinsics."""
    form = intrinsics.format
    if form == "json":
        numbers = _flat(value_at(data, intrinsics.key, where, intrinsics.fields), where)
    else:
        text = data.decode("utf-8", "replace")
        if form == "key_value":
            pairs = (line.partition("=") for line in text.splitlines())
            text = next((value for key, _, value in pairs if key.strip() == intrinsics.key), "")
        numbers = _flat(text.replace(",", " ").split(), where)
    if form in _COUNTS or intrinsics.fields:
        if form in _COUNTS and numbers.size not in _COUNTS[form]:
            raise Drop("bad_intrinsics", f"{where}: {numbers.size} numbers, not {form}")
        size = tuple(int(number) for number in numbers[:-4]) or None
        return Pinhole(tuple(numbers[-4:].tolist()), intrinsics.size or size)  # pyright: ignore[reportArgumentType]
    if numbers.size not in _MATRIX_COUNTS:
        raise Drop("bad_intrinsics", f"{where}: {numbers.size} numbers are no 3x3 or 4x4 matrix")
    shape = {9: (3, 3), 12: (3, 4), 16: (4, 4)}[numbers.size]
    k = numbers.reshape(shape, order="F" if intrinsics.columns else "C")[:3, :3]
    zeros = (k[0, 1], k[1, 0], k[2, 0], k[2, 1])
    if np.abs(zeros).max() > 1e-3 * abs(k[0, 0]) or abs(k[2, 2] - 1) > 1e-6:
        raise Drop("bad_intrinsics", f"{where}: {k.tolist()} is not [fx 0 cx; 0 fy cy; 0 0 1]")
    return Pinhole((float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2])), intrinsics.size)


def camera_of(pinhole: Pinhole, size_px: tuple[int, int], first_pixel_centre: float) -> Camera:
    """Return the camera in our pixels, whose first centre is (0.5, 0.5); raises Drop: bad_intrinsics."""
    fx, fy, cx, cy = pinhole.numbers
    shift = 0.5 - first_pixel_centre
    width, height = pinhole.size_px or size_px
    try:
        camera = Camera(fx, fy, cx + shift, cy + shift, width, height)
    except ValueError as error:
        raise Drop("bad_intrinsics", str(error)) from error
    if not (-width < camera.cx_px < 2 * width and -height < camera.cy_px < 2 * height):
        raise Drop("bad_intrinsics", f"the principal point {cx}, {cy} is far outside {width}x{height} pixels")
    return camera


def value_at(data: bytes, key: str, where: str, fields: Sequence[str] = ()) -> Any:
    """Return the value under a top-level `key` of a JSON file, or all of it without one; raises Drop: bad_json.

    With `fields`, the list of the values under these keys of it.
    """
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise Drop("bad_json", f"{where}: {error}") from error
    if key:
        value = _entry(value, key, where)
    return [_entry(value, field, where) for field in fields] if fields else value


def _entry(value: Any, key: str, where: str) -> Any:
    if not isinstance(value, dict) or key not in value:
        raise Drop("bad_json", f"{where}: there is no key {key!r}")
    return value[key]


def _flat(numbers: Any, where: str) -> Float64Array:
    try:
        flat = np.asarray(numbers, np.float64).ravel()
    except (TypeError, ValueError, OverflowError) as error:
        raise Drop("bad_intrinsics", f"{where}: {error}") from error
    if not np.isfinite(flat).all():
        raise Drop("bad_intrinsics", f"{where}: not finite")
    return flat
