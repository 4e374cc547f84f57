"""The records of nuScenes' tables: the fields that are read, and what they must be."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Raw, Struct
from msgspec.json import decode

Timestamp = Annotated[int, Meta(ge=0, le=1 << 53)]
"""Microseconds."""
Size = Annotated[int, Meta(ge=0, le=1 << 30)]
Vector = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]
"""w, x, y, z."""


class Sensor(Struct, gc=False):
    token: str
    channel: str


class CalibratedSensor(Struct, gc=False):
    """Where a sensor sits on the vehicle."""

    token: str
    sensor_token: str
    translation: Vector
    rotation: Quaternion
    camera_intrinsic: list[list[float]]


class Scene(Struct, gc=False):
    token: str
    name: str
    nbr_samples: int


class Sample(Struct, gc=False):
    token: str
    timestamp: Timestamp
    scene_token: str


class SampleData(Struct, gc=False):
    """One reading of one sensor."""

    token: str
    sample_token: str
    ego_pose_token: str
    calibrated_sensor_token: str
    filename: str
    timestamp: Timestamp
    is_key_frame: bool
    width: Size | None = None
    height: Size | None = None


class EgoPose(Struct, gc=False):
    """Where the vehicle is; one in eleven is wanted, so that the numbers of the others are not even parsed."""

    token: str
    translation: Raw
    rotation: Raw

    def numbers(self) -> tuple[float, ...]:
        """Return w, x, y, z, x_m, y_m, z_m; ValidationError where they are none."""
        return (*decode(self.rotation, type=Quaternion), *decode(self.translation, type=Vector))


class Category(Struct, gc=False):
    token: str
    name: str


class Visibility(Struct, gc=False):
    token: str
    level: str


class Instance(Struct, gc=False):
    token: str
    category_token: str


class SampleAnnotation(Struct, gc=False):
    """A box in the global frame; `size` is width, length, height."""

    token: str
    sample_token: str
    instance_token: str
    visibility_token: str
    translation: Vector
    size: Vector
    rotation: Quaternion
