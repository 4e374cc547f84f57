"""What is exactly true of one image: its depth, and which of the LiDAR's points it really shows."""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vlm3data.geometry.pose import invert_pose
from vlm3data.synth.lidar import cast
from vlm3data.synth.packed import PackedWorld
from vlm3data.synth.trace import Traced
from vlm3data.synth.views import depth_of
from vlm3data.types import Camera, Float64Array, Int64Array

FAR_M = 200.0
"""Depth beyond is not told."""
MAX_WIDTH_PX = 800
"""Depth maps of wider images hold every second (third, ...) pixel of every second (third, ...) row."""
_CLOSE_M = 0.01
"""A point is seen where its ray meets nothing more than this before it; nothing in a street is thinner."""
_NEAR_M = 0.01

README = f"""What is exactly true of `samples/CHANNEL/NAME.jpg` is in `truth/CHANNEL/NAME.npz` (numpy.load):

global_from_cam   (4, 4) the camera in the global frame; OpenCV axes (x right, y down, z forward), metres
depth_m           (h, w) float32, z-depth in metres at pixel centres; NaN for sky and beyond {FAR_M:g} m
depth_step_px     s: depth_m[i, j] is of the image's pixel in column j s + s // 2, row i s + s // 2
                  (1 where the image is up to {MAX_WIDTH_PX} px wide)
lidar_index       (n,) the points of the sample's LIDAR_TOP file that project into the image, with ego motion
lidar_xy_px       (n, 2) where, in continuous pixels: the top-left pixel covers 0 to 1. The tables' intrinsics count
                  as OpenCV does, with 0 at the centre of that pixel: add 0.5 to what they give
lidar_depth_m     (n,) their z-depth
lidar_visible     (n,) whether nothing lies between the camera and the point; a hidden one has leaked through
annotation_token  (m,) the sample's annotations that the image shows, or would without what hides them
seen_px           (m,) pixels that show each
alone_px          (m,) pixels that would if nothing stood before it

All of the world stands still. The tables' `visibility_token` is the bin of seen_px / alone_px, both summed over the
six cameras. LiDAR points are exact to float32, of one instant (the sample's), as those of a motion-compensated turn.
"""


class Shown(NamedTuple):
    """The points that lie in front of a camera and inside its image."""

    number: Int64Array
    xy_px: Float64Array
    depth_m: Float64Array
    visible: npt.NDArray[np.bool_]


def shown_points(
    packed: PackedWorld, camera: Camera, world_from_cam: Float64Array, points_world_m: Float64Array
) -> Shown:
    """Return which of the points (n, 3) project into the image, where, and whether they are seen."""
    cam_from_world = invert_pose(world_from_cam)
    x, y, z = cam_from_world[:3, :3] @ points_world_m.T + cam_from_world[:3, 3:]
    ahead = z > _NEAR_M
    safe = np.where(ahead, z, 1.0)
    u, v = camera.fx_px * x / safe + camera.cx_px, camera.fy_px * y / safe + camera.cy_px
    index = np.flatnonzero(ahead & (u >= 0) & (u < camera.width_px) & (v >= 0) & (v < camera.height_px))
    eye = world_from_cam[:3, 3]
    ways = points_world_m[index] - eye
    met, _ = cast(packed, np.broadcast_to(eye, ways.shape), ways)
    visible = (1.0 - met) * np.linalg.norm(ways, axis=1) <= _CLOSE_M
    return Shown(index, np.stack([u[index], v[index]], 1), z[index], visible)


def truth_npz(
    camera: Camera,
    global_from_cam: Float64Array,
    traced: Traced,
    shown: Shown,
    annotations: tuple[list[str], Int64Array, Int64Array],
) -> bytes:
    """Return the file's bytes; `annotations` are tokens, pixels that show them, and that would alone."""
    step = -(-camera.width_px // MAX_WIDTH_PX)
    tokens, seen, alone = annotations
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        global_from_cam=global_from_cam,
        depth_m=depth_of(traced, FAR_M)[step // 2 :: step, step // 2 :: step],
        depth_step_px=np.int64(step),
        lidar_index=shown.number,
        lidar_xy_px=shown.xy_px,
        lidar_depth_m=shown.depth_m,
        lidar_visible=shown.visible,
        annotation_token=np.array([tokens[i] for i in np.flatnonzero(alone)], "U32"),
        seen_px=seen[alone > 0],
        alone_px=alone[alone > 0],
    )
    return buffer.getvalue()
