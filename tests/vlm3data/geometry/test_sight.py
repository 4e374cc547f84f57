"""How much of an object is seen: a plate before the camera, hidden more and more by what stands before it."""

from __future__ import annotations

import numpy as np
import pytest

from vlm3data.geometry.sight import seen_shares
from vlm3data.types import Camera

CAMERA = Camera(150.0, 150.0, 80.0, 60.0, 160, 120)
NOISE = (0.02, 0.01)


def plate(z_m: float) -> np.ndarray:
    """Return points of a plate of 1 x 1 m, about 2000."""
    x, y = np.meshgrid(np.linspace(-0.5, 0.5, 45), np.linspace(-0.5, 0.5, 45))
    return np.stack([x, y, np.full_like(x, z_m)], -1).reshape(-1, 3)


def share(points: np.ndarray, depth_m: np.ndarray) -> float:
    with np.errstate(all="raise"):  # nothing is divided by no points
        return float(seen_shares(points, np.zeros(len(points), int), 1, depth_m.astype(np.float32), CAMERA, NOISE)[0])


@pytest.mark.parametrize("hidden", [0.0, 0.25, 0.5, 0.75])
def test_the_share_is_what_nothing_stands_before(hidden):
    depth_m = np.full((120, 160), 2.0)
    depth_m[:, : int(80 - 37.5 + 75 * hidden)] = 1.0  # the plate covers columns 42 to 117
    assert share(plate(2.0), depth_m) == pytest.approx(1 - hidden, abs=0.03)


def test_an_object_wholly_behind_a_wall_is_not_seen():
    assert share(plate(2.0), np.full((120, 160), 1.5)) == 0


def test_an_object_where_the_map_knows_nothing_or_sees_through_is_not_said_to_be_seen():
    assert share(plate(2.0), np.full((120, 160), np.nan)) == 0
    assert share(plate(2.0), np.full((120, 160), 5.0)) == 0


def test_its_own_far_side_and_what_is_outside_the_picture_count_for_nothing():
    depth_m = np.full((120, 160), 2.0)
    assert share(np.concatenate([plate(2.0), plate(2.6)]), depth_m) == pytest.approx(1.0, abs=0.02)
    assert share(plate(2.0) + np.array([0.9, 0, 0]), depth_m) == pytest.approx(1.0)
    assert share(plate(-2.0), depth_m) == 0


def test_each_object_has_its_own_share():
    depth_m = np.full((120, 160), 2.0)
    points, owner = np.concatenate([plate(2.0), plate(3.0)]), np.repeat([1, 2], 45 * 45)
    shares = seen_shares(points, owner, 4, depth_m.astype(np.float32), CAMERA, NOISE)
    np.testing.assert_allclose(shares, [0, 1, 0, 0], atol=0.01)
