"""The records that flow through vlm3, and the conventions they are in; defined here and nowhere else.

Axes    OpenCV camera: x right, y down, z forward. Poses are `world_from_cam` (4x4, metres);
        `a_from_b @ b_from_c` is `a_from_c`.
Pixels  (x, y); the centre of the top-left pixel is (0.5, 0.5) in continuous coordinates. An integer
        label (u, v) names a pixel and lies at its centre (u + 0.5, v + 0.5).
Depth   metres, of a kind that every label carries: `z` along the optical axis, `euclidean` along the ray.
Unknown is None or NaN, never 0.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson
import simplejpeg

from vlm3data.errors import Cut, Drop, UserError

MAX_IMAGE_PX = 1 << 27
"""Pixels of one image: five times what any camera of our sources takes, and 400 MB when decoded."""

__all__ = [
    "Answered", "Box3D", "BoxQuestion", "Calibration", "Camera", "Cut", "DepthKind", "DepthPoints", "Distortion",
    "DistortionModel", "Drop", "Float32Array", "Float64Array", "Frame", "Held", "Int64Array", "MadeImages", "Move",
    "Question", "Sample", "SceneRef", "SourceFacts", "Tracks", "UInt8Array", "UserError", "View",
]  # fmt: skip

UInt8Array = npt.NDArray[np.uint8]
Int64Array = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]

DepthKind = Literal["z", "euclidean"]
DistortionModel = Literal[
    "brown_conrady", "simple_radial", "radial", "opencv", "full_opencv", "fov", "opencv_fisheye",
    "simple_radial_fisheye", "radial_fisheye", "thin_prism_fisheye", "rad_tan_thin_prism_fisheye",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Distortion:
    """A lens distortion by its usual name; `params` in the order of OpenCV or COLMAP.

    brown_conrady: k1 k2 p1 p2 [k3 [k4 k5 k6]] (OpenCV). COLMAP's: simple_radial: k; radial: k1 k2;
    opencv: k1 k2 p1 p2; full_opencv: k1 k2 p1 p2 k3 k4 k5 k6; fov: omega; opencv_fisheye: k1 k2 k3 k4
    (Kannala-Brandt, as in cv2.fisheye); simple_radial_fisheye: k; radial_fisheye: k1 k2;
    thin_prism_fisheye: k1 k2 p1 p2 k3 k4 sx1 sy1; rad_tan_thin_prism_fisheye: k0-k5 p0 p1 s0-s3.
    """

    model: DistortionModel
    params: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Camera:
    """A pinhole camera, optionally distorted; the principal point is in continuous pixel coordinates."""

    fx_px: float
    fy_px: float
    cx_px: float
    cy_px: float
    width_px: int
    height_px: int
    distortion: Distortion | None = None

    def __post_init__(self) -> None:
        numbers = (self.fx_px, self.fy_px, self.cx_px, self.cy_px)
        if not all(map(math.isfinite, numbers)):
            raise ValueError(f"intrinsics must be finite: {self}")
        if min(self.fx_px, self.fy_px, self.width_px, self.height_px) <= 0:
            raise ValueError(f"focal lengths and image size must be positive: {self}")

    @classmethod
    def centred(cls, focal_px: float, width_px: int, height_px: int) -> Camera:
        """Return the camera with square pixels and the principal point in the middle of the image."""
        return cls(focal_px, focal_px, width_px / 2, height_px / 2, width_px, height_px)


@dataclass(frozen=True, slots=True)
class Calibration:
    """A pinhole camera that a calibrator estimated from one image, because its source has no intrinsics."""

    camera: Camera
    method: str
    """The calibrator's name."""
    focal_sigma_rel: float | None
    """One standard deviation of the focal length, as a share of it; None where the method knows none."""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """What the estimate rests on; JSON values, each method documents its own."""


@dataclass(frozen=True, slots=True)
class DepthPoints:
    """Sparse depth labels of one image: `pixel_px` (n, 2) integer [u, v], `depth_m` (n,)."""

    pixel_px: Int64Array
    depth_m: Float64Array


@dataclass(frozen=True, slots=True)
class Tracks:
    """Points of a sparse reconstruction as one image observes them: `point` (n,) names, `xy_px` (n, 2) continuous.

    Two images that observe the same point show it at corresponding pixels.
    """

    point: Int64Array
    xy_px: Float64Array


@dataclass(frozen=True, slots=True)
class Box3D:
    """An oriented box: `world_from_box` (4x4) has its centre and axes, `size_m` its extent along them."""

    label: str
    world_from_box: Float64Array
    size_m: tuple[float, float, float]
    visibility: float | None = None
    """The share of it, 0 to 1, that nothing hides; None where the source does not say."""


@dataclass(frozen=True, slots=True)
class BoxQuestion:
    """A question about 2D boxes that the dataset itself asks (SpatialRGPT-Bench); `{0}`, `{1}` stand for the boxes."""

    category: str
    question: str
    answer: str
    boxes_px: tuple[tuple[float, float, float, float], ...]
    """(x1, y1, x2, y2) in source pixels."""


@dataclass(frozen=True, slots=True)
class SceneRef:
    """The unit of splitting, work and resuming; cheap to list. `num_frames` plans the shards."""

    scene: str
    num_frames: int
    payload: Mapping[str, Any] = field(default_factory=dict)
    """Whatever the source needs to find the scene again; JSON values only, so that a task can travel."""
    split: str = "all"
    stamp: str = ""
    """A digest of what the scene was read from, where the source can have one cheaply: shards of a dataset that
    has changed are then not continued."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One image with whatever geometry its source knows; None means unknown.

    What lies in files of its own is read only when called, because a scene may hold thousands of frames; each of the
    calls may raise `Drop`.
    """

    key: str
    scene: str
    image: Callable[[], bytes | UInt8Array]
    """The encoded file, or (h, w, 3) RGB."""
    upright: bool = False
    """True where the pixels that labels name are those of the photo turned upright, as its EXIF orientation says and
    as viewers show it; False: as they are stored."""
    size_px: tuple[int, int] | None = None
    """(width, height) that the source says, where it has no camera that says it."""
    camera: Camera | None = None
    points: Callable[[], DepthPoints] | None = None
    """Sparse depth labels in the pixels of `camera`."""
    depth_m: Callable[[], Float32Array] | None = None
    """(h, w) of `depth_camera`; NaN where unknown."""
    depth_camera: Camera | None = None
    """Where the depth map is not of the image's size: its own intrinsics. It shares the image's centre and axes, and
    has no distortion; a source whose depth camera stands elsewhere registers the two by itself."""
    world_from_cam: Float64Array | None = None
    tracks: Callable[[], Tracks] | None = None
    boxes: Callable[[], tuple[Box3D, ...]] | None = None
    """The objects in view."""
    box_questions: tuple[BoxQuestion, ...] = ()

    @classmethod
    def unusable(cls, key: str, scene: str, drop: Drop) -> Frame:
        """Return the frame that stands for one that cannot be used: `drop` is raised where its image is asked for."""

        def refuse() -> bytes:
            raise drop

        return cls(key=key, scene=scene, image=refuse)


class Move(NamedTuple):
    """How a source image becomes the one that a model sees; unified pixels are source pixels times `scale`, minus
    `crop_xy_px`.
    """

    source_camera: Camera
    unified: Camera
    """Before it was aligned: beyond its size nothing is seen."""
    camera: Camera
    scale: tuple[float, float]
    crop_xy_px: tuple[int, int]
    published: bool = False
    """Whether pixels move by the released int(u * s)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One image as the model will see it: unified, aligned, its labels moved along.

    `scale` is (sx, sy); unified pixels are source pixels times scale, minus `crop_xy_px`
    (negative where the image was padded).
    """

    frame: str
    scene: str = ""
    image: UInt8Array
    """With `--store original` the source's own, as it will be stored; all the rest is of the unified one even then."""
    jpeg: bytes | None = None
    """The source's own file, where `image` is stored as that."""
    camera: Camera
    source_camera: Camera
    calibration: Calibration | None = None
    """Where the source camera comes from, if not from the source."""
    scale: tuple[float, float]
    crop_xy_px: tuple[int, int]
    align: Literal["crop", "pad", "none"] = "crop"
    points: DepthPoints | None = None
    """Labels in the pixels of `image`, of the kind that the build writes."""
    source_points: DepthPoints | None = None
    """The same labels, in the same order, in the pixels of the source image."""
    depth_m: Float32Array | None = None
    """(h, w) of `depth_camera`, always of kind z, out-of-range values NaN; only where a task needs two views."""
    depth_camera: Camera | None = None
    """Of the source's depth map: the centre and axes are those of `camera`, the pixels its own."""
    world_from_cam: Float64Array | None = None
    tracks: Tracks | None = None
    """In the pixels of `image`, those outside it left out; only where a task needs two views."""
    boxes: Callable[[], tuple[Box3D, ...]] | None = None
    """The frame's: read only by a task that asks about them."""
    box_questions: tuple[BoxQuestion, ...] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """One turn: what is asked, what should be answered, and the numbers behind it (JSON values)."""

    task: str
    question: str
    answer: str
    truth: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a shard holds of one sample: all that a task can ask again from, without the source."""

    stored: Mapping[str, Sequence[Mapping[str, Any]]]
    """The questions by task, as the shard's JSON has them."""
    cameras: Sequence[Camera]
    """Of the images, in whose pixels labels are."""
    world_from_cam: Sequence[Float64Array | None]
    facts: SourceFacts

    def truths(self, task: str) -> list[Mapping[str, Any]]:
        """Return the numbers behind the stored questions of one task."""
        return [question["truth"] for question in self.stored.get(task, ())]


class Answered(NamedTuple):
    """What came of one question put to a model."""

    sample: str
    """The key of the sample whose question it is: questions of one pair of images are scored together."""
    truth: Mapping[str, Any]
    prediction: Any
    """What the task's parser made of the answer; None where it found nothing."""


class MadeImages(Sequence[bytes]):
    """A sample's images where its shard holds the source's own: unified when they are asked for.

    As bytes they are encoded, too, which `arrays` spares.
    """

    @abstractmethod
    def arrays(self) -> list[UInt8Array]:
        """Return the images as a model sees them, (h, w, 3) RGB each."""


def _decoded(jpeg: bytes) -> UInt8Array:
    height_px, width_px = simplejpeg.decode_jpeg_header(jpeg)[:2]
    if int(height_px) * int(width_px) > MAX_IMAGE_PX:
        raise ValueError(f"an image of {width_px}x{height_px} pixels")
    return simplejpeg.decode_jpeg(jpeg, "RGB")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One training conversation: JPEG bytes per view and the record that a shard's JSON holds.

    `record_json` is parsed only when asked for. `draw` picks the questions of this epoch out of the
    stored ones (as in the JSON); without it all stored questions are asked.
    """

    key: str
    images: Sequence[bytes]
    record_json: bytes
    dataset: str = ""
    epoch: int = 0
    draw: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] | None = None

    @classmethod
    def of(cls, record: dict[str, Any], images: Sequence[bytes]) -> Sample:
        """Return the sample with this `record` of plain JSON values."""
        sample = cls(key=record["key"], images=images, record_json=orjson.dumps(record))
        sample.__dict__["record"] = record  # what parsing would give back
        return sample

    def image_arrays(self) -> list[UInt8Array]:
        """Return the images as a model sees them, (h, w, 3) RGB each; ValueError where one does not decode."""
        if isinstance(self.images, MadeImages):
            return self.images.arrays()
        return [_decoded(image) for image in self.images]

    @cached_property
    def record(self) -> dict[str, Any]:
        """Return the parsed JSON: `key, source, scene, frames, views, questions, metric, ...`."""
        return orjson.loads(self.record_json)

    @cached_property
    def questions(self) -> list[Question]:
        """Return the questions to ask, in order."""
        stored = self.record["questions"]
        return [Question(**question) for question in (self.draw(stored) if self.draw else stored)]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFacts:
    """What a source declares about its data, once for all its frames."""

    name: str
    licence: str
    metric: bool
    """False where the scale is arbitrary: then no answer holds a metre."""
    depth_kind: DepthKind
    depth_range_m: tuple[float, float]
    pixel_centre: str
    """How the stored intrinsics count pixels, in words, and what reading does about it."""
    splits: tuple[str, ...]
    world_up: tuple[float, float, float] | None = None
    """The unit vector that points up in the frames' world, where the source knows it."""
    depth_noise: tuple[float, float] = (0.0, 0.01)
    """What a depth map's values are good to: (metres, share of the depth), added. Occlusion checks follow it."""
    pair_overlap: tuple[float, float] = (0.25, 0.95)
    """Two frames make a pair where each shows more than the first and at most the second share of the other."""
    endless: bool = False
    """True where `scenes` never ends by itself: a build then needs a limit."""
