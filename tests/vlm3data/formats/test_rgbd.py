"""What belongs to a time, and which files a pattern means."""

from __future__ import annotations

from pathlib import Path

import fsspec
import numpy as np
import pytest

from vlm3data.formats.rgbd.calibration import Pinhole, camera_of, parse
from vlm3data.formats.rgbd.cameras import depth_camera_of
from vlm3data.formats.rgbd.patterns import Intrinsics, listed
from vlm3data.formats.rgbd.poses import nearest_in
from vlm3data.types import Camera, Drop, UserError


def test_the_nearest_time_is_found_as_by_looking_at_all():
    rng = np.random.default_rng(0)
    for _ in range(300):
        times = np.sort(rng.uniform(0, 1, rng.integers(0, 8)))
        wanted, within = rng.uniform(-0.2, 1.2), rng.uniform(0, 0.3)
        away = np.abs(times - wanted)
        expected = int(away.argmin()) if len(away) and away.min() <= within else None
        assert nearest_in(times, wanted, within) == expected


@pytest.mark.parametrize(("first", "shift"), [(0.0, 0.5), (0.5, 0.0), (1.0, -0.5)])
def test_intrinsics_move_by_where_the_first_pixel_has_its_centre(first, shift):
    camera = camera_of(Pinhole((40.0, 41.0, 20.0, 10.0), None), (64, 48), first)
    assert camera == Camera(40.0, 41.0, 20.0 + shift, 10.0 + shift, 64, 48)
    assert camera_of(Pinhole((40.0, 41.0, 20.0, 10.0), (32, 24)), (64, 48), first).width_px == 32


@pytest.mark.parametrize("centre", [(-63, 10), (127, 10), (20, -47), (20, 95)])
def test_a_principal_point_may_be_as_far_outside_as_the_image_is_large(centre):
    assert camera_of(Pinhole((40, 41, *centre), None), (64, 48), 0.5).cx_px == centre[0]


@pytest.mark.parametrize(
    "numbers",
    [(0, 41, 20, 10), (40, -41, 20, 10), (40, 41, -70, 10), (40, 41, 130, 10), (40, 41, 20, -50), (40, 41, 20, 97)],
)
def test_intrinsics_that_cannot_be_are_dropped(numbers):
    with pytest.raises(Drop, match="bad_intrinsics"):
        camera_of(Pinhole(numbers, None), (64, 48), 0.5)


@pytest.mark.parametrize(("width", "refused"), [(3210, False), (3270, True), (3140, False), (3070, True)])
def test_a_depth_map_may_have_another_shape_than_the_image_by_two_hundredths(width, refused):
    camera = Camera(500.0, 500.0, 320.0, 240.0, 640, 480)
    if refused:
        with pytest.raises(UserError, match="of their own size"):
            depth_camera_of("scene", camera, None, (width, 2400), 0.5)
    else:
        found = depth_camera_of("scene", camera, None, (width, 2400), 0.5)
        assert (found.fx_px, found.fy_px) == (500 * width / 640, 2500)
        assert (found.cx_px, found.cy_px) == (width / 2, 1200)


@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("shape", [(3, 3), (3, 4), (4, 4)])
def test_a_matrix_of_intrinsics_is_read_as_it_is_written_and_refused_where_it_is_none(columns, shape):
    how = Intrinsics(path="k.txt", columns=columns)
    k = np.eye(4)
    k[:2, :3] = [[40, 0, 20], [0, 41, 10]]

    def read() -> Pinhole:
        written = k[: shape[0], : shape[1]]
        return parse(" ".join(map(str, (written.T if columns else written).ravel())).encode(), how, "k.txt")

    assert read() == Pinhole((40.0, 41.0, 20.0, 10.0), None)
    k[0, 1] = 0.039
    assert read() == Pinhole((40.0, 41.0, 20.0, 10.0), None), "a thousandth of the focal length is no skew"
    k[0, 1] = 0.0
    for place in ((0, 1), (1, 0), (2, 0), (2, 1), (2, 2)):
        k[place] += 0.1
        with pytest.raises(Drop, match="bad_intrinsics"):
            read()
        k[place] -= 0.1


def names(root: Path, pattern: str, files: list[str]) -> dict[str, str]:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    found = listed(fsspec.filesystem("file"), str(root), pattern)
    return {frame: str(Path(path).relative_to(root)) for frame, path in found.items()}


@pytest.mark.parametrize(
    ("pattern", "files", "expected"),
    [
        ("{frame}.png", ["10.png", "2.png", "x.jpg"], {"2": "2.png", "10": "10.png"}),
        (
            "rgb/*_{frame}.png",
            ["rgb/4_12.50.png", "rgb/4_9.5.png"],
            {"9.5": "rgb/4_9.5.png", "12.50": "rgb/4_12.50.png"},
        ),
        ("frame-{frame}.color.*", ["frame-1.color.jpg", "frame-1.depth.png"], {"1": "frame-1.color.jpg"}),
        ("a[1].{frame}+.png", ["a[1].7+.png", "a1.7.png"], {"7": "a[1].7+.png"}),
        ("none/{frame}.png", ["1.png"], {}),
    ],
)
def test_a_pattern_names_its_frames_in_the_order_of_their_numbers(tmp_path, pattern, files, expected):
    root = tmp_path / "r[1]"
    assert list(names(root, pattern, files).items()) == list(expected.items())


def test_two_files_of_one_frame_are_a_mistake(tmp_path):
    with pytest.raises(UserError, match=r"1.png: frame 1 is also .*1.jpg"):
        names(tmp_path, "{frame}.*", ["1.png", "1.jpg"])


def test_a_list_names_files_beside_it(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "rgb.txt").write_text("# time file\n2.5 rgb/b.png\n\n1.5 rgb/a c.png\n")
    assert names(tmp_path, "sub/rgb.txt", []) == {"2.5": "sub/rgb/b.png", "1.5": "sub/rgb/a c.png"}
    (tmp_path / "sub" / "rgb.txt").write_text("1 a.png\n1 b.png\n")
    with pytest.raises(UserError, match="line 2: frame 1 is listed twice"):
        names(tmp_path, "sub/rgb.txt", [])
