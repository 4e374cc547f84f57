"""What nuscenes-devkit makes of random rigs: run with a Python that has it (numpy < 2, so an environment of its own).

    python -m venv peer && peer/bin/pip install nuscenes-devkit==1.2.0
    peer/bin/python tests/differential/nuscenes_peer.py 20 1 > tests/differential/nuscenes_golden.json

Each case is a LiDAR scan taken to the image as `NuScenesExplorer.map_pointcloud_to_image` does it (sensor to ego, ego
to global, global to the ego of the camera's time, to the camera, `view_points`), in doubles, and a box to its corners.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np

POINTS = 12


def case_of(rng: np.random.Generator) -> dict[str, Any]:
    """Return a random rig and points, most of which its camera sees; with five decimals, which a file holds exactly."""

    def pose(spread_m: float) -> dict[str, list[float]]:
        return {"rotation": rounded(rng.normal(size=4)), "translation": rounded(rng.normal(0, spread_m, 3))}

    def rounded(values: Any) -> Any:
        return np.round(values, 5).tolist()

    fx, fy = rng.uniform(500, 1500, 2)
    intrinsic = np.array([[fx, 0, rng.uniform(700, 900)], [0, fy, rng.uniform(400, 500)], [0, 0, 1]])
    case = {
        "ego_from_lidar": pose(2), "global_from_ego_then": pose(300),
        "global_from_ego_now": pose(300), "ego_from_cam": pose(2),
        "intrinsic": rounded(intrinsic), "box": {**pose(300), "size": rounded(rng.uniform(0.3, 8, 3))},
    }  # fmt: skip
    pixels = rng.uniform((-200, -100), (1800, 1000), (POINTS, 2))
    depth_m = rng.uniform(1, 80, POINTS) * np.where(rng.random(POINTS) < 0.15, -1, 1)
    cam_m = np.linalg.inv(intrinsic) @ np.vstack([pixels.T, np.ones(POINTS)]) * depth_m
    lidar_m = np.linalg.inv(_cam_from_lidar(case)) @ np.vstack([cam_m, np.ones(POINTS)])
    return case | {"points_m": rounded(lidar_m[:3].T)}


def by_devkit(case: dict[str, Any]) -> dict[str, Any]:
    """Return pixels (n, 2) and depths (n,) of the points, and the corners (8, 3) of the box in the global frame."""
    from nuscenes.utils.data_classes import Box
    from nuscenes.utils.geometry_utils import view_points
    from pyquaternion import Quaternion

    cam_m = _cam_from_lidar(case) @ np.vstack([np.array(case["points_m"]).T, np.ones(POINTS)])
    pixels = view_points(cam_m[:3], np.array(case["intrinsic"]), normalize=True)[:2].T
    box = Box(case["box"]["translation"], case["box"]["size"], Quaternion(case["box"]["rotation"]))
    truth = {"xy_px": pixels, "depth_m": cam_m[2], "corners_m": box.corners().T}
    return {name: np.round(values, 9).tolist() for name, values in truth.items()}


def _cam_from_lidar(case: dict[str, Any]) -> np.ndarray:
    from nuscenes.utils.geometry_utils import transform_matrix
    from pyquaternion import Quaternion

    def matrix(pose: dict[str, list[float]], *, inverse: bool = False) -> np.ndarray:
        return transform_matrix(pose["translation"], Quaternion(pose["rotation"]), inverse)

    return (
        matrix(case["ego_from_cam"], inverse=True) @ matrix(case["global_from_ego_now"], inverse=True)
        @ matrix(case["global_from_ego_then"]) @ matrix(case["ego_from_lidar"])
    )  # fmt: skip


def main() -> None:
    number, seed = map(int, sys.argv[1:])
    rng = np.random.default_rng(seed)
    cases = [case_of(rng) for _ in range(number)]
    rows = [json.dumps(case | {"truth": by_devkit(case)}) for case in cases]
    print("[\n" + ",\n".join(rows) + "\n]")


if __name__ == "__main__":
    main()
