"""Text coordinates are exact, invertible, and those of the released data."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm3data.geometry import align_to_patches, box_to_grid, focal_scale, from_grid, to_grid, unify_focal
from vlm3data.types import Camera, Distortion


@given(st.integers(1, 2000), st.integers(1, 2000), st.sampled_from([1000, 2000]), st.data())
def test_every_pixel_of_an_image_up_to_the_grid_comes_back(width, height, grid, data):
    size = (min(width, grid), min(height, grid))
    pixel = [[data.draw(st.integers(0, size[0] - 1)), data.draw(st.integers(0, size[1] - 1))]]
    on_grid = to_grid(pixel, size, grid)
    assert (on_grid >= 0).all()
    assert (on_grid < grid).all()
    np.testing.assert_array_equal(from_grid(on_grid, size, grid), pixel)


@given(st.integers(1, 6000), st.data())
def test_the_rule_is_round_half_even_clamped_below_the_grid(width, data):
    x = data.draw(st.integers(0, width - 1))
    assert to_grid([[x, 0]], (width, 1))[0, 0] == min(round(x * 2000 / width), 1999)
    assert from_grid([[x % 2000, 0]], (width, 1))[0, 0] == round(x % 2000 * width / 2000)


def test_continuous_pixels_are_floored_before_they_are_rounded():
    np.testing.assert_array_equal(to_grid([[10.99, 3.5]], (100, 100)), [[200, 60]])


def test_known_values():
    np.testing.assert_array_equal(to_grid([[1214, 919]], (1215, 920)), [[1998, 1998]])
    np.testing.assert_array_equal(to_grid([[1, 3]], (1600, 1600)), [[1, 4]])  # 1.25 and 3.75
    np.testing.assert_array_equal(to_grid([[1, 3]], (4000, 4000)), [[0, 2]])  # 0.5 and 1.5, half to even
    np.testing.assert_array_equal(to_grid([[3999, 4000 - 2]], (4000, 4000)), [[1999, 1999]])


RELEASED = Camera(902.4662475585938, 901.3929443359375, 511.388, 383.7367, 1024, 768)


def boxed(box_px, camera=RELEASED, align="none", multiple=32):
    target, crop_xy_px = align_to_patches(unify_focal(camera), align, multiple)
    scale = focal_scale(camera, 1000.0)
    return box_to_grid(box_px, camera, target, scale=scale, crop_xy_px=crop_xy_px, align=align)


def test_released_boxes_are_normalised_before_they_are_resized():
    assert boxed((0, 432, 1023, 767)) == (0, 562, 999, 999)  # 562.5; from resized integers it would be 563


def test_boxes_follow_the_crop_and_the_padding():
    camera = Camera(1000, 1000, 60, 60, 120, 140)
    # Crop to 96x128 at (12, 6); pad to 128x160 at (-4, -10).
    assert boxed((12, 6, 60, 70), camera, "crop") == (0, 0, 500, 500)
    assert boxed((0, 0, 60, 70), camera, "pad") == (31, 62, 500, 500)


def test_a_box_is_clipped_and_dropped_when_less_than_half_of_it_remains():
    camera = Camera(1000, 1000, 60, 60, 120, 128)  # crop: 96x128 at x = 12
    assert boxed((0, 0, 24, 64), camera, "crop") == (0, 0, 125, 500)
    assert boxed((0, 0, 23, 64), camera, "crop") is None
    assert boxed((0, 10, 11, 64), camera, "crop") is None
    assert boxed((-30, 0, 29, 64), camera) is None
    assert boxed((5, 5, 5, 9), camera, "crop") is None


@pytest.mark.parametrize("align", ["none", "crop"])
def test_a_box_in_a_distorted_image_is_straightened(align):
    lens = Camera(1000, 1000, 640, 480, 1280, 960, Distortion("simple_radial", (-0.15,)))
    straight = boxed((900, 480, 1200, 700), Camera(1000, 1000, 640, 480, 1280, 960), align)
    bent = boxed((900, 480, 1200, 700), lens, align)
    assert bent[2] > straight[2]  # a barrel lens pulls the rim in; undone, the box reaches further out
    assert bent[1] == straight[1]  # the horizontal line through the middle stays


def test_an_outline_outside_the_lens_model_is_dropped():
    folding = Camera(300, 300, 320, 240, 640, 480, Distortion("simple_radial", (-0.3,)))
    assert boxed((0, 0, 5, 5), folding, "crop") is None
