"""The namings: what each calls its files, and what it writes into them."""

from __future__ import annotations

import io
from typing import Any, Protocol

import cv2
import numpy as np
import orjson

from vlm3data.formats import poses
from vlm3data.formats.depth_image import encode_png16
from vlm3data.images import encode_jpeg
from vlm3data.layouts._rgbd.lidar import lidar
from vlm3data.layouts._rgbd.room import Shot
from vlm3data.types import Camera, Float32Array, Float64Array, UInt8Array

Files = dict[str, bytes]
"""Contents by path below the scene's directory."""


class Form(Protocol):
    """One naming."""

    name: str
    world_from_room: Float64Array
    """The world that its poses are in, from the room with z up."""

    def scene(self, number: int) -> str:
        """Return the directory of a scene."""
        ...

    def cameras(self, number: int) -> tuple[Camera, Camera]:
        """Return the cameras of a frame's image and depth map, in our pixels."""
        ...

    def add(self, files: Files, shot: Shot) -> str:
        """Add a frame to its scene's files and return its name."""
        ...


class SevenScenes:
    """A matrix for each frame; missing depth is 65535."""

    name = "7scenes"
    world_from_room = np.eye(4)

    def scene(self, number: int) -> str:
        return f"chess/seq-{number + 1:02d}"

    def cameras(self, number: int) -> tuple[Camera, Camera]:
        return (camera := Camera(585.0, 585.0, 320.5, 240.5, 640, 480)), camera

    def add(self, files: Files, shot: Shot) -> str:
        name = f"{shot.number:06d}"
        files[f"frame-{name}.color.png"] = _png(shot.image)
        files[f"frame-{name}.depth.png"] = _counts(shot.depth_m, 1000, missing=65535)
        files[f"frame-{name}.pose.txt"] = poses.format_matrix(shot.room_from_cam).encode()
        k = [[585.0, 0, 320], [0, 585.0, 240], [0, 0, 1]]
        files["camera-intrinsics.txt"] = poses.format_matrix(k).encode()
        return name


class Tum:
    """Named by time, depth a little later than its image; the trajectory has poses between the images' too."""

    name = "tum"
    world_from_room = np.eye(4)

    def scene(self, number: int) -> str:
        return f"rgbd_dataset_synthetic_{number:03d}"

    def cameras(self, number: int) -> tuple[Camera, Camera]:
        return (camera := Camera(535.4, 539.2, 320.6, 248.1, 640, 480)), camera

    def add(self, files: Files, shot: Shot) -> str:
        time_s = 1305031102.175304 + shot.number / 30
        name = f"{time_s:.6f}"
        files[f"rgb/{name}.png"] = _png(shot.image)
        files[f"depth/{time_s + 0.004:.6f}.png"] = _counts(shot.depth_m, 5000)
        trajectory = poses.format_tum([(name, shot.room_from_cam)])
        head, line = trajectory.splitlines(keepends=True)
        # Beyond the largest difference from this image, and from the next: nobody's pose.
        stray = line.replace(name, f"{time_s + 0.0165:.6f}").replace(line.split()[1], "1e3", 1)
        files["groundtruth.txt"] = files.get("groundtruth.txt", head.encode()) + (line + stray).encode()
        return name


class Redwood:
    """Numbered images, one log."""

    name = "redwood"
    world_from_room = np.eye(4)

    def scene(self, number: int) -> str:
        return f"room{number:03d}"

    def cameras(self, number: int) -> tuple[Camera, Camera]:
        return (camera := Camera(525.0, 525.0, 320.0, 240.0, 640, 480)), camera

    def add(self, files: Files, shot: Shot) -> str:
        name = f"{shot.number:05d}"
        files[f"color/{name}.jpg"] = encode_jpeg(shot.image, 92)
        files[f"depth/{name}.png"] = _counts(shot.depth_m, 1000)
        entry = poses.format_log({shot.number: shot.room_from_cam}).encode()
        files["trajectory.log"] = files.get("trajectory.log", b"") + entry
        return name


class Arkit:
    """A JSON for each frame, y up and z backward; small depth maps, how sure they are; a focal length that breathes."""

    name = "arkit"
    world_from_room = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    _DEPTH_PX, _TIMES = (256, 192), 3

    def scene(self, number: int) -> str:
        return f"2026_01_01_12_{number // 60:02d}_{number % 60:02d}"

    def cameras(self, number: int) -> tuple[Camera, Camera]:
        width, height = self._DEPTH_PX
        focal = 212.0 + 0.3 * (number % 7)
        depth = Camera(focal, focal, 127.4, 96.8, width, height)
        n = self._TIMES
        return Camera(n * focal, n * focal, n * 127.4, n * 96.8, n * width, n * height), depth

    def add(self, files: Files, shot: Shot) -> str:
        name, camera = f"{shot.number:05d}", shot.camera
        pose = self.world_from_room @ shot.room_from_cam @ np.diag([1.0, -1.0, -1.0, 1.0])
        k = [camera.fx_px, 0.0, camera.cx_px, 0.0, camera.fy_px, camera.cy_px, 0.0, 0.0, 1.0]
        files[f"frame_{name}.jpg"] = encode_jpeg(shot.image, 92)
        depth_m, confidence = lidar(shot.depth_m)
        files[f"depth_{name}.png"] = _counts(depth_m, 1000)
        files[f"conf_{name}.png"] = _grey(confidence)
        about = {"cameraPoseARFrame": pose.ravel().tolist(), "intrinsics": k, "frame_index": shot.number}
        files[f"frame_{name}.json"] = orjson.dumps(about)
        return name


class Polycam(Arkit):
    """The same recorder's frames, named by time; each number of the pose under a key of its own."""

    name = "polycam"

    def add(self, files: Files, shot: Shot) -> str:
        name, camera = f"{93_000_000_000 + 100_000 * shot.number}", shot.camera
        pose = self.world_from_room @ shot.room_from_cam @ np.diag([1.0, -1.0, -1.0, 1.0])
        about = {f"t_{row}{column}": float(pose[row, column]) for row in range(3) for column in range(4)}
        about |= {"fx": camera.fx_px, "fy": camera.fy_px, "cx": camera.cx_px, "cy": camera.cy_px}
        about |= {"width": camera.width_px, "height": camera.height_px, "timestamp": int(name)}
        files[f"keyframes/images/{name}.jpg"] = encode_jpeg(shot.image, 92)
        depth_m, confidence = lidar(shot.depth_m)
        files[f"keyframes/depth/{name}.png"] = _counts(depth_m, 1000)
        files[f"keyframes/confidence/{name}.png"] = _grey(np.array([0, 54, 255], np.uint8)[confidence])
        files[f"keyframes/cameras/{name}.json"] = orjson.dumps(about)
        return name


class Record3d(Arkit):
    """One metadata.json for all frames: one matrix, column by column, and poses as quaternions; depth in floats."""

    name = "record3d"

    def cameras(self, number: int) -> tuple[Camera, Camera]:
        return super().cameras(0)

    def add(self, files: Files, shot: Shot) -> str:
        name, camera = str(shot.number), shot.camera
        pose = self.world_from_room @ shot.room_from_cam @ np.diag([1.0, -1.0, -1.0, 1.0])
        columns = [camera.fx_px, 0.0, 0.0, 0.0, camera.fy_px, 0.0, camera.cx_px, camera.cy_px, 1.0]
        about: dict[str, Any] = orjson.loads(files.get("metadata.json", b"{}")) or {"K": columns, "poses": []}
        # TUM's line is time tx ty tz qx qy qz qw
        _, *numbers = poses.format_tum([("0", pose)]).splitlines()[-1].split()
        about["poses"].append([float(number) for number in numbers[3:] + numbers[:3]])
        files["metadata.json"] = orjson.dumps(about | {"w": camera.width_px, "h": camera.height_px})
        files[f"rgb/{name}.jpg"] = encode_jpeg(shot.image, 92)
        depth_m, confidence = lidar(shot.depth_m)
        depth_m[:12, :16] = 0
        files[f"depth/{name}.npy"] = _npy(np.nan_to_num(depth_m))
        files[f"confidence/{name}.npy"] = _npy(confidence)
        return name


FORMS: dict[str, type[Form]] = {form.name: form for form in (SevenScenes, Tum, Redwood, Arkit, Polycam, Record3d)}


def _png(image: UInt8Array) -> bytes:
    return cv2.imencode(".png", image[..., ::-1])[1].tobytes()


def _grey(values: UInt8Array) -> bytes:
    return cv2.imencode(".png", values)[1].tobytes()


def _npy(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, values, allow_pickle=False)
    return file.getvalue()


def _counts(depth_m: Float32Array, counts_per_m: float, missing: int = 0) -> bytes:
    """Return a 16-bit PNG; unknown, and a corner of each map, as sensors have them, is `missing`."""
    counts = np.rint(depth_m.astype(np.float64) * counts_per_m)
    counts[~(counts < 65535)] = missing
    counts[:12, :16] = missing
    return encode_png16(counts.astype(np.uint16))
