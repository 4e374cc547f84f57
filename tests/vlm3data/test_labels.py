"""Labels on their way: checked, counted once, moved to the pixel that holds their centre, the nearest kept."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm3data import labels
from vlm3data.geometry import align_to_patches, focal_scale, project, rays, unify_focal
from vlm3data.types import Camera, DepthPoints, Move


def points(*rows: tuple[int, int, float]) -> DepthPoints:
    array = np.array(rows, np.float64).reshape(-1, 3)
    return DepthPoints(array[:, :2].astype(np.int64), array[:, 2])


def test_each_wrong_label_is_counted_once_for_the_first_fault():
    given_points = points((1, 1, 5), (-1, 1, np.nan), (9, 9, np.nan), (10, 1, 5), (2, 2, 0), (3, 3, 99), (4, 4, np.inf))
    dropped: Counter[str] = Counter()
    kept = labels.sound(given_points, Camera(10, 10, 5, 5, 10, 10), (0.1, 80), dropped)
    assert kept.pixel_px.tolist() == [[1, 1]]
    assert dropped == {
        "pixel_outside_image": 2,
        "depth_not_finite": 2,
        "depth_not_positive": 1,
        "depth_out_of_range": 1,
    }


def test_of_several_labels_in_one_pixel_the_nearest_is_kept():
    source = Camera(20.0, 20.0, 32, 32, 64, 64)
    unified = unify_focal(source, 10.0)
    cut: Counter[str] = Counter()
    given_points = points((0, 0, 7.0), (1, 0, 3.0), (1, 1, 5.0), (2, 0, 9.0))
    kept = labels.moved(given_points, Move(source, unified, unified, (0.5, 0.5), (0, 0)), cut)[0]
    assert sorted(zip(kept.pixel_px.tolist(), kept.depth_m.tolist(), strict=True)) == [([0, 0], 3.0), ([1, 0], 9.0)]
    assert cut == {"same_pixel": 2}


@given(st.integers(40, 300), st.integers(40, 300), st.floats(20, 400), st.sampled_from(["crop", "pad", "none"]))
@settings(max_examples=150, deadline=None)
def test_labels_stay_on_the_image_and_every_one_is_accounted_for(width, height, focal, align):
    source = Camera(100.0, 100.0, width / 2, height / 2, width, height)
    unified, scale = unify_focal(source, focal), focal_scale(source, focal)
    if min(unified.width_px, unified.height_px) < 32:
        return
    aligned, crop = align_to_patches(unified, align)
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).reshape(-1, 2)[::7]
    cut: Counter[str] = Counter()
    depth_m = np.linspace(1, 9, len(grid))
    kept = labels.moved(DepthPoints(grid, depth_m), Move(source, unified, aligned, scale, crop), cut)[0]
    assert len(kept.depth_m) + sum(cut.values()) == len(grid)
    content_low = np.maximum(0, -np.array(crop))
    content_high = np.minimum(
        [aligned.width_px, aligned.height_px], [unified.width_px, unified.height_px] - np.array(crop)
    )
    assert (kept.pixel_px >= content_low).all()
    assert (kept.pixel_px < content_high).all(), "padding shows nothing and takes no label"
    by_depth = dict(zip(depth_m.tolist(), grid.tolist(), strict=True))
    for (u, v), value in zip(kept.pixel_px.tolist(), kept.depth_m.tolist(), strict=True):
        source_u, source_v = by_depth[value]
        assert u == int((source_u + 0.5) * scale[0]) - crop[0]
        assert v == int((source_v + 0.5) * scale[1]) - crop[1]


def test_dense_depth_is_sampled_where_it_is_known_and_keeps_its_value():
    depth_m = np.full((50, 60), np.nan, np.float32)
    depth_m[10:20, 30:40] = np.linspace(0.1, 7.7, 100, dtype=np.float32).reshape(10, 10)
    camera = Camera(50.0, 50.0, 30.0, 25.0, 60, 50)
    sampled = labels.sample_dense(depth_m, camera, camera, np.random.default_rng(0))
    assert len(sampled.depth_m) == 100
    u, v = sampled.pixel_px.T
    np.testing.assert_array_equal(depth_m[v, u], sampled.depth_m.astype(np.float32))
    assert all(len(repr(value)) <= 12 for value in sampled.depth_m.tolist())


def test_of_a_dense_depth_map_1024_pixels_are_looked_at():
    camera = Camera(100.0, 100.0, 80.0, 60.0, 160, 120)
    depth_m = np.full((120, 160), 2.0, np.float32)
    assert len(labels.sample_dense(depth_m, camera, camera, np.random.default_rng(0)).depth_m) == 1024


def test_depth_kinds_differ_by_the_ray_and_come_back():
    camera = Camera(100.0, 100.0, 50.0, 50.0, 100, 100)
    z = points((99, 50, 2.0), (50, 50, 2.0))
    euclidean = labels.of_kind(z, camera, "z", "euclidean")
    assert euclidean.depth_m[0] == 2.0 * np.sqrt(1 + 0.495**2 + 0.005**2)
    np.testing.assert_allclose(labels.of_kind(euclidean, camera, "euclidean", "z").depth_m, z.depth_m)


def test_a_depth_map_of_another_size_labels_the_pixels_that_see_the_same_point():
    depth_camera = Camera(50.0, 49.0, 31.0, 26.0, 60, 50)
    camera = Camera(120.0, 117.0, 70.0, 66.0, 140, 130)
    v, u = np.indices((50, 60))
    depth_m = (2.0 + 0.01 * u + 0.03 * v).astype(np.float32)
    sampled = labels.sample_dense(depth_m, depth_camera, camera, np.random.default_rng(0))
    assert len(sampled.depth_m) > 900
    back = project(depth_camera, rays(camera, sampled.pixel_px + 0.5))
    expected_m = 2.0 + 0.01 * (back[:, 0] - 0.5) + 0.03 * (back[:, 1] - 0.5)
    # half a pixel of the image is 0.21 of the depth map's, along each axis
    assert np.abs(sampled.depth_m - expected_m).max() < 0.21 * 0.04 + 1e-6
    assert ((sampled.pixel_px >= 0) & (sampled.pixel_px < (140, 130))).all()


def test_spread_labels_cover_the_image_and_every_order_of_depth():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, (1248, 704), (4000, 2))
    depth_m = np.where(
        np.arange(4000) < 3900, rng.uniform(3, 4, 4000), np.exp(rng.uniform(np.log(4), np.log(80), 4000))
    )
    points_ = DepthPoints(pixels, depth_m)
    chosen = labels.spread(points_, (1248, 704), 64, rng)
    assert len(set(chosen.tolist())) == 64
    far = (depth_m[chosen] > 4).mean()
    assert far > 0.4, "one in forty is far, but they span most of the orders of depth"
    cells = pixels[chosen] * 4 // (1248, 704)
    assert len({(x, y) for x, y in cells.tolist()}) == 16
    plain = rng.choice(4000, 64, replace=False)
    assert (depth_m[plain] > 4).mean() < 0.15


@pytest.mark.parametrize("count", [1, 10, 64, 1000])
def test_spread_gives_as_many_as_there_are_each_once_and_in_no_order(count):
    rng = np.random.default_rng(count)
    points_ = DepthPoints(rng.integers(0, 100, (300, 2)), rng.uniform(1, 50, 300))
    chosen = labels.spread(points_, (100, 100), count, rng)
    assert len(set(chosen.tolist())) == len(chosen) == min(count, 300)
    assert len(labels.spread(DepthPoints(points_.pixel_px[:0], points_.depth_m[:0]), (100, 100), count, rng)) == 0
    again = labels.spread(points_, (100, 100), count, np.random.default_rng(count + 1))
    assert count == 1 or chosen.tolist() != again.tolist()


def test_points_of_one_depth_are_spread_over_the_image():
    rng = np.random.default_rng(1)
    pixels = np.concatenate([rng.integers(0, 25, (960, 2)), rng.integers(25, 100, (40, 2))])
    chosen = labels.spread(DepthPoints(pixels, np.full(1000, 5.0)), (100, 100), 20, rng)
    assert (pixels[chosen] >= 25).all(axis=1).sum() >= 9


@pytest.mark.parametrize("many", [100_000, 1 << 18])
def test_one_cell_with_more_points_than_sixteen_bits_count_crowds_no_other_out(many):
    cells = np.stack(np.meshgrid(np.arange(4), np.arange(4)), axis=-1).reshape(-1, 2) * 25
    pixels = np.concatenate([cells, np.zeros((many, 2), np.int64)])
    chosen = labels.spread(DepthPoints(pixels, np.full(len(pixels), 5.0)), (100, 100), 16, np.random.default_rng(0))
    assert len(set(map(tuple, pixels[chosen].tolist()))) == 16


def test_the_farthest_point_of_all_is_one_of_the_farthest_bins():
    depth_m = np.concatenate([np.full(100, 1.0), np.linspace(90, 100, 100)])
    for seed in range(10):
        points_ = DepthPoints(np.zeros((200, 2), np.int64), depth_m)
        chosen = labels.spread(points_, (100, 100), 4, np.random.default_rng(seed))
        assert sorted((depth_m[chosen] > 50).tolist()) == [False, False, True, True]


def test_there_are_four_by_four_cells_and_eight_bins_of_log_depth():
    """One of each before a second of any: as many as there are strata hold every stratum once."""
    rng = np.random.default_rng(0)
    here = np.full((8000, 2), 5)
    depth_m = 0.5 * 256 ** np.linspace(0, 1, 8000)  # 0.5 to 128 m: each bin spans a factor of 2
    chosen = labels.spread(DepthPoints(here, depth_m), (800, 400), 8, rng)
    assert sorted(np.floor(np.log2(depth_m[chosen] / 0.5001)).astype(int).tolist()) == list(range(8))
    u, v = (each.ravel() for each in np.meshgrid(np.arange(800), np.arange(400)))
    chosen = labels.spread(DepthPoints(np.stack([u, v], 1), np.full(len(u), 3.0)), (800, 400), 16, rng)
    assert sorted(zip((u[chosen] // 200).tolist(), (v[chosen] // 100).tolist(), strict=True)) == [
        (column, row) for column in range(4) for row in range(4)
    ]


def test_padding_is_out_of_sight_and_all_else_in_it():
    """A unified image of 40 x 30 in the middle of 64 x 32, then 64 x 48 cut out of one of 70 x 60."""
    lens = Camera(50.0, 50.0, 20.0, 15.0, 40, 30)
    v, u = np.mgrid[-3:60, -3:80]
    places = np.stack([u.ravel(), v.ravel()], axis=1)
    small, padded = Camera(50.0, 50.0, 20.0, 15.0, 40, 30), Camera(50.0, 50.0, 32.0, 16.0, 64, 32)
    seen = labels.in_sight(places, Move(lens, small, padded, (1.0, 1.0), (-12, -1)))
    np.testing.assert_array_equal(seen, ((places >= (12, 1)) & (places < (52, 31))).all(axis=1))
    large, cut = Camera(50.0, 50.0, 35.0, 30.0, 70, 60), Camera(50.0, 50.0, 32.0, 24.0, 64, 48)
    seen = labels.in_sight(places, Move(lens, large, cut, (1.75, 2.0), (3, 6)))
    np.testing.assert_array_equal(seen, ((places >= 0) & (places < (64, 48))).all(axis=1))


def test_the_first_pixels_of_the_image_are_labelled_by_a_depth_map_that_sees_more():
    depth_camera, camera = Camera(20.0, 20.0, 15.0, 15.0, 30, 30), Camera(20.0, 20.0, 10.0, 10.0, 20, 20)
    sampled = labels.sample_dense(np.full((30, 30), 2.0, np.float32), depth_camera, camera, np.random.default_rng(0))
    v, u = np.mgrid[:20, :20]
    assert sorted(sampled.pixel_px.tolist()) == sorted(np.stack([u.ravel(), v.ravel()], 1).tolist())
