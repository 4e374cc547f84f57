"""What the occlusion filter removes and keeps, on synthetic drives whose truth is known; and a picture of a real frame.

Every LiDAR point that falls into an image is either seen from the camera or leaked: something stands before it, which
a ray cast from the camera meets. Counted are the points before the filter, and of both kinds those after it.

Run: python -m benchmarks.occlusion [--root ROOT_OF_NUSCENES --picture out/occlusion.png]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.bench import report
from vlm3data.images import decode_rgb
from vlm3data.layouts.nuscenes import NuscenesLayout
from vlm3data.sources.nuscenes import NuscenesSource
from vlm3data.types import DepthPoints, Frame, UInt8Array

SCENES, SAMPLES = 6, 4


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", help="nuScenes as its owner distributes it")
    parser.add_argument("--camera", default="CAM_FRONT_LEFT")
    parser.add_argument("--picture", default="out/occlusion.png")
    arguments = parser.parse_args()
    rows = _rates()
    report("occlusion", rows, f"{SCENES} synthetic drives of {SAMPLES} key frames, exact truth")
    if arguments.root:
        _draw(arguments.root, arguments.camera, Path(arguments.picture))


def _rates() -> list[dict[str, object]]:
    counts: dict[str, list[int]] = {}
    with tempfile.TemporaryDirectory() as directory:
        layout = NuscenesLayout(NuscenesLayout.Options(scenes=SCENES, samples=SAMPLES, sweeps=0), seed=11)
        layout.write(directory, lambda done, total: None)
        truths = [dict(np.load(path)) for path in Path(directory).glob("truth/*/*.npz")]
        everything, filtered = (_source(directory, occlusion=occlusion) for occlusion in (False, True))
        for before, after in zip(_frames(everything), _frames(filtered), strict=True):
            camera = before.key.rpartition("/")[2]
            leaked = _leaked(_truth_of(truths, before), before)
            kept = {tuple(pixel) for pixel in _points(after).pixel_px.tolist()}
            total = counts.setdefault(camera, [0, 0, 0, 0])
            for pixel, is_leaked in leaked.items():
                total[0 if is_leaked else 2] += 1
                total[1 if is_leaked else 3] += pixel in kept
    counts["all"] = np.sum(list(counts.values()), axis=0).tolist()
    return [
        {
            "camera": camera,
            "points": leaked + good,
            "leaked before %": 100 * leaked / (leaked + good),
            "leaked removed %": 100 * (1 - leaked_kept / leaked) if leaked else 100.0,
            "good kept %": 100 * good_kept / good,
            "leaked after %": 100 * leaked_kept / (leaked_kept + good_kept),
        }
        for camera, (leaked, leaked_kept, good, good_kept) in counts.items()
    ]


def _leaked(truth: Mapping[str, Any], frame: Frame) -> dict[tuple[int, int], bool]:
    """Return, by pixel, whether the label there (the nearest point of the pixel) is a leaked one."""
    order = np.argsort(-truth["lidar_depth_m"])  # the nearest point of a pixel comes last, and stays
    pixels = map(tuple, np.floor(truth["lidar_xy_px"][order]).astype(int).tolist())
    leaked = dict(zip(pixels, (~truth["lidar_visible"][order]).tolist(), strict=True))
    return {(u, v): leaked[u, v] for u, v in _points(frame).pixel_px.tolist()}


def _truth_of(truths: Sequence[Mapping[str, Any]], frame: Frame) -> Mapping[str, Any]:
    """Return the truth of the only image with this pose."""
    assert frame.world_from_cam is not None
    (found,) = (truth for truth in truths if np.allclose(truth["global_from_cam"], frame.world_from_cam, atol=1e-6))
    return found


def _draw(root: str, camera: str, path: Path) -> None:
    """Write the frame with its labels before the filter, above, and after it, below; nearer is warmer."""
    halves = []
    for occlusion in (False, True):
        source = _source(root, occlusion=occlusion)
        frame = next(frame for frame in _frames(source) if frame.key.endswith(f"/{camera}"))
        encoded = frame.image()
        assert isinstance(encoded, bytes)
        halves.append(_drawn(decode_rgb(encoded), _points(frame)))
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.concatenate(halves)[..., ::-1])
    print(f"wrote {path}")


def _drawn(image: UInt8Array, points: DepthPoints) -> UInt8Array:
    drawn = image // 2 + 40
    shade = np.clip(255 * (1 - np.log(points.depth_m / 3) / np.log(25)), 0, 255).astype(np.uint8)
    colours = cv2.applyColorMap(shade[:, None], cv2.COLORMAP_TURBO)[:, 0, ::-1].tolist()
    for (u, v), colour in zip(points.pixel_px.tolist(), colours, strict=True):
        cv2.circle(drawn, (u, v), 3, colour, -1)
    return drawn


def _source(root: str, *, occlusion: bool) -> NuscenesSource:
    return NuscenesSource(root, NuscenesSource.Options(occlusion=occlusion), 0)


def _frames(source: NuscenesSource) -> list[Frame]:
    return [frame for scene in source.scenes(None) for frame in source.frames(scene)]


def _points(frame: Frame) -> DepthPoints:
    assert frame.points is not None
    return frame.points()


if __name__ == "__main__":
    main()
