"""Cameras, focal unification, text coordinates and poses; pure numpy.

`vlm3data.geometry.warp`, which moves the image itself, needs OpenCV: import it only where pixels are made.
"""

from vlm3data.geometry.camera import convert_depth, euclidean_per_z, project, rays, unproject
from vlm3data.geometry.distortion import distort, undistort
from vlm3data.geometry.focal import align_to_patches, focal_scale, move_of, move_pixels, unify_focal
from vlm3data.geometry.grid import box_to_grid, from_grid, to_grid
from vlm3data.geometry.pose import (
    invert_pose,
    relative_pose,
    rotation_angle_deg,
    rotation_from_yaw_pitch_roll_deg,
    yaw_pitch_roll_deg,
)

__all__ = [
    "align_to_patches",
    "box_to_grid",
    "convert_depth",
    "distort",
    "euclidean_per_z",
    "focal_scale",
    "from_grid",
    "invert_pose",
    "move_of",
    "move_pixels",
    "project",
    "rays",
    "relative_pose",
    "rotation_angle_deg",
    "rotation_from_yaw_pitch_roll_deg",
    "to_grid",
    "undistort",
    "unify_focal",
    "unproject",
    "yaw_pitch_roll_deg",
]
