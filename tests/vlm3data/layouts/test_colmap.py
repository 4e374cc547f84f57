"""The synthetic COLMAP layout: the same options and seed, the same bytes; what it says of itself is so."""

import json

import numpy as np
import pycolmap
import pytest

from tests.conftest import directory_bytes
from tests.tiny_colmap import FS, write_tiny
from vlm3data.formats.colmap.model import Model


def test_the_same_options_and_seed_give_the_same_bytes(tmp_path):
    small = {"images": 2, "points": 20, "dense": True}
    first, again = (directory_bytes(write_tiny(tmp_path / name, **small).parent) for name in ("a", "b"))
    assert first == again
    assert directory_bytes(write_tiny(tmp_path / "c", seed=4, **small).parent) != first


@pytest.mark.parametrize("form", ["binary", "text"])
def test_tracks_name_the_observations_and_the_noise_is_as_asked(form, tmp_path):
    root = write_tiny(tmp_path, form=form, images=4, points=80, noise_px=0.5)
    model = pycolmap.Reconstruction(root / "sparse" / "0")
    for point_id, point in model.points3D.items():
        for element in point.track.elements:
            assert model.images[element.image_id].points2D[element.point2D_idx].point3D_id == point_id
    errors = [point.error for point in model.points3D.values()]
    assert 0.5 < np.mean(errors) / (0.5 * np.sqrt(np.pi / 2)) < 1.5  # the mean length of a 2D normal


def test_the_truth_takes_the_model_to_metres(tmp_path):
    root = write_tiny(tmp_path, images=3, points=30)
    truth = json.loads((tmp_path / "truth" / "scene-0000.json").read_text())
    model = Model(FS, str(root / "sparse" / "0"), "binary")
    world_from_model = np.linalg.inv(np.array(truth["model_from_world"]))
    metres = model.points.xyz * truth["metres_per_unit"] @ world_from_model[:3, :3].T + world_from_model[:3, 3]
    height_m = metres[:, 2]  # a room's floor is at height 0, and z is up
    assert -1e-6 < height_m.min() < 1e-6
    assert (np.abs(height_m) < 1e-6).mean() > 0.1
    assert 0.1 < height_m.max() < 8
