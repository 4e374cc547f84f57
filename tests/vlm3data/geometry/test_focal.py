"""Unification moves camera and labels together, by the released rules."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm3data.geometry import align_to_patches, focal_scale, move_pixels, project, rays, unify_focal
from vlm3data.geometry.focal import MAX_PIXELS, move_of
from vlm3data.types import Camera, Distortion, Drop

LENSES = (
    None,
    Distortion("opencv", (-0.1, 0.02, 1e-3, -2e-3)),
    Distortion("opencv_fisheye", (0.02, 0, 0, 0)),
)


@st.composite
def cameras(draw, lenses=LENSES):
    width, height = draw(st.integers(64, 2000)), draw(st.integers(64, 2000))
    focal = max(width, height) * draw(st.floats(0.8, 3.0))
    return Camera(
        focal,
        focal * draw(st.floats(0.9, 1.1)),
        width * draw(st.floats(0.4, 0.6)),
        height * draw(st.floats(0.4, 0.6)),
        width,
        height,
        draw(st.sampled_from(lenses)),
    )


modes, aligns = st.sampled_from(["uniform", "square", "none"]), st.sampled_from(["crop", "pad", "none"])


@given(cameras(lenses=(None,)), st.floats(1000, 3000), modes, aligns, st.floats(-2, 2), st.floats(-2, 2))
def test_a_point_keeps_its_place_in_the_image(camera, focal_px, mode, align, x, y):
    target, crop_xy_px = align_to_patches(unify_focal(camera, focal_px, mode), align, multiple=8)
    point_m = np.array([[x, y, 3.0]])
    expected = project(camera, point_m) * focal_scale(camera, focal_px, mode) - crop_xy_px
    np.testing.assert_allclose(project(target, point_m), expected, rtol=0, atol=1e-8)


@given(cameras(), st.floats(1000, 3000), modes, aligns, st.integers(0, 2000), st.integers(0, 2000))
def test_a_moved_label_is_the_pixel_that_sees_the_same_ray(camera, focal_px, mode, align, u, v):
    label = np.array([[u % camera.width_px, v % camera.height_px]])
    target, crop_xy_px = align_to_patches(unify_focal(camera, focal_px, mode), align, multiple=8)
    moved = move_pixels(label, camera, focal_scale(camera, focal_px, mode), crop_xy_px)
    assert moved.dtype == np.int64
    offset = project(target, rays(camera, label + 0.5)) - moved
    assert (offset > -1e-7).all()
    assert (offset < 1 + 1e-7).all()


@given(cameras(), st.floats(1000, 3000), st.sampled_from(["uniform", "square"]))
def test_the_unified_camera_is_a_pinhole_of_the_size_that_the_mode_says(camera, focal_px, mode):
    unified, (sx, sy) = unify_focal(camera, focal_px, mode), focal_scale(camera, focal_px, mode)
    assert unified.distortion is None
    assert unified.fx_px == focal_px
    assert (unified.cx_px, unified.cy_px) == (camera.cx_px * sx, camera.cy_px * sy)
    if mode == "uniform":
        assert sx == sy
        assert unified.fy_px == pytest.approx(camera.fy_px * sx, rel=1e-15)
        assert (unified.width_px, unified.height_px) == (
            int(camera.width_px * sx),
            int(camera.height_px * sx),
        )
    else:
        assert unified.fy_px == focal_px
        assert (unified.width_px, unified.height_px) == (
            round(camera.width_px * sx),
            round(camera.height_px * sy),
        )


@given(cameras(), st.integers(1, 64), aligns)
def test_alignment_is_centred_and_moves_the_principal_point_along(camera, multiple, align):
    aligned, (x_px, y_px) = align_to_patches(camera, align, multiple)
    assert (aligned.cx_px, aligned.cy_px) == (camera.cx_px - x_px, camera.cy_px - y_px)
    for old, new, offset in (
        (camera.width_px, aligned.width_px, x_px),
        (camera.height_px, aligned.height_px, y_px),
    ):
        expected = {
            "crop": (old // multiple * multiple, (old % multiple) // 2),
            "pad": (math.ceil(old / multiple) * multiple, -(-old % multiple // 2)),
            "none": (old, 0),
        }
        assert (new, offset) == expected[align]


def test_whole_patches_have_32_pixels_unless_told_otherwise():
    aligned, crop_xy_px = align_to_patches(Camera(100.0, 100.0, 50.0, 35.0, 100, 70))
    assert (aligned.width_px, aligned.height_px, crop_xy_px) == (96, 64, (2, 3))


def test_the_released_object_sample():
    camera = Camera(902.4662475585938, 901.3929443359375, 511.388, 383.7367, 1024, 768)
    unified = unify_focal(camera)
    assert focal_scale(camera, 1000.0) == (1.108074681690601, 1.108074681690601)
    assert (unified.width_px, unified.height_px) == (1134, 851)
    assert (unified.fx_px, unified.fy_px) == (1000.0, 998.8106998731977)
    assert (unified.cx_px, unified.cy_px) == pytest.approx((566.6566369135359, 425.2090168765644), abs=1e-3)


@pytest.mark.parametrize("scale", [0.59355, 0.593749])
def test_the_released_depth_sample(scale):
    unified = unify_focal(Camera(1000 / scale, 1000 / scale, 1024, 775, 2048, 1550))
    assert (unified.width_px, unified.height_px, unified.fx_px, unified.fy_px) == (1215, 920, 1000, 1000)


def test_the_released_pose_sample():
    camera = Camera(464.3207702636719, 464.890869140625, 876, 584, 1752, 1168)
    unified = unify_focal(camera, 750.0, mode="square")
    assert unified == Camera(750, 750, 1414.970085501263, 942.1565986220934, 2830, 1884)


@pytest.mark.parametrize(
    ("size_px", "focal_px", "unified_size_px"),
    [
        ((640, 480), (559.62, 558.14), (1143, 857)),
        ((1600, 900), (1266.417203046554, 1266.417203046554), (1263, 710)),
        ((1296, 968), (1170.187988, 1170.187988), (1107, 827)),
    ],
)
def test_known_datasets_get_their_known_sizes(size_px, focal_px, unified_size_px):
    unified = unify_focal(Camera(*focal_px, size_px[0] / 2, size_px[1] / 2, *size_px))
    assert (unified.width_px, unified.height_px) == unified_size_px
    assert unified.fy_px == pytest.approx(1000 * focal_px[1] / focal_px[0])


@given(cameras(), st.floats(1000, 3000))
def test_without_unification_only_the_distortion_goes(camera, focal_px):
    assert unify_focal(camera, focal_px, "none") == replace(camera, distortion=None)
    assert focal_scale(camera, focal_px, "none") == (1.0, 1.0)


def test_published_labels_forget_the_half_pixel():
    camera = Camera(1250, 1250, 500, 500, 1000, 1000)
    label = np.array([[7, 11]])  # 7.5·0.8 = 6.0 and 11.5·0.8 = 9.2; 7·0.8 = 5.6 and 11·0.8 = 8.8
    np.testing.assert_array_equal(move_pixels(label, camera, (0.8, 0.8), (2, -3)), [[4, 12]])
    np.testing.assert_array_equal(move_pixels(label, camera, (0.8, 0.8), (2, -3), published=True), [[3, 11]])


def test_a_label_that_no_ray_reaches_lands_outside_any_image():
    folding = Camera(300, 300, 320, 240, 640, 480, Distortion("simple_radial", (-0.3,)))
    moved = move_pixels([[0, 0], [320, 240]], folding, (2.0, 2.0), (0, 0))
    assert (moved[0] < -1_000_000).all()
    np.testing.assert_array_equal(moved[1], [641, 481])


def test_an_image_of_which_nothing_remains_is_dropped_for_a_reason():
    small = Camera(100, 100, 16, 20, 31, 40)
    with pytest.raises(Drop) as drop:
        align_to_patches(small, "crop")
    assert drop.value.reason == "image_too_small"
    with pytest.raises(Drop) as drop:
        unify_focal(small, 1.0)
    assert drop.value.reason == "image_too_small"
    with pytest.raises(Drop) as drop:
        unify_focal(Camera(100, 100, 5_000, 4_000, 10_000, 8_000), 1000.0)
    assert drop.value.reason == "image_too_large"


@pytest.mark.parametrize(("width", "height"), [(512, 16), (16, 512)])
def test_an_image_is_too_large_by_its_area_whichever_side_is_long(width, height):
    camera = Camera(10, 10, width / 2, height / 2, width, height)
    at_most = 10 * math.sqrt(MAX_PIXELS / (width * height))
    assert unify_focal(camera, 0.999 * at_most).width_px > 30 * width
    with pytest.raises(Drop, match="image_too_large"):
        unify_focal(camera, 1.001 * at_most)


def test_unknown_names_list_the_choices():
    camera = Camera(100, 100, 50, 50, 100, 100)
    with pytest.raises(ValueError, match="known: uniform, square, none"):
        unify_focal(camera, mode="cube")
    with pytest.raises(ValueError, match="known: crop, pad, none"):
        align_to_patches(camera, "stretch")
    with pytest.raises(ValueError, match="must be positive"):
        unify_focal(camera, 0.0)


def test_the_focal_length_is_1000_px_if_nothing_else_is_said():
    camera = Camera(500.0, 510.0, 320.0, 240.0, 640, 480)
    assert unify_focal(camera) == unify_focal(camera, 1000.0)
    assert unify_focal(camera).fx_px == move_of(camera).camera.fx_px == 1000.0
    assert move_of(camera).camera.width_px == 1280
