"""Poses as text: what is written is read, and no matrix becomes a pose that is none."""

from __future__ import annotations

import numpy as np
import pytest

from tests.vlm3data.formats.damage import survives
from vlm3data.formats import poses
from vlm3data.types import Drop, UserError


def some_poses(count: int = 5) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    found = []
    for _ in range(count):
        pose = np.eye(4)
        pose[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        pose[:3, :3] *= np.linalg.det(pose[:3, :3])
        pose[:3, 3] = rng.normal(size=3)
        found.append(pose)
    half_turn = np.diag([-1.0, -1.0, 1.0, 1.0])
    return [*found, np.eye(4), half_turn]


def test_what_is_written_is_read():
    for pose in some_poses():
        np.testing.assert_allclose(poses.rigid(poses.matrix_of(poses.format_matrix(pose).split())), pose, atol=1e-14)
        tum = poses.parse_rows(poses.format_tum([("12.5", pose)]), poses.TUM_COLUMNS, "t")[0]
        np.testing.assert_allclose(poses.from_quaternion(tum[1:4], tum[4:]), pose, atol=1e-12)
        log = poses.parse_log(poses.format_log({3: pose}), "t")
        np.testing.assert_allclose(poses.rigid(log[3]), pose, atol=1e-14)


def test_a_known_quaternion_turns_the_known_way():
    """A quarter turn about z takes x to y: TUM writes it as 0 0 sin 45 cos 45."""
    pose = poses.from_quaternion((1, 2, 3), (0, 0, np.sqrt(0.5), np.sqrt(0.5)))
    np.testing.assert_allclose(pose @ (1, 0, 0, 1), (1, 3, 3, 1), atol=1e-15)
    np.testing.assert_allclose(poses.from_axis_angle((0, 0, np.pi / 2), (1, 2, 3)), pose, atol=1e-15)
    np.testing.assert_allclose(poses.from_axis_angle((0, 0, 0), (1, 2, 3))[:3, :3], np.eye(3))


@pytest.mark.parametrize(
    ("matrix", "reason"),
    [
        (np.full((4, 4), -np.inf), "pose_not_finite"),
        (np.full((4, 4), np.nan), "pose_not_finite"),
        (np.diag([1, 1, -1, 1.0]), "pose_not_rigid"),
        (np.diag([1.01, 1.01, 1.01, 1]), "pose_not_rigid"),
        (np.zeros((4, 4)), "pose_not_rigid"),
        (np.eye(4) + np.eye(4, k=3) * 1e9, "pose_not_rigid"),
        (np.eye(4) + np.eye(4, k=-3), "pose_not_rigid"),
    ],
)
def test_what_is_no_pose_is_dropped(matrix, reason):
    with pytest.raises(Drop) as caught:
        poses.rigid(matrix)
    assert caught.value.reason == reason


def test_a_rotation_rounded_in_a_file_becomes_exact():
    for pose in some_poses():
        rotation = poses.rigid(np.round(pose, 4))[:3, :3]
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-14)
        np.testing.assert_allclose(rotation, pose[:3, :3], atol=2e-4)


def test_a_quaternion_may_be_rounded_by_a_hundredth_and_a_camera_a_thousand_kilometres_away():
    turn = np.array([0.6, 0, 0, 0.8])
    for length in (0.991, 1.009):
        expected = poses.from_quaternion((0, 0, 0), turn)
        np.testing.assert_allclose(poses.from_quaternion((0, 0, 0), length * turn), expected, atol=1e-12)
    for length in (0.989, 1.011):
        with pytest.raises(Drop, match="pose_not_rigid"):
            poses.from_quaternion((0, 0, 0), length * turn)
    assert poses.from_quaternion((0, -0.99e6, 0), turn)[1, 3] == -0.99e6
    with pytest.raises(Drop, match="pose_not_rigid"):
        poses.from_quaternion((0, -1.01e6, 0), turn)


@pytest.mark.parametrize("quaternion", [(0, 0, 0, 0), (1, 1, 1, 1), (np.nan, 0, 0, 1)])
def test_what_is_no_quaternion_is_dropped(quaternion):
    with pytest.raises(Drop, match="pose_not"):
        poses.from_quaternion((0, 0, 0), quaternion)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 3\n", "t: line 1 has 3 columns, not 8"),
        ("# c\n1 2 3 4 5 6 7 x\n", "t: line 2: could not convert"),
    ],
)
def test_a_damaged_trajectory_is_one_line(text, message):
    with pytest.raises(UserError, match=message):
        poses.parse_rows(text, 8, "t")


@pytest.mark.parametrize("text", ["0 0 1\n1 0 0 0\n", "0 0\n" + "1 0 0 0\n" * 4, "a b c\n" + "1 0 0 0\n" * 4])
def test_a_damaged_log_is_one_line(text):
    with pytest.raises(UserError, match="t: entry 0"):
        poses.parse_log(text, "t")


def test_a_log_that_names_a_frame_twice_is_refused():
    entry = poses.format_log({1: np.eye(4)})
    with pytest.raises(UserError, match="frame 1 appears twice"):
        poses.parse_log(entry + entry, "t")


READERS = {
    "matrix": lambda text: [poses.matrix_of(text.split())],
    "tum": lambda text: [poses.from_quaternion(row[1:4], row[4:]) for row in poses.parse_rows(text, 8, "t")],
    "log": lambda text: list(poses.parse_log(text, "t").values()),
}


@pytest.mark.parametrize("kind", READERS)
def test_any_damage_gives_a_refusal_or_poses(tmp_path, kind):
    def read() -> None:
        for one in READERS[kind](path.read_bytes().decode("utf-8", "replace")):
            pose = poses.rigid(one)
            np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
            assert np.isfinite(pose).all()

    some = some_poses()
    good = {
        "matrix": poses.format_matrix(some[0]),
        "tum": poses.format_tum([(str(i), pose) for i, pose in enumerate(some)]),
        "log": poses.format_log(dict(enumerate(some))),
    }
    path = tmp_path / "poses.txt"
    assert survives(good[kind].encode(), path, read, seed=len(kind))["refused"] > 10
