"""Every lens model, with intrinsics and poses, against OpenCV and COLMAP: to pixels and back."""

from __future__ import annotations

import cv2
import numpy as np
import pycolmap
import pytest
from scipy.spatial.transform import Rotation

from tests.differential.record import agree, cases
from vlm3data.geometry import invert_pose, project, rays
from vlm3data.types import Camera, Distortion

CAMERAS, POINTS = cases(60), 50
OPENCV = {"brown_conrady": (4, 5, 8), "simple_radial": (1,), "radial": (2,), "opencv": (4,), "full_opencv": (8,),
          "opencv_fisheye": (4,)}  # fmt: skip
COLMAP = {"simple_radial": 1, "radial": 2, "opencv": 4, "opencv_fisheye": 4, "full_opencv": 8, "fov": 1,
          "simple_radial_fisheye": 1, "radial_fisheye": 2, "thin_prism_fisheye": 8,
          "rad_tan_thin_prism_fisheye": 12}  # fmt: skip
SMALL = {"brown_conrady": [2, 3], "opencv": [2, 3], "full_opencv": [2, 3], "thin_prism_fisheye": [2, 3, 6, 7],
         "rad_tan_thin_prism_fisheye": [6, 7, 8, 9, 10, 11]}  # fmt: skip
"""The parameters that are not radial, never as large as those that are."""
ONE_FOCAL = ("simple_radial", "radial", "simple_radial_fisheye", "radial_fisheye")


def camera_of(rng: np.random.Generator, model: str, number: int) -> Camera:
    params = rng.uniform(-0.25, 0.25, number)
    params[SMALL.get(model, [])] *= 0.02
    if model == "fov":
        params = rng.uniform(0.02, 1.2, 1)  # below 0.01 COLMAP's series has the sign of the inverse
    width_px, height_px = rng.integers(300, 3000, 2).tolist()
    fx_px = rng.uniform(0.5, 1.5) * width_px
    fy_px = fx_px if model in ONE_FOCAL else fx_px * rng.uniform(0.8, 1.25)
    centre_px = rng.uniform(0.4, 0.6, 2) * (width_px, height_px)
    return Camera(fx_px, fy_px, *centre_px.tolist(), width_px, height_px, Distortion(model, tuple(params.tolist())))


def pose_of(rng: np.random.Generator) -> np.ndarray:
    world_from_cam = np.eye(4)
    world_from_cam[:3, :3] = Rotation.random(random_state=rng).as_matrix()
    world_from_cam[:3, 3] = rng.normal(0, 5, 3)
    return world_from_cam


def seen_points(rng: np.random.Generator, world_from_cam: np.ndarray) -> np.ndarray:
    """Return points (n, 3) in the world, in a wide cone before the camera."""
    z_m = rng.uniform(0.3, 80, POINTS)
    cam_m = np.column_stack([rng.uniform(-0.9, 0.9, (POINTS, 2)) * z_m[:, None], z_m])
    return cam_m @ world_from_cam[:3, :3].T + world_from_cam[:3, 3]


def by_opencv(camera: Camera, cam_from_world: np.ndarray, points_m: np.ndarray) -> np.ndarray:
    matrix = np.array([[camera.fx_px, 0, camera.cx_px], [0, camera.fy_px, camera.cy_px], [0, 0, 1]])
    turn, shift = cv2.Rodrigues(cam_from_world[:3, :3])[0], cam_from_world[:3, 3]
    if camera.distortion.model == "opencv_fisheye":
        params = np.array(camera.distortion.params)
        return cv2.fisheye.projectPoints(points_m[:, None], turn, shift, matrix, params)[0][:, 0]
    params = np.zeros(8)
    params[: len(camera.distortion.params)] = camera.distortion.params
    return cv2.projectPoints(points_m, turn, shift, matrix, params)[0][:, 0]


def in_colmap(camera: Camera) -> pycolmap.Camera:
    model, params = camera.distortion.model, camera.distortion.params
    focal = [camera.fx_px] if model in ONE_FOCAL else [camera.fx_px, camera.fy_px]
    size = {"width": camera.width_px, "height": camera.height_px}
    return pycolmap.Camera(model=model.upper(), params=[*focal, camera.cx_px, camera.cy_px, *params], **size)


@pytest.mark.parametrize("model", OPENCV)
def test_points_of_the_world_in_pixels_as_opencv_has_them(model):
    rng = np.random.default_rng(0)
    off_px = []
    for number in range(CAMERAS):
        camera, world_from_cam = camera_of(rng, model, OPENCV[model][number % len(OPENCV[model])]), pose_of(rng)
        points_m, cam_from_world = seen_points(rng, world_from_cam), invert_pose(world_from_cam)
        ours = project(camera, points_m @ cam_from_world[:3, :3].T + cam_from_world[:3, 3])
        known = np.isfinite(ours).all(axis=1)  # NaN: where the lens folds back, which OpenCV does not tell
        off_px.extend((ours - by_opencv(camera, cam_from_world, points_m))[known])
    assert len(off_px) > 0.5 * CAMERAS * POINTS
    agree(f"world to pixels, `{model}`", "opencv-python-headless", len(off_px), off_px, 1e-6, "px")


@pytest.mark.parametrize("model", COLMAP)
def test_points_of_the_world_in_pixels_and_back_as_colmap_has_them(model):
    rng = np.random.default_rng(1)
    off_px, off = [], []
    for _ in range(CAMERAS):
        camera, world_from_cam = camera_of(rng, model, COLMAP[model]), pose_of(rng)
        points_m, theirs = seen_points(rng, world_from_cam), in_colmap(camera)
        cam_from_world = pycolmap.Rigid3d(invert_pose(world_from_cam)[:3])
        cam_m = cam_from_world * points_m
        ours = project(camera, points_m @ cam_from_world.matrix()[:, :3].T + cam_from_world.translation)
        known = np.isfinite(ours).all(axis=1)
        off_px.extend((ours - theirs.img_from_cam(cam_m))[known])
        found, wanted = rays(camera, ours[known])[:, :2], (cam_m[:, :2] / cam_m[:, 2:])[known]
        again = np.array(theirs.cam_from_img(ours[known])).reshape(-1, 2)
        solved = np.linalg.norm(again - wanted, axis=1) < 1e-6  # COLMAP's iteration gives up near a fold
        off.extend((found - again)[solved])
    assert len(off) > 0.4 * CAMERAS * POINTS
    agree(f"world to pixels, `{model}`", "pycolmap", len(off_px), off_px, 1e-6, "px")
    agree(f"pixels to rays, `{model}`", "pycolmap", len(off), off, 2e-6, "of z")


@pytest.mark.parametrize("model", ["opencv", "full_opencv", "brown_conrady"])
def test_pixels_are_undistorted_as_opencv_does_it(model):
    rng = np.random.default_rng(2)
    accurate = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 200, 1e-14)
    off, tried = [], 0
    for _ in range(CAMERAS):
        camera = camera_of(rng, model, OPENCV[model][0])
        matrix = np.array([[camera.fx_px, 0, camera.cx_px], [0, camera.fy_px, camera.cy_px], [0, 0, 1]])
        xy_px = rng.uniform(0, (camera.width_px, camera.height_px), (POINTS, 2))
        params = np.zeros(8)
        params[: len(camera.distortion.params)] = camera.distortion.params
        theirs = cv2.undistortPoints(xy_px[:, None], matrix, params, criteria=accurate)[:, 0]
        ours = rays(camera, xy_px)[:, :2]
        seen_px = cv2.projectPoints(
            np.column_stack([theirs, np.ones(POINTS)]), np.zeros(3), np.zeros(3), matrix, params
        )
        # OpenCV's iteration does not always arrive, and may arrive on the wrong branch of the lens.
        sound = (np.linalg.norm(seen_px[0][:, 0] - xy_px, axis=1) < 1e-8) & np.isfinite(ours).all(axis=1)
        off.extend((ours - theirs)[sound])
        tried += POINTS
    assert len(off) > 0.5 * tried
    agree(f"pixels to rays, `{model}`", "opencv-python-headless", len(off), off, 1e-9, "of z")
