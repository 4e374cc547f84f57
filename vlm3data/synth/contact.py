"""Soft dark ground under and around objects, so that they stand on it and do not float."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vlm3data.synth.packed import PackedWorld, foot_margin_m
from vlm3data.synth.screen import grid
from vlm3data.synth.trace import Traced
from vlm3data.types import Camera, Float32Array, Float64Array

DARKNESS = 0.45
SMALLEST_PX = 25


def contact_light(
    packed: PackedWorld,
    traced: Traced,
    depth: Float32Array,
    level: npt.NDArray[np.bool_],
    camera: Camera,
    world_from_cam: Float64Array,
) -> Float32Array:
    """Return the share of light that the `level` surfaces keep at the foot of objects; 1 elsewhere.

    Objects out of view count too: the ground must look the same from everywhere.
    """
    rotation, eye = world_from_cam[:3, :3], world_from_cam[:3, 3]
    light = np.ones(depth.shape, np.float32)
    x0, y0, x1, y1 = traced.foot_windows.T
    shown = np.flatnonzero((packed.feet[:, 0, 2] < eye[2] - 0.05) & ((x1 - x0) * (y1 - y0) >= SMALLEST_PX))
    feet, axes, sizes = packed.feet[shown, 0], packed.feet[shown, 1:3], packed.feet[shown, 3]
    margin = foot_margin_m(sizes)
    # Affine in the pixel: the inverse depth of the ground at the foot, and the two axes in margins per metre.
    scale = 1.0 / margin[:, None]
    floor = rotation[2] / (feet[:, 2] - eye[2])[:, None]
    rows = np.concatenate([floor[:, None], axes @ rotation * scale[..., None]], 1).astype(np.float32)
    start = (axes @ (eye - feet)[..., None])[..., 0] * scale
    start = np.concatenate([np.full_like(scale, -1.0), start], 1).astype(np.float32)[..., None, None]
    edge = (sizes[:, :2] / 2 * scale + 1.0).astype(np.float32)[..., None, None]
    x, y = grid(camera)
    for i, (x0, y0, x1, y1) in enumerate(traced.foot_windows[shown].tolist()):
        window = (slice(y0, y1), slice(x0, x1))
        on_level = level[window]
        if not on_level.any():
            continue
        a, b, c = rows[i].T[..., None]
        away = (a * x[x0:x1])[:, None] + (b * y[y0:y1] + c)[..., None]
        away *= depth[window]
        away += start[i]
        np.abs(away, out=away)
        seen = away[0] < 0.01
        seen &= on_level
        if packed.world.things[shown[i]].round:
            shadow = edge[i, 0] - np.sqrt(away[1] * away[1] + away[2] * away[2])
        else:
            inward = edge[i] - away[1:]
            shadow = np.minimum(inward[0], inward[1])
        np.maximum(shadow, 0.0, out=shadow)
        np.minimum(shadow, 1.0, out=shadow)
        shadow *= shadow
        shadow *= seen
        shadow *= -DARKNESS
        shadow += 1.0
        light[window] *= shadow
    return light
