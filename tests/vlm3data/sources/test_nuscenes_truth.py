"""nuScenes' labels on synthetic streets, whose depth is known exactly at every pixel while the car drives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vlm3data.layouts.nuscenes import NuscenesLayout
from vlm3data.sources.nuscenes import NuscenesSource
from vlm3data.types import Frame


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("synthetic")
    options = {"scenes": 1, "samples": 2, "sweeps": 1, "width_px": 400, "height_px": 225, "workers": 1}
    NuscenesLayout(NuscenesLayout.Options.model_validate(options), 1).write(str(path), lambda *_: None)
    return path


def frames_with_truth(root: Path, **options: object) -> list[tuple[Frame, dict[str, np.ndarray]]]:
    source = NuscenesSource(str(root), NuscenesSource.Options(**options), 0)
    frames = [frame for scene in source.scenes(None) for frame in source.frames(scene)]
    return [(frame, truth_of(root, frame)) for frame in frames]


def truth_of(root: Path, frame: Frame) -> dict[str, np.ndarray]:
    """Return the truth of the only image with this pose."""
    channel = frame.key.rsplit("/", 1)[1]
    files = [dict(np.load(path)) for path in sorted((root / "truth" / channel).glob("*.npz"))]
    (found,) = (truth for truth in files if np.allclose(truth["global_from_cam"], frame.world_from_cam, atol=1e-6))
    return found


def share_off(root: Path, **options: object) -> float:
    """Return the share of labels more than 1 % off every exact depth within a pixel of theirs.

    Within a pixel, because a point lies somewhere in it and distant ground changes by more than 1 % from one row to
    the next.
    """
    off, number = 0, 0
    for frame, truth in frames_with_truth(root, **options):
        points = frame.points()
        u, v = points.pixel_px.T
        padded = np.pad(truth["depth_m"], 1, constant_values=np.nan)
        around = np.stack([padded[v + down, u + right] for down in range(3) for right in range(3)])
        low_m, high_m = np.nan_to_num(around, nan=np.inf).min(axis=0), np.nan_to_num(around, nan=-np.inf).max(axis=0)
        off += int(((points.depth_m < 0.99 * low_m) | (points.depth_m > 1.01 * high_m)).sum())
        number += len(u)
    assert number > 1000 * 12
    return off / number


def test_labels_are_the_exact_depths_of_their_pixels(root):
    assert share_off(root) < 5e-4


def test_they_are_not_without_the_compensation_of_the_cars_motion(root):
    assert share_off(root, published=True) > 0.03


def test_they_are_less_so_without_the_occlusion_filter(root):
    assert share_off(root, occlusion=False) > 4 * share_off(root)


def test_each_label_is_a_point_of_the_scan_at_its_own_depth(root):
    for frame, truth in frames_with_truth(root):
        points = frame.points()
        pixel_px = np.floor(truth["lidar_xy_px"]).astype(int)
        known = {
            (*pixel, round(depth, 3)) for pixel, depth in zip(pixel_px.tolist(), truth["lidar_depth_m"], strict=True)
        }
        known |= {(u, v, round(depth + step, 3)) for u, v, depth in known for step in (-0.001, 0.001)}
        labels = {(u, v, round(z, 3)) for (u, v), z in zip(points.pixel_px.tolist(), points.depth_m, strict=True)}
        assert len(labels - known) <= 0.001 * len(labels), "all but those on the line between two pixels"


def test_boxes_are_those_that_the_image_shows(root):
    for frame, truth in frames_with_truth(root):
        assert len(frame.boxes()) >= int((truth["seen_px"] > 4).sum())
