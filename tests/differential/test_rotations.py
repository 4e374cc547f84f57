"""Rotations, quaternions and relative poses against scipy's."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import RigidTransform, Rotation

from tests.differential.record import agree, cases
from vlm3data.geometry import (
    invert_pose,
    relative_pose,
    rotation_angle_deg,
    rotation_from_yaw_pitch_roll_deg,
    yaw_pitch_roll_deg,
)
from vlm3data.geometry.quaternion import pose_from_quaternion, quaternion_from_rotation, rotation_from_quaternion
from vlm3data.geometry.rigid import as_rigid

MANY = cases(3000)


def turns(seed: int, number: int = MANY) -> Rotation:
    """Return random rotations, a third of them tiny and a third close to half a turn, where formulas lose digits."""
    rng = np.random.default_rng(seed)
    axes = rng.normal(size=(number, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    small = 10.0 ** rng.uniform(-9, 0, number)
    angle = np.choose(np.arange(number) % 3, [rng.uniform(0, np.pi, number), small, np.pi - small])
    return Rotation.from_rotvec(axes * angle[:, None])


def test_yaw_pitch_and_roll():
    rng = np.random.default_rng(0)
    angles_deg = rng.uniform((-180, -90, -180), (180, 90, 180), (MANY, 3))
    angles_deg[::5, 1] = np.sign(angles_deg[::5, 1]) * (90 - 10.0 ** rng.uniform(-3, 0, MANY)[::5])  # near the poles
    ours = np.array([rotation_from_yaw_pitch_roll_deg(*each) for each in angles_deg.tolist()])
    theirs = Rotation.from_euler("YXZ", angles_deg, degrees=True)
    agree("rotation of yaw, pitch, roll", "scipy", MANY, ours - theirs.as_matrix(), 1e-14, "")
    read_deg = np.array([yaw_pitch_roll_deg(rotation) for rotation in theirs.as_matrix()])
    off_deg = (read_deg - theirs.as_euler("YXZ", degrees=True) + 180) % 360 - 180
    near_pole = np.cos(np.radians(angles_deg[:, 1]))[:, None]  # yaw and roll have as few digits as this is small
    agree("yaw, pitch, roll of a rotation", "scipy", MANY, off_deg * near_pole, 1e-9, "deg")
    assert (np.abs(read_deg[:, 1]) <= 90).all()


def test_angles_of_rotations():
    found_deg = np.array([rotation_angle_deg(rotation) for rotation in turns(1).as_matrix()])
    agree("angle of a rotation", "scipy", MANY, found_deg - np.degrees(turns(1).magnitude()), 1e-9, "deg")


def test_quaternions():
    quaternions = turns(2).as_quat(canonical=True, scalar_first=True)
    lengths = np.random.default_rng(2).uniform(0.1, 10, (MANY, 1))  # they are normalised first
    off = rotation_from_quaternion(quaternions * lengths) - turns(2).as_matrix()
    agree("rotation of a quaternion", "scipy", MANY, off, 1e-14, "")
    back = np.array([quaternion_from_rotation(rotation) for rotation in turns(2).as_matrix()])
    same = np.sum(back * quaternions, axis=1, keepdims=True)  # at half a turn both signs are right
    assert (back[:, 0] >= 0).all()
    agree("quaternion of a rotation", "scipy", MANY, back * np.sign(same) - quaternions, 1e-13, "")


def test_relative_poses():
    rng = np.random.default_rng(3)
    centres_m = rng.normal(0, 20, (2, MANY, 3))
    theirs = [RigidTransform.from_components(c, turns(seed)) for seed, c in zip((4, 5), centres_m, strict=True)]
    ours = [pose_from_quaternion(t.rotation.as_quat(scalar_first=True), t.translation) for t in theirs]
    agree("pose of quaternion and centre", "scipy", MANY, ours[0] - theirs[0].as_matrix(), 1e-14, "m")
    inverse = np.array([invert_pose(pose) for pose in ours[0]])
    agree("inverse of a pose", "scipy", MANY, inverse - theirs[0].inv().as_matrix(), 1e-12, "m")
    found = [relative_pose(first, second) for first, second in zip(*ours, strict=True)]
    wanted = (theirs[0].inv() * theirs[1]).as_matrix()
    agree("relative rotation", "scipy", MANY, np.array([r for r, _ in found]) - wanted[:, :3, :3], 1e-14, "")
    agree("relative translation", "scipy", MANY, np.array([t for _, t in found]) - wanted[:, :3, 3], 1e-12, "m")


def test_nearest_rigid_poses():
    rng = np.random.default_rng(6)
    number = MANY // 3
    rough = turns(6, number).as_matrix() + rng.uniform(-2e-4, 2e-4, (number, 3, 3))
    poses = np.tile(np.eye(4), (number, 1, 1))
    poses[:, :3, :3], poses[:, :3, 3] = rough, rng.normal(size=(number, 3))
    found = [as_rigid(pose) for pose in poses]
    kept = [place for place, pose in enumerate(found) if pose is not None]
    assert len(kept) > 0.9 * number
    off = [found[place][:3, :3] - Rotation.from_matrix(rough[place]).as_matrix() for place in kept]
    agree("rotation nearest to a matrix", "scipy", len(kept), off, 1e-12, "")
