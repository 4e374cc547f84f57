"""What every source must keep, for the tests of ours and of those from outside; a breach is an AssertionError."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import orjson

from vlm3data.contracts import Source
from vlm3data.images import decode_rgb
from vlm3data.types import Frame, SourceFacts


def check_source(opened: Callable[[], Source]) -> None:
    """Check the source that `opened` returns, a small one: its lists, and every frame, read whole."""
    check_lists(opened())
    source = opened()
    assert source.facts.licence, "facts.licence is empty"
    assert source.facts.pixel_centre, "facts.pixel_centre is empty"
    for scene in source.scenes(None):
        for frame in source.frames(scene):
            check_frame(frame, source.facts)


def check_lists(source: Source) -> None:
    """Check that scenes and frames are as many as said, each with its own key, and the same when asked again."""
    scenes = list(source.scenes(None))
    names = [scene.scene for scene in scenes]
    assert names, "there is no scene"
    assert len(set(names)) == len(names), "two scenes have one name"
    listed = [[frame.key for frame in source.frames(scene)] for scene in scenes]
    counts = [scene.num_frames for scene in scenes]
    assert counts == [len(keys) for keys in listed], f"num_frames {counts} is not what frames() yields"
    keys = [key for some in listed for key in some]
    assert len(set(keys)) == len(keys), "two frames have one key"
    assert listed == [[frame.key for frame in source.frames(scene)] for scene in source.scenes(None)], "another order"
    assert {scene.split for scene in scenes} <= set(source.facts.splits), "a scene's split is not in facts.splits"
    for split in source.facts.splits:
        assert {scene.split for scene in source.scenes(split)} <= {split}, f"scenes({split!r}) yields other splits"
    for scene in scenes:
        payload = dict(scene.payload)
        assert orjson.loads(orjson.dumps(payload)) == payload, "a payload must be plain JSON values"


def check_frame(frame: Frame, facts: SourceFacts) -> None:
    """Check that image, camera, labels and pose of a frame are in our conventions."""
    image = frame.image()
    pixels = decode_rgb(image) if isinstance(image, bytes) else image
    assert pixels.dtype == np.uint8, f"{frame.key}: the image is {pixels.dtype}"
    if frame.camera is not None:
        size = (frame.camera.height_px, frame.camera.width_px, 3)
        assert pixels.shape == size, f"{frame.key}: the image is {pixels.shape}, its camera says {size}"
    if frame.depth_m is not None:
        depth_m, camera = frame.depth_m(), frame.depth_camera or frame.camera
        assert depth_m.dtype == np.float32, f"{frame.key}: the depth map is {depth_m.dtype}"
        assert camera is not None, f"{frame.key}: a depth map without a camera"
        assert depth_m.shape == (camera.height_px, camera.width_px), f"{frame.key}: the depth map is {depth_m.shape}"
        known = depth_m[~np.isnan(depth_m)]
        assert (known > 0).all(), f"{frame.key}: unknown depth is NaN, never 0"
        low_m, high_m = facts.depth_range_m
        assert not known.size or low_m <= known.min(), f"{frame.key}: depth {known.min()} is below the range"
        assert not known.size or known.max() <= high_m, f"{frame.key}: depth {known.max()} is above the range"
    if frame.points is not None:
        points = frame.points()
        assert points.pixel_px.shape == (len(points.depth_m), 2), f"{frame.key}: pixels {points.pixel_px.shape}"
        assert points.pixel_px.dtype == np.int64, f"{frame.key}: pixels are {points.pixel_px.dtype}, not int64"
    if frame.world_from_cam is not None:
        rotation = frame.world_from_cam[:3, :3]
        assert np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-9), f"{frame.key}: the pose is not rigid"
        assert np.linalg.det(rotation) > 0, f"{frame.key}: the pose is a mirror image"
