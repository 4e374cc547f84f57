"""nuScenes frames curated as published: the baseline of `benchmarks.scale`, written from a description of what it does.

LiDAR to ego to camera by the calibrations alone, without the vehicle's motion in between; a point belongs to the pixel
that its projection falls into; of several in one pixel the nearest stays; 100 pixels are drawn without replacement;
OpenCV decodes the image and encodes it again at full size, at its own quality of 95 with 4:2:0 chroma, which is ours.

What favours it: the tables are parsed once, before anything is measured; nothing is checked, hashed, sorted by what is
in the image or turned into questions; and it is written in whole arrays, without the devkit's objects. What favours us:
it reads the LiDAR's file for each of six cameras, as published, and an image is a file each, where ours is a tar.
`unify` is what it leaves to whoever reads: each time, one focal length for each image.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

PIXELS = 100


class Curation:
    """Writes frames of the nuScenes root `root` to the directory `out`."""

    def __init__(self, root: Path, out: Path) -> None:
        self.root, self.out = root, out
        out.mkdir()
        tables = next(root.glob("v1.0-*"))
        sensors = {row["token"]: row["channel"] for row in json.loads((tables / "sensor.json").read_text())}
        self.calibrated = {row["token"]: row for row in json.loads((tables / "calibrated_sensor.json").read_text())}
        self.data: dict[str, dict[str, Any]] = {}
        for row in json.loads((tables / "sample_data.json").read_text()):
            if row["is_key_frame"]:
                channel = sensors[self.calibrated[row["calibrated_sensor_token"]]["sensor_token"]]
                self.data.setdefault(row["sample_token"], {})[channel] = row

    def convert(self, images: int) -> None:
        """Convert the first `images` frames."""
        rng, records = np.random.default_rng(0), []
        frames = (
            (channels["LIDAR_TOP"], row)
            for channels in self.data.values()
            for channel, row in channels.items()
            if channel.startswith("CAM_")
        )
        for number, (lidar, camera) in zip(range(images), frames, strict=False):
            pixels, depths = self._labels(lidar, camera)
            drawn = rng.choice(len(pixels), min(PIXELS, len(pixels)), replace=False)
            image = cv2.imread(str(self.root / camera["filename"]))
            assert image is not None
            cv2.imwrite(str(self.out / f"{number}.jpg"), image)
            intrinsics = self.calibrated[camera["calibrated_sensor_token"]]["camera_intrinsic"]
            records.append(
                {
                    "image": f"{number}.jpg",
                    "intrinsics": intrinsics,
                    "pixel_coords": pixels[drawn].tolist(),
                    "depth": depths[drawn].tolist(),
                }
            )
        (self.out / "labels.jsonl").write_text("\n".join(map(json.dumps, records)))

    def unify(self, images: int, focal_px: float = 1000.0) -> None:
        """Read the images again and bring each to the focal length, as training does in each epoch."""
        for line in (self.out / "labels.jsonl").read_text().splitlines()[:images]:
            record = json.loads(line)
            image, scale = cv2.imread(str(self.out / record["image"])), focal_px / record["intrinsics"][0][0]
            assert image is not None
            cv2.resize(image, None, fx=scale, fy=scale)

    def _labels(self, lidar: dict[str, Any], camera: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        points = np.fromfile(self.root / lidar["filename"], np.float32).reshape(-1, 5)[:, :3].T.astype(float)
        ego_from_lidar = _pose(self.calibrated[lidar["calibrated_sensor_token"]])
        sensor = self.calibrated[camera["calibrated_sensor_token"]]
        cam_from_lidar = np.linalg.inv(_pose(sensor)) @ ego_from_lidar
        seen = cam_from_lidar[:3, :3] @ points + cam_from_lidar[:3, 3:]
        seen = seen[:, seen[2] > 0]
        x, y, z = np.asarray(sensor["camera_intrinsic"]) @ seen
        pixels = np.floor(np.stack([x / z, y / z], axis=1)).astype(int)
        inside = (pixels >= 0).all(axis=1) & (pixels < (camera["width"], camera["height"])).all(axis=1)
        pixels, depths = pixels[inside], z[inside]
        nearest = np.argsort(depths, kind="stable")
        _, first = np.unique(pixels[nearest, 1] * camera["width"] + pixels[nearest, 0], return_index=True)
        return pixels[nearest[first]], depths[nearest[first]]


def _pose(row: dict[str, Any]) -> np.ndarray:
    """Return the 4x4 matrix of a calibration's quaternion (w, x, y, z) and translation."""
    w, x, y, z = row["rotation"]
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    matrix[:3, 3] = row["translation"]
    return matrix
