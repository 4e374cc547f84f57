"""Images that are resized and undistorted in one step, against OpenCV's and Pillow's ways of doing it."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

from tests.differential.record import agree, cases
from vlm3data.geometry import distort
from vlm3data.geometry.warp import unify_image
from vlm3data.types import Camera, Distortion

IMAGES = cases(150)


def smooth_image(rng: np.random.Generator, width_px: int, height_px: int, sigma_px: float) -> np.ndarray:
    """Return an image without detail that two ways of interpolating could show differently."""
    noise = rng.normal(0, 1, (height_px, width_px, 3))
    image = cv2.GaussianBlur(noise, (0, 0), sigma_px, borderType=cv2.BORDER_REFLECT)
    return np.rint(128 + 100 * image / np.abs(image).max()).astype(np.uint8)


def test_a_crop_is_pillows_resize_of_the_box_it_shows():
    """The box in source pixels is what scale and crop say; half a pixel of error would show as ten grey levels."""
    rng = np.random.default_rng(0)
    worst, pixels = [], 0
    for _ in range(IMAGES):
        width_px, height_px = rng.integers(70, 180, 2).tolist()
        scale = float(rng.uniform(0.35, 1.6))
        image = smooth_image(rng, width_px, height_px, 3.0 / min(scale, 1.0))
        focal_px = 1000 / scale
        mode = "uniform" if rng.random() < 0.5 else "square"
        fy_px = focal_px * (1.0 if mode == "uniform" else rng.uniform(0.9, 1.1))
        camera = Camera(focal_px, fy_px, width_px * 0.45, height_px * 0.53, width_px, height_px)
        ours, target, (sx, sy), (x_px, y_px) = unify_image(image, camera, mode=mode, multiple=8)
        left, top = x_px / sx, y_px / sy
        right, bottom = (x_px + target.width_px) / sx, (y_px + target.height_px) / sy
        wider = np.pad(image, ((0, 2), (0, 2), (0, 0)), mode="edge")  # a size rounded up looks over the edge
        box = (left, top, right, bottom)
        theirs = Image.fromarray(wider).resize((target.width_px, target.height_px), Image.Resampling.BICUBIC, box)
        inner = np.s_[4:-4, 4:-4]
        off = np.asarray(theirs, float)[inner] - ours[inner]
        worst.append(np.abs(off).max())
        pixels += off.size // 3
        assert abs(target.cx_px - (camera.cx_px * sx - x_px)) < 1e-9
        assert abs(target.cy_px - (camera.cy_px * sy - y_px)) < 1e-9
    agree(f"resized and cropped images, {IMAGES}", "pillow", pixels, worst, 3.0, "of 255 (worst pixel)")


def sees(camera: Camera, target: Camera) -> np.ndarray:
    """Return which pixels (h, w) of `target` lie on the rising branch of the lens; OpenCV goes on beyond it."""
    x, y = np.meshgrid(np.arange(target.width_px) + 0.5, np.arange(target.height_px) + 0.5)
    ideal = np.stack([(x - target.cx_px) / target.fx_px, (y - target.cy_px) / target.fy_px], axis=-1)
    return np.isfinite(distort(camera.distortion, ideal.reshape(-1, 2))).all(axis=1).reshape(x.shape)


def test_an_image_of_the_same_focal_length_is_undistorted_as_opencv_does_it():
    rng = np.random.default_rng(1)
    worst, pixels = [], 0
    for number in range(IMAGES):
        width_px, height_px = rng.integers(70, 180, 2).tolist()
        image = smooth_image(rng, width_px, height_px, 4.0)
        centre_px = rng.uniform(0.4, 0.6, 2) * (width_px, height_px)
        fisheye = number % 3 == 0
        params = rng.uniform(-0.08, 0.08, 4) if fisheye else rng.uniform(-0.1, 0.1, 8) * (1, 1, 0.1, 0.1, 1, 1, 1, 1)
        distortion = Distortion("opencv_fisheye" if fisheye else "brown_conrady", tuple(params.tolist()))
        focal_px = rng.uniform(0.9, 1.5) * width_px
        camera = Camera(focal_px, focal_px, *centre_px.tolist(), width_px, height_px, distortion)
        ours, target, scale, _ = unify_image(image, camera, focal_px, align="none")
        assert scale == (1.0, 1.0)
        # OpenCV puts whole numbers on the centres of pixels.
        matrix = np.array([[focal_px, 0, camera.cx_px - 0.5], [0, focal_px, camera.cy_px - 0.5], [0, 0, 1]])
        make = cv2.fisheye.initUndistortRectifyMap if fisheye else cv2.initUndistortRectifyMap
        maps = make(matrix, params, np.eye(3), matrix, (target.width_px, target.height_px), cv2.CV_32FC1)
        theirs = cv2.remap(image, *maps, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        inside = (maps[0] >= 0) & (maps[0] <= width_px - 1) & (maps[1] >= 0) & (maps[1] <= height_px - 1)
        inside &= sees(camera, target)
        off = np.abs(theirs.astype(float) - ours)[inside]
        worst.append(off.max())
        pixels += int(inside.sum())
    agree(f"undistorted images, {IMAGES}", "opencv-python-headless", pixels, worst, 2.0, "of 255 (worst pixel)")
