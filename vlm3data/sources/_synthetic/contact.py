"""Soft dark ground under and around objects, so that they stand on it and do not float."""

from __future__ import annotations

import numpy as np

from vlm3data.sources._synthetic.packed import PackedWorld
from vlm3data.sources._synthetic.trace import Traced, affine, windows
from vlm3data.types import Camera, Float32Array, Float64Array

DARKNESS = 0.45
MARGIN_M = 0.35
SMALLEST_PX = 25
_CORNERS = np.array([[x, y] for x in (-1, 1) for y in (-1, 1) for _ in range(2)], np.float64)


def darken(
    image: Float32Array, packed: PackedWorld, traced: Traced, camera: Camera, world_from_cam: Float64Array
) -> None:
    """Darken, in place, the level surfaces at the foot of every object.

    Objects out of view count too: the ground must look the same from everywhere.
    """
    rotation, eye = world_from_cam[:3, :3], world_from_cam[:3, 3]
    shown = np.flatnonzero(packed.feet[:, 0, 2] < eye[2] - 0.05)
    feet, axes, sizes = packed.feet[shown, 0], packed.feet[shown, 1:3], packed.feet[shown, 3]
    margin = MARGIN_M * np.minimum(sizes[:, 2], 1.0)
    reach = sizes[:, :2] / 2 + margin[:, None]
    boxes = windows((feet[:, None] + _CORNERS * reach[:, None] @ axes - eye) @ rotation, camera)

    x = ((np.arange(camera.width_px) + 0.5 - camera.cx_px) / camera.fx_px).astype(np.float32)
    y = ((np.arange(camera.height_px) + 0.5 - camera.cy_px) / camera.fy_px).astype(np.float32)
    level = np.zeros(len(packed.material), np.bool_)
    level[: packed.num_flat] = packed.normal[:, 2] > 0.99
    light = np.ones(traced.surface.shape, np.float32)
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    for i in np.flatnonzero((width > 0) & (width * height >= SMALLEST_PX)).tolist():
        window = (slice(boxes[i, 1], boxes[i, 3]), slice(boxes[i, 0], boxes[i, 2]))
        # The ground at the foot, and the two axes of the object, all affine in the pixel.
        rows = np.stack([rotation[2] / (feet[i, 2] - eye[2]), *(axes[i] @ rotation)])
        floor, along, across = affine(rows, x[window[1]], y[window[0]])
        seen = np.abs(traced.inverse_depth[window] - floor) < 0.01 * floor
        seen &= level[traced.surface[window]]
        if not seen.any():
            continue
        depth = np.reciprocal(np.maximum(floor, 1e-4, dtype=np.float32))
        start = (axes[i] @ (eye - feet[i])).astype(np.float32)
        half_x, half_y = (sizes[i, :2] / 2).astype(np.float32)
        away_x, away_y = np.abs(along * depth + start[0]), np.abs(across * depth + start[1])
        if packed.world.things[shown[i]].round:
            gap = np.sqrt(away_x * away_x + away_y * away_y) - half_x
        else:
            gap = np.maximum(away_x - half_x, away_y - half_y)
        shadow = np.clip(1.0 - gap / np.float32(margin[i]), 0.0, 1.0)
        light[window] *= np.where(seen, 1.0 - np.float32(DARKNESS) * shadow * shadow, np.float32(1.0))
    dark = np.flatnonzero(light < 1.0)
    image.reshape(-1, 3)[dark] *= light.ravel()[dark, None]
