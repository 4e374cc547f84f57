"""Soft dark ground under and around objects, so that they stand on it and do not float."""

from __future__ import annotations

import numpy as np

from vlm3data.sources._synthetic.packed import PackedWorld
from vlm3data.sources._synthetic.trace import Traced, affine, windows
from vlm3data.types import Camera, Float32Array, Float64Array

DARKNESS = 0.45
MARGIN_M = 0.35
_CORNERS = np.array([[x, y, 0.0] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for _ in range(2)])


def darken(
    image: Float32Array, packed: PackedWorld, traced: Traced, camera: Camera, world_from_cam: Float64Array
) -> None:
    """Darken, in place, the level surfaces at the foot of every object in view."""
    rotation, eye = world_from_cam[:3, :3], world_from_cam[:3, 3]
    shown = [i for i in np.flatnonzero(traced.alone_px).tolist() if _foot(packed, i)[2] < eye[2] - 0.05]
    if not shown:
        return
    feet = np.array([_foot(packed, i) for i in shown])
    sizes = np.array([packed.world.things[i].size_m for i in shown])
    yaw = np.array([packed.world.things[i].yaw_rad for i in shown])
    margin = MARGIN_M * np.minimum(sizes[:, 2], 1.0)
    spans = sizes * [1.0, 1.0, 0.0] + 2 * margin[:, None]
    axes = np.stack([np.cos(yaw), np.sin(yaw), 0 * yaw, -np.sin(yaw), np.cos(yaw), 0 * yaw], 1).reshape(-1, 2, 3)
    corners = feet[:, None] + (_CORNERS * spans[:, None])[..., :2] @ axes
    boxes = windows((corners - eye) @ rotation, camera)

    x = ((np.arange(camera.width_px) + 0.5 - camera.cx_px) / camera.fx_px).astype(np.float32)
    y = ((np.arange(camera.height_px) + 0.5 - camera.cy_px) / camera.fy_px).astype(np.float32)
    level = np.zeros(len(packed.material), np.bool_)
    level[: packed.num_flat] = packed.normal[:, 2] > 0.99
    for i in np.flatnonzero((boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3])).tolist():
        window = (slice(boxes[i, 1], boxes[i, 3]), slice(boxes[i, 0], boxes[i, 2]))
        # The ground at the foot, and the two axes of the object, all affine in the pixel.
        rows = np.stack([rotation[2] / (feet[i, 2] - eye[2]), *(axes[i] @ rotation)])
        floor, along, across = affine(rows, x[window[1]], y[window[0]])
        seen = np.abs(traced.inverse_depth[window] - floor) < 0.01 * floor
        seen &= level[traced.surface[window]]
        at = np.flatnonzero(seen)
        if not len(at):
            continue
        depth = 1.0 / floor.ravel()[at]
        start = (axes[i] @ (eye - feet[i])).astype(np.float32)
        away = [
            np.abs(part.ravel()[at] * depth + shift) for part, shift in zip((along, across), start, strict=True)
        ]
        half_x, half_y = (sizes[i, :2] / 2).astype(np.float32)
        if packed.world.things[shown[i]].round:
            gap = np.hypot(*away) - half_x
        else:
            gap = np.hypot(np.maximum(away[0] - half_x, 0.0), np.maximum(away[1] - half_y, 0.0))
        shadow = np.clip(1.0 - gap / np.float32(margin[i]), 0.0, 1.0)
        rows_at, columns_at = np.divmod(at, seen.shape[1])
        image[rows_at + window[0].start, columns_at + window[1].start] *= (
            1.0 - np.float32(DARKNESS) * shadow * shadow
        )[:, None]


def _foot(packed: PackedWorld, thing: int) -> tuple[float, float, float]:
    """Return the middle of the underside of a thing's box, or above it on the ground if it is sunk in."""
    x, y, z = packed.world.things[thing].centre_m
    return x, y, max(z - packed.world.things[thing].size_m[2] / 2, 0.0)
