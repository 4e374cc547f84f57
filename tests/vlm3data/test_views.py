"""Dense depth as the two-view tasks get it: along the axis, known where it is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vlm3data.sources.synthetic import SyntheticOptions, SyntheticSource
from vlm3data.types import Camera, Frame
from vlm3data.views import z_depth

FACTS = SyntheticSource("", SyntheticOptions(), 0).facts
CAMERA = Camera(40.0, 45.0, 15.0, 13.0, 32, 24)


def frame_of(depth_m: np.ndarray, **changes) -> Frame:
    return Frame(key="f", scene="s", image=bytes, camera=CAMERA, depth_m=lambda: depth_m.astype(np.float32), **changes)


@pytest.mark.parametrize("depth_camera", [None, Camera(20.0, 22.5, 7.5, 6.5, 16, 12)])
def test_a_plane_of_one_z_depth_stays_one_whatever_kind_the_source_stores(depth_camera):
    camera = depth_camera or CAMERA
    v, u = np.mgrid[: camera.height_px, : camera.width_px] + 0.5
    x, y = (u - camera.cx_px) / camera.fx_px, (v - camera.cy_px) / camera.fy_px
    euclidean_m = 3.0 * np.sqrt(1 + x * x + y * y)
    facts = replace(FACTS, depth_kind="euclidean", depth_range_m=(0.1, 50.0))
    found = z_depth(frame_of(euclidean_m, depth_camera=depth_camera), facts)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.full((camera.height_px, camera.width_px), 3.0), rtol=1e-6)
    as_z = z_depth(frame_of(euclidean_m, depth_camera=depth_camera), replace(facts, depth_kind="z"))
    np.testing.assert_array_equal(as_z, euclidean_m.astype(np.float32))


def test_what_is_out_of_range_is_unknown():
    depth_m = np.full((24, 32), 2.0)
    depth_m[0, :4] = (0.49, 0.5, 8.0, 8.01)
    depth_m[1, 1] = np.nan
    for kind in ("z", "euclidean"):
        known = np.isfinite(z_depth(frame_of(depth_m), replace(FACTS, depth_kind=kind, depth_range_m=(0.5, 8.0))))
        assert known[0, :4].tolist() == [False, True, True, False]
        assert known.sum() == 24 * 32 - 3
    assert z_depth(Frame(key="f", scene="s", image=bytes, camera=CAMERA), FACTS) is None
