"""iBims-1 in its two published forms: what is missing, damaged or of another form is said by name."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.vlm3data.formats.damage import survives
from vlm3data.build import BuildConfig, build, samples
from vlm3data.formats.depth_image import encode_png16
from vlm3data.formats.mat5 import read_struct, write_struct
from vlm3data.layouts.ibims import IbimsLayout
from vlm3data.sources.ibims import FIELDS, IbimsSource
from vlm3data.types import Camera, Drop, Frame, UserError


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ibims")
    IbimsLayout(IbimsLayout.Options(images=2), 1).write(str(out), lambda *_: None)
    return out


@pytest.fixture
def root(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "ibims"))


def opened(root: Path) -> IbimsSource:
    return IbimsSource(str(root), IbimsSource.Options(), 0)


def frames_of(root: Path) -> list[Frame]:
    source = opened(root)
    return [frame for scene in source.scenes(None) for frame in source.frames(scene)]


def reason(frame: Frame) -> str:
    try:
        frame.image()
        assert frame.depth_m
        frame.depth_m()
    except Drop as drop:
        return drop.reason
    return "nothing"


def change_mat(root: Path, **changes: object) -> None:
    path = root / "ibims1_core_mat" / "room_01.mat"
    fields = read_struct(path.read_bytes(), "data", FIELDS) | changes
    path.write_bytes(write_struct("data", {name: value for name, value in fields.items() if value is not None}))


def calib_with(place: tuple[int, int]) -> np.ndarray:
    """Return MATLAB's matrix with one entry that it cannot have."""
    calib = np.array([[559.0, 0, 0], [0, 558, 0], [361, 241, 1]])
    calib[place] += 0.25
    return calib


def test_the_list_decides_which_images_and_in_which_order(root):
    (root / "imagelist.txt").write_text("room_02\n\nroom_01.png\r\n")
    assert [frame.key for frame in frames_of(root)] == ["room_02", "room_01"]
    assert [frame.key for frame in frames_of(root / "ibims1_core_mat")] == ["room_02", "room_01"]
    assert list(opened(root).scenes("train")) == []


def test_raw_and_mat_hold_the_same(root):
    for raw, mat in zip(frames_of(root), frames_of(root / "ibims1_core_mat"), strict=True):
        assert raw.camera == mat.camera
        assert raw.depth_m
        assert mat.depth_m
        np.testing.assert_allclose(raw.depth_m(), mat.depth_m(), atol=0.0004)


def test_a_mask_of_one_bit_is_read(root):
    from PIL import Image

    before = frames_of(root)[0]
    for folder in ("mask_invalid", "mask_transp"):
        path = root / "ibims1_core_raw" / folder / "room_01.png"
        Image.open(path).convert("1").save(path)
    assert before.depth_m
    np.testing.assert_array_equal(frames_of(root)[0].depth_m(), before.depth_m())  # pyright: ignore


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("rgb/room_01.png", None, "image_missing"),
        ("depth/room_01.png", None, "depth_missing"),
        ("depth/room_01.png", b"", "corrupt_depth"),
        ("depth/room_01.png", encode_png16(np.ones((4, 5), np.uint16)), "depth_size_mismatch"),
        ("mask_transp/room_01.png", None, "mask_transp_missing"),
        ("mask_invalid/room_01.png", b"\x89PNG", "mask_invalid_unreadable"),
        ("calib/room_01.txt", None, "calib_missing"),
        ("calib/room_01.txt", b"559,558,361", "bad_intrinsics"),
        ("calib/room_01.txt", b"559,558,nan,241", "bad_intrinsics"),
        ("calib/room_01.txt", b"0,558,361,241", "bad_intrinsics"),
    ],
)
def test_a_damaged_raw_file_costs_its_image_by_name(root, file, content, expected):
    path = root / "ibims1_core_raw" / file
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    bad, fine = frames_of(root)
    assert reason(bad) == expected
    assert fine.image()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"depth": None}, "mat_field_missing"),
        ({"depth": np.ones((480, 639))}, "depth_size_mismatch"),
        ({"mask_transp": np.ones((479, 640))}, "depth_size_mismatch"),
        ({"rgb": np.zeros((480, 640), np.uint8)}, "image_size_mismatch"),
        ({"rgb": np.zeros((480, 640, 3))}, "image_size_mismatch"),
        ({"calib": np.array([[559.0, 0, 361], [0, 558, 241], [0, 0, 1]])}, "bad_intrinsics"),
        ({"calib": np.full((3, 3), np.nan)}, "bad_intrinsics"),
        *(({"calib": calib_with(place)}, "bad_intrinsics") for place in ((0, 1), (1, 0), (0, 2), (1, 2), (2, 2))),
    ],
)
def test_a_damaged_struct_costs_its_image_by_name(root, changes, expected):
    change_mat(root, **changes)
    assert reason(frames_of(root / "ibims1_core_mat")[0]) == expected


def test_both_forms_count_pixels_from_one_as_matlab_does(root):
    (root / "ibims1_core_raw" / "calib" / "room_01.txt").write_text("559,558,361.25,241.75\n")
    change_mat(root, calib=np.array([[559.0, 0, 0], [0, 558, 0], [361.25, 241.75, 1]]))
    for form in ("raw", "mat"):
        camera = frames_of(root / f"ibims1_core_{form}")[0].camera
        assert camera == Camera(559.0, 558.0, 360.75, 241.25, 640, 480)


def test_missing_depth_is_nan_whatever_it_was(root):
    depth_m = np.full((480, 640), 2.0)
    depth_m[0, :4] = (0, np.nan, np.inf, 3)
    change_mat(root, depth=depth_m, mask_invalid=np.ones((480, 640)), mask_transp=np.ones((480, 640), np.uint8))
    frame = frames_of(root / "ibims1_core_mat")[0]
    assert frame.depth_m
    np.testing.assert_array_equal(frame.depth_m()[0, :5], np.float32([np.nan, np.nan, np.nan, 3, 2]))


def test_depths_are_labels_from_five_millimetres_to_twenty_five_metres(root):
    depth_m = np.full((480, 640), 26.0)
    depth_m[:, ::4], depth_m[:, 1::4], depth_m[:, 2::4] = 0.004, 0.006, 24.5
    masks = {"mask_invalid": np.ones((480, 640)), "mask_transp": np.ones((480, 640))}
    change_mat(root, depth=depth_m, **masks)
    config = BuildConfig(source="ibims", root=str(root / "ibims1_core_mat"), limit=1, focal_px=559.0)
    (sample,) = samples(config)
    assert {round(question.truth["depth_m"], 3) for question in sample.questions} == {0.006, 24.5}


def test_a_name_that_leaves_the_root_is_refused(root):
    (root / "imagelist.txt").write_text("../../secret\n")
    assert reason(frames_of(root)[0]) == "path_leaves_root"
    assert reason(frames_of(root / "ibims1_core_mat")[0]) == "path_leaves_root"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"ibims1_val.jsonl": ""}, "vlm3data build jsonl --root"),
        ({"x.txt": ""}, "neither ibims1_core_raw nor ibims1_core_mat"),
        ({"ibims1_core_mat/a.mat": ""}, r"no imagelist.txt"),
        ({"ibims1_core_mat/a.mat": "", "imagelist.txt": "a\na\n"}, "lists 2 images, 1 of them different"),
        ({"ibims1_core_mat/a.mat": "", "imagelist.txt": "\n"}, "lists 0 images"),
    ],
)
def test_a_root_that_is_none_says_what_to_do(tmp_path, files, message):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        opened(tmp_path)
    with pytest.raises(UserError, match="no such directory"):
        opened(tmp_path / "none")


def test_drops_are_counted(root, tmp_path):
    (root / "ibims1_core_mat" / "room_01.mat").write_bytes(b"\x89HDF\r\n")
    config = BuildConfig(source="ibims", root=str(root / "ibims1_core_mat"), max_drop_rate=0.5)
    assert build(config, str(tmp_path / "out"), workers=1)["drops"] == {"mat_unsupported": 1}


def test_any_damage_to_a_calibration_gives_a_refusal_or_a_camera(root):
    path = root / "ibims1_core_raw" / "calib" / "room_01.txt"

    def read() -> None:
        frame = next(iter(frames_of(root)))
        if frame.camera is None:
            frame.image()

    assert survives(path.read_bytes(), path, read)["refused"] > 10
