"""Models that pycolmap makes and writes: every camera and pose read by us shows a point where pycolmap shows it."""

from __future__ import annotations

from pathlib import Path

import fsspec
import numpy as np
import pycolmap
import pytest

from tests.differential.record import agree, cases
from vlm3data.formats.colmap.cameras import MODELS
from vlm3data.formats.colmap.model import Model
from vlm3data.geometry import invert_pose, project, rotation_angle_deg
from vlm3data.geometry.quaternion import pose_from_quaternion

IMAGES, POINTS = cases(500), 8
READ = [name for name, model in MODELS.items() if model.supported]


def made_by_pycolmap(rng: np.random.Generator) -> pycolmap.Reconstruction:
    """Return a reconstruction with a camera of its own for each image, of all models that we read."""
    model = pycolmap.Reconstruction()
    for number in range(1, IMAGES + 1):
        size = {"width": int(rng.integers(300, 3000)), "height": int(rng.integers(300, 3000))}
        name = READ[number % len(READ)]
        camera = pycolmap.Camera.create_from_model_name(number, name, rng.uniform(300, 2000), **size)
        params = np.array(camera.params)
        params[list(camera.principal_point_idxs())] *= rng.uniform(0.9, 1.1, 2)
        extra = list(camera.extra_params_idxs())
        params[extra] = rng.uniform(0.05, 0.9, len(extra)) if name == "FOV" else rng.uniform(-0.02, 0.02, len(extra))
        camera.params = params
        model.add_camera_with_trivial_rig(camera)
        quaternion = rng.normal(size=4)
        pose = pycolmap.Rigid3d(pycolmap.Rotation3d(quaternion / np.linalg.norm(quaternion)), rng.normal(0, 10, 3))
        image = pycolmap.Image(f"{number:05d}.jpg", np.zeros((0, 2)), number, number)
        model.add_image_with_trivial_frame(image, pose)
    return model


@pytest.mark.parametrize("form", ["binary", "text"])
def test_cameras_and_poses(form: str, tmp_path: Path):
    rng = np.random.default_rng(0)
    theirs = made_by_pycolmap(rng)
    (theirs.write_binary if form == "binary" else theirs.write_text)(tmp_path)
    ours = Model(fsspec.filesystem("file"), str(tmp_path), form)
    assert len(ours.images.images) == IMAGES
    off_px, off_m, off_deg = [], [], []
    for image in ours.images.images:
        other, camera = theirs.images[image.image_id], ours.cameras[image.camera_id]
        assert (image.name, image.camera_id) == (other.name, other.camera_id)
        depth_m = rng.uniform(1, 50, POINTS)
        cam_m = np.column_stack([rng.uniform(-0.5, 0.5, (POINTS, 2)) * depth_m[:, None], depth_m])
        world_m = other.cam_from_world().inverse() * cam_m
        world_from_cam = invert_pose(pose_from_quaternion(image.wxyz, image.translation))
        seen_m = (world_m - world_from_cam[:3, 3]) @ world_from_cam[:3, :3]
        off_px.append(project(camera, seen_m) - theirs.cameras[image.camera_id].img_from_cam(cam_m))
        off_m.append(world_from_cam[:3, 3] - other.projection_center())
        matrix = other.cam_from_world().rotation.matrix()
        off_deg.append(rotation_angle_deg(world_from_cam[:3, :3] @ matrix))
    agree(f"points in images of {form} models", "pycolmap", IMAGES * POINTS, off_px, 1e-6, "px")
    agree(f"centres of cameras, {form} models", "pycolmap", IMAGES, off_m, 1e-12, "m")
    agree(f"rotations of cameras, {form} models", "pycolmap", IMAGES, off_deg, 1e-12, "deg")
