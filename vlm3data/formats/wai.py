"""`scene_meta.json` of WAI (WorldAI, the format of MapAnything's data): a scene's frames, cameras and modalities.

Field names and meanings: data_processing/README.md and `mapanything/utils/wai` of facebookresearch/map-anything.
Poses (`transform_matrix`) are world from camera in OpenCV's axes. The principal point is taken in pixels whose first
centre is (0.5, 0.5): WAI's own undistortion puts it at w/2, h/2, and its scaling multiplies it by the scale. Aria
Synthetic Environments is the exception: its conversion takes Project Aria's, which put integers on pixel centres.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
import orjson
from pydantic import Field, ValidationError

from vlm3data.config import Config, explain
from vlm3data.geometry.rigid import as_rigid
from vlm3data.types import Camera, Distortion, Drop, Float64Array, UserError

Finite = Annotated[float, Field(allow_inf_nan=False)]
MODELS = ("PINHOLE", "OPENCV", "FULL_OPENCV", "OPENCV_FISHEYE")
INTEGER_CENTRES = ("ase",)
"""How the names of datasets begin whose intrinsics put integers on pixel centres (asev2: (w-1)/2 is the middle)."""
LENS = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")


class WaiCamera(Config, extra="ignore"):
    """Coefficients as a scene or a frame gives them; a frame's come before its scene's."""

    camera_model: str | None = None
    w: Annotated[float, Field(gt=0)] | None = None
    h: Annotated[float, Field(gt=0)] | None = None
    fl_x: Finite | None = None
    fl_y: Finite | None = None
    cx: Finite | None = None
    cy: Finite | None = None
    k1: Finite | None = None
    k2: Finite | None = None
    k3: Finite | None = None
    k4: Finite | None = None
    k5: Finite | None = None
    k6: Finite | None = None
    p1: Finite | None = None
    p2: Finite | None = None


class WaiFrame(WaiCamera, extra="allow"):
    """One frame; the files of its modalities are among the further keys."""

    frame_name: str | int | float
    file_path: str | None = None
    transform_matrix: list[Any] | None = None

    def file(self, key: str) -> str | None:
        """Return the file that the frame names under `key`."""
        value = (self.model_extra or {}).get(key)
        return value if isinstance(value, str) else None


class WaiScene(WaiCamera):
    """One scene; further keys are left alone."""

    dataset_name: str = ""
    camera_convention: str
    shared_intrinsics: bool = False
    scale_type: Literal["metric", "colmap"] | None = None
    """colmap: a reconstruction's own unit of length."""
    frames: list[dict[str, Any]]
    frame_modalities: dict[str, Any] = {}
    scene_modalities: dict[str, Any] = {}

    def key_of(self, modality: str) -> str | None:
        """Return the key under which frames name the files of a modality: `depth`, `pred_depth/mvsanywhere`."""
        found: Any = self.frame_modalities
        for part in modality.split("/"):
            found = found.get(part) if isinstance(found, dict) else None
        key = found.get("frame_key") if isinstance(found, dict) else None
        return key if isinstance(key, str) else None


def read_scene_meta(data: bytes, where: str) -> WaiScene:
    """Return the checked content of a `scene_meta.json`; raises UserError, one line that names the file."""
    try:
        values = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise UserError(f"{where}: not valid JSON: {error}") from error
    scene = WaiScene.check(values, where)
    if scene.camera_convention != "opencv":
        raise UserError(
            f"{where}: camera_convention {scene.camera_convention!r}; WAI's poses are in 'opencv': convert the scene"
        )
    if scene.camera_model not in (None, *MODELS):
        raise UserError(f"{where}: camera_model {scene.camera_model!r} is none of {', '.join(MODELS)}")
    if not scene.frames:
        raise UserError(f"{where}: it lists no frames")
    return scene


def read_frame(values: dict[str, Any], where: str) -> WaiFrame:
    """Return one checked frame; raises Drop: bad_record."""
    try:
        return WaiFrame.model_validate(values)
    except ValidationError as error:
        raise Drop("bad_record", explain(error, WaiFrame, where)) from error


def camera_of(scene: WaiScene, frame: WaiFrame) -> Camera:
    """Return the camera of a frame; raises Drop: bad_intrinsics."""
    values = scene.model_dump(include=set(WaiCamera.model_fields)) | {
        name: value for name in WaiCamera.model_fields if (value := getattr(frame, name)) is not None
    }
    fx, fy, cx, cy, width, height = (values[name] for name in ("fl_x", "fl_y", "cx", "cy", "w", "h"))
    if None in (fx, fy, cx, cy, width, height):
        raise Drop("bad_intrinsics", f"frame {frame.frame_name} has not all of fl_x, fl_y, cx, cy, w, h")
    if width != int(width) or height != int(height):
        raise Drop("bad_intrinsics", f"frame {frame.frame_name} is {width}x{height} pixels")
    half = 0.5 if scene.dataset_name.lower().startswith(INTEGER_CENTRES) else 0.0
    try:
        return Camera(fx, fy, cx + half, cy + half, int(width), int(height), _lens(values, str(frame.frame_name)))
    except ValueError as error:
        raise Drop("bad_intrinsics", str(error)) from error


def _lens(values: dict[str, Any], name: str) -> Distortion | None:
    model = values["camera_model"] or "PINHOLE"
    given = {key: values[key] for key in LENS if values[key]}
    k = {key: float(values[key] or 0.0) for key in LENS}
    if model == "PINHOLE":
        if given:
            raise Drop("bad_intrinsics", f"frame {name}: a PINHOLE camera with {', '.join(given)}")
        return None
    if model == "OPENCV_FISHEYE" and not given.keys() & {"p1", "p2", "k5", "k6"}:
        return Distortion("opencv_fisheye", (k["k1"], k["k2"], k["k3"], k["k4"]))
    # WAI's own undistortion gives OPENCV's k1 k2 p1 p2 k3 to OpenCV
    if model == "FULL_OPENCV" or (model == "OPENCV" and not given.keys() & {"k4", "k5", "k6"}):
        return Distortion("brown_conrady", tuple(k[key] for key in LENS))
    raise Drop("bad_intrinsics", f"frame {name}: camera_model {model!r} with {', '.join(given) or 'no coefficients'}")


def pose_of(frame: WaiFrame) -> Float64Array | None:
    """Return world from camera (4, 4), None where the frame has none; raises Drop: pose_not_rigid."""
    if frame.transform_matrix is None:
        return None
    try:
        flat = np.asarray(frame.transform_matrix, np.float64).ravel()
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise Drop("pose_not_rigid", f"frame {frame.frame_name}: {error}") from error
    pose = as_rigid(flat.reshape(4, 4)) if flat.size == 16 else None
    if pose is None:
        raise Drop("pose_not_rigid", f"frame {frame.frame_name}")
    return pose
