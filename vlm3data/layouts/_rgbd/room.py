"""A synthetic room, filmed by a camera that is carried through it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from vlm3data.synth.indoors import room
from vlm3data.synth.packed import pack
from vlm3data.synth.shade import shade
from vlm3data.synth.tour import tour
from vlm3data.synth.trace import trace
from vlm3data.synth.views import depth_of
from vlm3data.types import Camera, Float32Array, Float64Array, UInt8Array

FAR_M = 20.0

Cameras = Callable[[int], tuple[Camera, Camera]]
"""From a frame's number to the image's camera and its depth map's, which share centre and axes."""


@dataclass(frozen=True, slots=True)
class Shot:
    """One frame and its exact truth."""

    number: int
    image: UInt8Array
    depth_m: Float32Array
    """(h, w) of `depth_camera`, z."""
    camera: Camera
    depth_camera: Camera
    room_from_cam: Float64Array
    """OpenCV axes; the room's z is up."""


def filmed(cameras: Cameras, frames: int, rng: np.random.Generator) -> Iterator[Shot]:
    """Yield the frames of one way through one room."""
    for _ in range(100):
        packed = pack(room(rng))
        poses = tour(packed, Camera(90.0, 90.0, 48.0, 36.0, 96, 72), frames, FAR_M, rng)
        if poses is not None:
            break
    else:
        raise RuntimeError("no room for a tour in 100 rooms")
    for number, pose in enumerate(poses):
        camera, depth_camera = cameras(number)
        seen = trace(packed, camera, pose, FAR_M)
        at_depth = seen if depth_camera == camera else trace(packed, depth_camera, pose, FAR_M)
        yield Shot(number, shade(packed, seen, camera, pose), depth_of(at_depth, FAR_M), camera, depth_camera, pose)
