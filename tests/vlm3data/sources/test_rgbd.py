"""Posed RGB-D folders: the naming read without a YAML, the documented YAMLs, and everything that can be wrong."""

from __future__ import annotations

import io
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.conftest import needs_realdata
from tests.vlm3data.formats.damage import survives
from vlm3data.build import BuildConfig, build
from vlm3data.cli import app
from vlm3data.command import run_app
from vlm3data.formats import poses
from vlm3data.formats.depth_image import encode_pgm16, encode_png16
from vlm3data.formats.rgbd.patterns import Patterns
from vlm3data.geometry import invert_pose, project, unproject
from vlm3data.report.tables import print_build
from vlm3data.shards.verify import verify
from vlm3data.sources.rgbd import RgbdSource
from vlm3data.types import Camera, Drop, Frame, UserError

YAMLS = Path(__file__).parents[3] / "docs" / "rgbd"
WIDTH, HEIGHT = 32, 24
STORED = np.arange(WIDTH * HEIGHT, dtype=np.uint16).reshape(HEIGHT, WIDTH) + 1000
K = "40 0 15.5\n0 41 11.5\n0 0 1\n"


def image(width: int = WIDTH, height: int = HEIGHT) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


def npy(values: np.ndarray | None = None) -> bytes:
    file = io.BytesIO()
    np.save(file, STORED / np.float32(1000) if values is None else values)
    return file.getvalue()


SURE = np.full((HEIGHT, WIDTH), 2, np.uint8)


def grey(levels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "PNG")
    return file.getvalue()


def pose(number: int) -> np.ndarray:
    return poses.from_axis_angle((0.1 * number, 0.2, -0.1), (0.01 * number, 0.5, -0.3))


def write(root: Path, files: dict[str, bytes | str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def frame_files(number: int, color: str = "png", depth: str = "png") -> dict[str, bytes | str]:
    name = f"frame-{number:06d}"
    return {
        f"{name}.color.{color}": image(),
        f"{name}.depth.{depth}": encode_png16(STORED) if depth == "png" else encode_pgm16(STORED),
        f"{name}.pose.txt": poses.format_matrix(pose(number)),
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    files = {"camera-intrinsics.txt": K}
    for number in range(3):
        files |= frame_files(number)
    return write(tmp_path / "scene", files)


def opened(root: Path, patterns: dict | None = None, **options: str) -> RgbdSource:
    if patterns is not None:
        options["patterns"] = str(root.parent / "patterns.yaml")
        Path(options["patterns"]).write_text(yaml.safe_dump(patterns))
    return RgbdSource(str(root), RgbdSource.Options.check(options, "test"), 0)


def frames_of(source: RgbdSource) -> list[Frame]:
    return [frame for scene in source.scenes(None) for frame in source.frames(scene)]


def patterns(**changes: object) -> dict:
    return {
        "image": "frame-{frame}.color.png",
        "depth": {"path": "frame-{frame}.depth.png", "metres_per_count": 0.001, "kind": "z"},
        "pose": {"path": "frame-{frame}.pose.txt", "format": "matrix", "convention": "world_from_cam"},
        "intrinsics": {"path": "camera-intrinsics.txt"},
        "first_pixel_centre": 0,
        "registered": True,
        "metric": True,
    } | changes


def reason(frame: Frame) -> str:
    try:
        frame.image()
        assert frame.depth_m
        frame.depth_m()
    except Drop as drop:
        return drop.reason
    return "nothing"


# What is read


def test_without_a_yaml_the_naming_of_scannet_is_read(root):
    found = frames_of(opened(root))
    assert [frame.key for frame in found] == ["scene/000000", "scene/000001", "scene/000002"]
    for number, frame in enumerate(found):
        assert frame.camera == Camera(40.0, 41.0, 16.0, 12.0, WIDTH, HEIGHT)
        np.testing.assert_allclose(frame.world_from_cam, pose(number), atol=1e-12)
        np.testing.assert_array_equal(frame.depth_m(), (STORED / 1000).astype(np.float32))  # pyright: ignore


def test_the_export_with_an_info_file_has_a_depth_camera_of_its_own(tmp_path):
    info = "m_calibrationColorIntrinsic = 80 0 31.5 0 0 82 23.5 0 0 0 1 0 0 0 0 1\n"
    info += "m_calibrationDepthIntrinsic = 40 0 15.5 0 0 41 11.5 0 0 0 1 0 0 0 0 1\n"
    files = {"_info.txt": info} | frame_files(7, "jpg", "pgm") | {"frame-000007.color.jpg": image(64, 48)}
    (frame,) = frames_of(opened(write(tmp_path / "deep" / "scan", files).parent))
    assert frame.scene == "scan"
    assert frame.camera == Camera(80.0, 82.0, 32.0, 24.0, 64, 48)
    assert frame.depth_camera == Camera(40.0, 41.0, 16.0, 12.0, WIDTH, HEIGHT)
    np.testing.assert_array_equal(frame.depth_m(), (STORED / 1000).astype(np.float32))  # pyright: ignore


def test_small_depth_maps_get_the_images_camera_scaled(root):
    for number in range(3):
        (root / f"frame-{number:06d}.color.png").write_bytes(image(4 * WIDTH, 4 * HEIGHT))
    frame = frames_of(opened(root, patterns(first_pixel_centre=0.5)))[0]
    assert frame.camera == Camera(40.0, 41.0, 15.5, 11.5, 4 * WIDTH, 4 * HEIGHT)
    assert frame.depth_camera == Camera(10.0, 10.25, 15.5 / 4, 11.5 / 4, WIDTH, HEIGHT)


def test_intrinsics_of_depth_maps_written_for_another_size_are_scaled(root):
    about = patterns(first_pixel_centre=0.5)
    about["depth"]["intrinsics"] = {"fx": 80, "fy": 84, "cx": 30, "cy": 22, "size": [2 * WIDTH, 2 * HEIGHT]}
    assert frames_of(opened(root, about))[0].depth_camera == Camera(40.0, 42.0, 15.0, 11.0, WIDTH, HEIGHT)
    about["depth"]["intrinsics"]["size"] = [2 * WIDTH, HEIGHT]
    with pytest.raises(UserError, match="of their own size"):
        frames_of(opened(root, about))


def test_a_folder_without_metric_scale_has_no_metres_in_its_noise(root):
    assert opened(root, patterns(metric=False)).facts.depth_noise[0] == 0
    assert opened(root, patterns()).facts.depth_noise == (0.01, 0.01), "a centimetre and a hundredth"


def test_missing_values_are_nan(root):
    stored = STORED.copy()
    stored[0, :3] = (0, 65535, 7)
    (root / "frame-000000.depth.png").write_bytes(encode_png16(stored))
    depth_m = frames_of(opened(root))[0].depth_m
    assert depth_m
    np.testing.assert_array_equal(depth_m()[0, :3], np.float32([np.nan, np.nan, 0.007]))


@pytest.mark.parametrize("axes", ["opencv", "opengl"])
@pytest.mark.parametrize("convention", ["world_from_cam", "cam_from_world"])
def test_poses_of_every_convention_become_ours(root, convention, axes):
    for number in range(3):
        stored = pose(number) @ np.diag([1.0, -1, -1, 1]) if axes == "opengl" else pose(number)
        stored = stored if convention == "world_from_cam" else invert_pose(stored)
        write(root, {f"frame-{number:06d}.pose.txt": poses.format_matrix(stored)})
    how = {"path": "frame-{frame}.pose.txt", "format": "matrix", "convention": convention, "axes": axes}
    for number, frame in enumerate(frames_of(opened(root, patterns(pose=how)))):
        np.testing.assert_allclose(frame.world_from_cam, pose(number), atol=1e-12)


def timed(root: Path, named: list[int], late: int) -> dict:
    """Write frames named by counts of time, each `late` behind its depth and its pose, which are in no order."""
    files: dict[str, bytes | str] = {"k.txt": K}
    for number, count in enumerate(named):
        files |= {f"rgb/{count}.png": image(), f"depth/{number}.png": encode_png16(STORED + np.uint16(number))}
    rows = [(str(count - late), pose(number)) for number, count in enumerate(named)]
    lines = [f"{count - late} depth/{number}.png" for number, count in enumerate(named)]
    write(root, files | {"t.txt": poses.format_tum(rows[1:] + rows[:1]), "d.txt": "\n".join(lines[1:] + lines[:1])})
    return patterns(
        image="rgb/{frame}.png",
        depth={"path": "d.txt", "metres_per_count": 0.001, "kind": "z"},
        pose={"path": "t.txt", "format": "tum", "convention": "world_from_cam"},
        intrinsics={"path": "k.txt"},
    )


@pytest.mark.parametrize(("within_s", "known"), [(0.0101, True), (0.0099, False)])
def test_times_count_in_names_and_trajectories_alike(tmp_path, within_s, known):
    """Milliseconds; the depth and the pose of each image are ten of them before it."""
    about = timed(tmp_path / "s", [1000, 1100, 1200], 10) | {"seconds_per_count": 0.001}
    for number, frame in enumerate(frames_of(opened(tmp_path / "s", about | {"max_difference_s": within_s}))):
        assert (frame.world_from_cam is not None) == (frame.depth_m is not None) == known
        if known:
            np.testing.assert_allclose(frame.world_from_cam, pose(number), atol=1e-12)
            np.testing.assert_array_equal(frame.depth_m(), ((STORED + number) / 1000).astype(np.float32))  # pyright: ignore


@pytest.mark.parametrize("form", ["log", "json"])
@pytest.mark.parametrize("first", [0, 1, -2])
def test_numbered_poses_belong_to_the_frame_that_the_first_belongs_to(root, form, first):
    entries = [pose(10 + entry) for entry in range(4)]
    text = poses.format_log(dict(enumerate(entries))) if form == "log" else json.dumps([e.tolist() for e in entries])
    write(root, {"all": text})
    how = {"path": "all", "format": form, "convention": "world_from_cam", "first_frame": first}
    for number, frame in enumerate(frames_of(opened(root, patterns(pose=how)))):
        if 0 <= number - first < 4:
            np.testing.assert_allclose(frame.world_from_cam, entries[number - first], atol=1e-12)
        else:
            assert reason(frame) == "pose_missing"


@pytest.mark.parametrize("name", sorted(path.name for path in YAMLS.glob("*.yaml")))
def test_the_documented_yamls_are_valid(name):
    assert Patterns.load(YAMLS / name).pose is not None


def test_hololens_lists_join_what_belongs_together(tmp_path):
    rows = [("100", "rgb/7_proj.png", 0), ("200", "rgb/3_proj.png", 1)]
    base = "recording/pinhole_projection"
    files: dict[str, bytes | str] = {
        f"{base}/rgb.txt": "".join(f"{stamp} {path}\n" for stamp, path, _ in rows),
        f"{base}/depth.txt": "".join(f"{stamp} {path.replace('rgb', 'depth')}\n" for stamp, path, _ in rows),
        f"{base}/odometry.log": poses.format_log({index: pose(index) for _, _, index in rows}),
        f"{base}/calibration.txt": "200.0 201.0 16.0 12.0 \n",
    }
    for _, path, number in rows:
        files[f"{base}/{path}"] = image()
        files[f"{base}/{path.replace('rgb', 'depth')}"] = encode_png16(STORED + np.uint16(number))
    source = RgbdSource(str(write(tmp_path, files)), RgbdSource.Options(patterns=str(YAMLS / "hololens2.yaml")), 0)
    for number, frame in enumerate(frames_of(source)):
        assert frame.image() == files[f"{base}/{rows[number][1]}"]
        assert frame.camera == Camera(200.0, 201.0, 16.5, 12.5, WIDTH, HEIGHT)
        np.testing.assert_allclose(frame.world_from_cam, pose(number), atol=1e-12)
        assert frame.depth_m()[0, 0] == np.float32((1000 + number) / 5000)  # pyright: ignore


def test_record3d_has_all_poses_in_one_json(tmp_path):
    opengl = [pose(number) @ np.diag([1.0, -1, -1, 1]) for number in range(11)]
    about = {
        "K": [40.0, 0, 0, 0, 41.0, 0, 16.0, 12.0, 1],
        "poses": [[*poses.quaternion_of(one[:3, :3]).tolist(), *one[:3, 3].tolist()] for one in opengl],
    }
    files: dict[str, bytes | str] = {"a/metadata.json": json.dumps(about)}
    for number in (2, 10):  # frames may be left out, and 10 comes after 2
        files |= {
            f"a/rgb/{number}.jpg": image(),
            f"a/depth/{number}.npy": npy(),
            f"a/confidence/{number}.npy": npy(SURE),
        }
    source = RgbdSource(str(write(tmp_path, files)), RgbdSource.Options(patterns=str(YAMLS / "record3d.yaml")), 0)
    found = frames_of(source)
    assert [frame.key for frame in found] == ["a/2", "a/10"]
    for number, frame in zip((2, 10), found, strict=True):
        assert frame.camera == Camera(40.0, 41.0, 16.0, 12.0, WIDTH, HEIGHT)
        np.testing.assert_allclose(frame.world_from_cam, pose(number), atol=1e-12)
        np.testing.assert_array_equal(frame.depth_m(), STORED / np.float32(1000))  # pyright: ignore


def test_arkitscenes_poses_are_cam_from_world_and_matched_by_time(tmp_path):
    base, lines = "Training/42", []
    files: dict[str, bytes | str] = {}
    for number, time in enumerate(("12.000", "12.017", "12.100")):
        files[f"{base}/lowres_wide/42_{time}.png"] = image()
        files[f"{base}/lowres_depth/42_{time}.png"] = encode_png16(STORED)
        files[f"{base}/confidence/42_{time}.png"] = grey(SURE)
        files[f"{base}/lowres_wide_intrinsics/42_{time}.pincam"] = f"{WIDTH} {HEIGHT} {40 + number} 41 16 12\n"
        angle = (0.3, 0.2 * number, 0.1)
        lines.append(f"{float(time) + 0.004} {' '.join(map(str, angle))} 1 2 {number}")
    files[f"{base}/lowres_wide.traj"] = "\n".join(lines[:2]) + "\n"
    source = RgbdSource(str(write(tmp_path, files)), RgbdSource.Options(patterns=str(YAMLS / "arkitscenes.yaml")), 0)
    found = frames_of(source)
    for number, frame in enumerate(found[:2]):
        expected = invert_pose(poses.from_axis_angle((0.3, 0.2 * number, 0.1), (1, 2, number)))
        np.testing.assert_allclose(frame.world_from_cam, expected, atol=1e-12)
        assert frame.camera == Camera(40.0 + number, 41.0, 16.0, 12.0, WIDTH, HEIGHT)
    assert reason(found[2]) == "pose_missing"


def test_splits_are_patterns_of_scenes(root, tmp_path):
    for scene in ("b", "c"):
        write(tmp_path / scene, frame_files(0))
    write(tmp_path, {"camera-intrinsics.txt": K})
    spec = patterns(scenes="*", splits={"train": ["scene", "x*"], "test": ["b"]})
    source = opened(tmp_path, spec)
    assert {scene.scene: scene.split for scene in source.scenes(None)} == {"b": "test", "c": "other", "scene": "train"}
    assert [scene.scene for scene in source.scenes("test")] == ["b"]
    assert set(source.facts.splits) == {"train", "test", "other"}


def test_other_patterns_are_another_dataset(root):
    stamps = [next(iter(opened(root, patterns(**more)).scenes(None))).stamp for more in ({}, {"first_pixel_centre": 1})]
    assert stamps[0] != stamps[1]


def test_unregistered_depth_labels_no_image_unless_told_to(root, tmp_path):
    spec = patterns(registered=False)
    assert all(frame.depth_m is None for frame in frames_of(opened(root, spec)))
    assert all(frame.depth_m for frame in frames_of(opened(root, spec, unregistered_depth="as_is")))
    config = BuildConfig(source="rgbd", root=str(root), options={"patterns": str(root.parent / "patterns.yaml")})
    with pytest.raises(UserError, match="no_depth 3"):
        build(config, str(tmp_path / "out"), workers=1)


# How sure the recorder is


def sure_patterns(least: float = 2) -> dict:
    about = patterns()
    about["depth"] |= {"confidence": "frame-{frame}.conf.png", "confidence_min": least}
    return about


@pytest.mark.parametrize(("least", "known"), [(1, [False, True, True]), (2, [False, False, True])])
def test_depth_is_unknown_where_confidence_is_below(root, least, known):
    levels = SURE.copy()
    levels[5, 7:10] = (0, 1, 2)
    for number in range(3):
        (root / f"frame-{number:06d}.conf.png").write_bytes(grey(levels))
    depth_m = frames_of(opened(root, sure_patterns(least)))[0].depth_m
    assert depth_m
    expected = (STORED / 1000).astype(np.float32)
    expected[5, 7:10][~np.array(known)] = np.nan
    np.testing.assert_array_equal(depth_m(), expected)


def test_a_bad_confidence_map_is_dropped_by_name(root):
    contents = (grey(SURE[:-1]), image(), None)
    for number, content in enumerate(contents):
        if content:
            (root / f"frame-{number:06d}.conf.png").write_bytes(content)
    reasons = [reason(frame) for frame in frames_of(opened(root, sure_patterns()))]
    assert reasons == ["confidence_size_mismatch", "corrupt_confidence", "confidence_missing"]


def test_a_recording_without_confidence_says_what_to_do(root):
    with pytest.raises(UserError, match="leave confidence and confidence_min out of the patterns"):
        frames_of(opened(root, sure_patterns()))
    assert all(frame.depth_m is None for frame in frames_of(opened(root, sure_patterns() | {"registered": False})))


@pytest.mark.parametrize("key", ["confidence", "confidence_min"])
def test_confidence_is_said_whole(root, key):
    about = sure_patterns()
    del about["depth"][key]
    with pytest.raises(UserError, match="confidence and confidence_min go together"):
        opened(root, about)


def test_patterns_without_confidence_give_the_stamps_they_always_gave(root):
    scene = next(iter(opened(root, patterns()).scenes(None)))
    assert scene.stamp == "25de13bd1c47d60c"
    assert next(iter(opened(root, sure_patterns()).scenes(None))).stamp != scene.stamp


# What is wrong with a frame


def spoilt(root: Path, file: str, content: bytes | str | None) -> list[Frame]:
    path = root / f"frame-000001.{file}"
    path.unlink()
    if content is not None:
        write(root, {path.name: content})
    return frames_of(opened(root))


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("depth.png", None, "depth_missing"),
        ("depth.png", encode_png16(STORED)[:200], "corrupt_depth"),
        ("depth.png", image(), "corrupt_depth"),
        ("depth.png", encode_png16(STORED[:-1]), "depth_size_mismatch"),
        ("pose.txt", None, "pose_missing"),
        ("pose.txt", "", "pose_unreadable"),
        ("pose.txt", "1 2 three", "pose_unreadable"),
        ("pose.txt", b"\xff\xfe\x00", "pose_unreadable"),
        ("pose.txt", poses.format_matrix(np.full((4, 4), -np.inf)), "pose_not_finite"),
        ("pose.txt", poses.format_matrix(np.full((4, 4), np.nan)), "pose_not_finite"),
        ("pose.txt", poses.format_matrix(2 * np.eye(4)), "pose_not_rigid"),
        ("pose.txt", poses.format_matrix(np.diag([1.0, 1, -1, 1])), "pose_not_rigid"),
    ],
)
def test_a_bad_frame_is_dropped_by_name_and_costs_no_other(root, file, content, expected):
    before, bad, after = spoilt(root, file, content)
    assert reason(bad) == expected
    for frame in (before, after):
        assert frame.image()
        assert frame.depth_m
        assert frame.depth_m().shape == (HEIGHT, WIDTH)


def test_an_image_without_depth_says_so_itself(root):
    _, bad, _ = spoilt(root, "depth.png", None)
    with pytest.raises(Drop, match=r"depth_missing: .*frame 000001"):
        bad.image()


def test_damaged_first_files_do_not_hide_the_size_of_the_rest(root):
    for file in ("color.png", "depth.png"):
        (root / f"frame-000000.{file}").write_bytes(b"x")
    first, second, _ = frames_of(opened(root))
    assert reason(first) == "corrupt_depth"
    assert second.camera
    assert second.depth_m
    assert second.depth_m().shape == (HEIGHT, WIDTH)


@pytest.mark.parametrize(("file", "expected"), [("color.png", "image_unreadable"), ("depth.png", "corrupt_depth")])
def test_a_scene_of_damaged_files_is_dropped_by_their_name(root, file, expected):
    for number in range(3):
        (root / f"frame-{number:06d}.{file}").write_bytes(b"x")
    assert [reason(frame) for frame in frames_of(opened(root))] == [expected] * 3


def test_a_moved_folder_is_the_same_dataset(root):
    before = next(iter(opened(root).scenes(None)))
    assert next(iter(opened(root.rename(root.parent / "elsewhere")).scenes(None))).stamp == before.stamp


def test_intrinsics_of_each_frame_are_dropped_by_name(root):
    spec = patterns(intrinsics={"path": "frame-{frame}.k.txt"})
    write(root, {"frame-000000.k.txt": K, "frame-000001.k.txt": "1 2 3"})
    good, bad, missing = frames_of(opened(root, spec))
    assert good.camera
    assert reason(bad) == "bad_intrinsics"
    assert reason(missing) == "intrinsics_missing"


# What a user can mend


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": "*.tif"}, r"there is no \*.tif"),
        (
            {"image": "nothing-{frame}.png"},
            "there is no nothing-{frame}.png in this scene; .*/scene holds camera-intrinsics.txt, frame-0",
        ),
        (
            {"image": "rgb/{frame}.png"},
            "there is no rgb/{frame}.png in this scene; are these the patterns that fit. or narrow",
        ),
        ({"image": "../{frame}.png"}, "image: must be a path below"),
        ({"image": "*/{frame}.png"}, "only in the file's name"),
        ({"image": "frame-{frame}.*"}, "is also"),
        ({"imag": "x"}, "imag: unknown key; known: scenes, splits, image"),
        ({"scenes": "no*"}, "there is no scene 'no.'"),
        ({"first_pixel_centre": 0.25}, "first_pixel_centre: must be 0, 0.5 or 1"),
        ({"intrinsics": {"fx": 40}}, "give fx, fy, cx and cy, or a path"),
        ({"intrinsics": {"path": "none.txt"}}, "there is no none.txt"),
        ({"intrinsics": {"path": "frame-000000.color.png"}}, "frame-000000.color.png: could not convert"),
        ({"pose": {"path": "t.txt", "format": "tum", "convention": "world_from_cam"}}, "t.txt: there is no such file"),
        ({"pose": {"path": "gone.txt", "format": "matrix", "convention": "world_from_cam"}}, "gone.txt: there is no"),
        ({"max_difference_s": 0.1, "image": "frame-{frame}.png"}, "'000000.color' is not named by a time"),
    ],
)
def test_a_mistake_in_the_yaml_is_one_line(root, changes, message):
    with pytest.raises(UserError, match=message.replace("{", r"\{").replace("}", r"\}")) as caught:
        frames_of(opened(root, patterns(**changes)))
    assert "\n" not in str(caught.value)


def test_a_root_that_is_a_scene_says_so(root):
    (root / "depth").mkdir()
    with pytest.raises(UserError, match=r"is itself a scene: give the directory above it, or say scenes: '\.'"):
        frames_of(opened(root, patterns(scenes="*")))


def test_a_build_says_that_depths_of_another_unit_and_poses_of_another_convention_are_suspect(root, tmp_path, capsys):
    about = patterns()
    about["depth"]["metres_per_count"] = 1
    opened(root, about)
    command = ["build", "rgbd", "--root", str(root), "--patterns", str(root.parent / "patterns.yaml"), "--out"]
    assert run_app(app, [*command, str(tmp_path / "a")]) == 1
    assert "are the depths in the unit that was said?" in capsys.readouterr().err
    built = build(BuildConfig(source="rgbd", root=str(root)), str(tmp_path / "b"), workers=1)
    for cut, expected in ((3, False), (4, True)):
        print_build({**built, "cuts": {"no_overlap": cut}}, "out")
        assert (f"{cut} frames see what no other does (no_overlap)" in capsys.readouterr().out) == expected


def test_a_trajectory_without_a_largest_difference_is_a_mistake(root):
    write(root, {"t.txt": poses.format_tum([("0", np.eye(4))])})
    spec = patterns(pose={"path": "t.txt", "format": "tum", "convention": "world_from_cam"})
    with pytest.raises(UserError, match="need max_difference_s"):
        frames_of(opened(root, spec))


def test_a_list_that_leaves_the_scene_is_a_mistake(root):
    write(root, {"rgb.txt": "1 ../../x.png\n"})
    with pytest.raises(UserError, match=r"rgb.txt: line 1 is not 'frame path'"):
        frames_of(opened(root, patterns(image="rgb.txt")))


def test_depth_of_another_shape_than_the_image_needs_its_own_intrinsics(root):
    for number in range(3):
        (root / f"frame-{number:06d}.depth.png").write_bytes(encode_png16(STORED[:, :24]))
    with pytest.raises(UserError, match="24x24 pixels cannot show all of an image of 32x24"):
        frames_of(opened(root))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"x.txt": ""}, "pass --patterns FILE"),
        (frame_files(0), "there is none of camera-intrinsics.txt, _info.txt, info.txt"),
        (frame_files(0) | {"camera-intrinsics.txt": "1 2 3 4"}, "4 numbers are no 3x3"),
        (frame_files(0) | {"camera-intrinsics.txt": "a"}, "camera-intrinsics.txt: could not convert"),
        (frame_files(0) | {"camera-intrinsics.txt": K.replace("40", "nan")}, "not finite"),
        (frame_files(0) | {"camera-intrinsics.txt": K.replace("0 0 1", "5 5 1")}, "is not .fx 0 cx"),
    ],
)
def test_a_root_that_cannot_be_read_says_what_to_do(tmp_path, files, message):
    with pytest.raises(UserError, match=message):
        frames_of(opened(write(tmp_path / "r", files)))
    with pytest.raises(UserError, match="no such directory"):
        opened(tmp_path / "none")


def first_of(source: RgbdSource) -> object:
    frame = next(source.frames(next(iter(source.scenes(None)))))
    return frame.image(), frame.depth_m and frame.depth_m()


@pytest.mark.parametrize("file", ["camera-intrinsics.txt", "frame-000000.pose.txt", "frame-000000.depth.png"])
def test_any_damage_gives_a_refusal_or_frames(root, file):
    source, path = opened(root), root / file
    assert survives(path.read_bytes(), path, lambda: first_of(source), seed=len(file))["refused"] > 10


@pytest.mark.parametrize("name", ["arkit", "record3d"])
def test_any_damage_to_a_json_gives_a_refusal_or_frames(tmp_path, name):
    matrix, file = pose(0).ravel().tolist(), {"arkit": "frame_0.json", "record3d": "metadata.json"}[name]
    about = {"cameraPoseARFrame": matrix, "intrinsics": [40.0, 0, 16, 0, 41, 12, 0, 0, 1], "poses": [matrix]}
    about["K"] = [40.0, 0, 0, 0, 41, 0, 16, 12, 1]
    files = {"frame_0.jpg": image(), "depth_0.png": encode_png16(STORED), "rgb/0.jpg": image()}
    files |= {"depth/0.npy": npy(), "conf_0.png": grey(SURE), "confidence/0.npy": npy(SURE)}
    path = write(tmp_path / "s", {**files, file: json.dumps(about)}) / file
    source = RgbdSource(str(tmp_path), RgbdSource.Options(patterns=str(YAMLS / f"{name}.yaml")), 0)
    assert survives(path.read_bytes(), path, lambda: first_of(source))["refused"] > 10


# Real frames


def test_real_neighbours_agree_and_the_folder_builds(tmp_path):
    root = needs_realdata("rgbd_7scenes")
    found = frames_of(opened(root))
    assert len(found) == 20

    def disagreement(here: Frame, there: Frame, inverted: bool = False) -> float:
        assert here.depth_m
        assert there.depth_m
        assert here.camera
        depth_m, other_m = here.depth_m(), there.depth_m()
        v, u = np.nonzero(np.isfinite(depth_m))
        v, u = v[::20], u[::20]
        points = unproject(here.camera, np.stack([u, v], 1) + 0.5, depth_m[v, u])
        first, second = (
            invert_pose(frame.world_from_cam) if inverted else np.asarray(frame.world_from_cam)
            for frame in (here, there)
        )
        moved = invert_pose(second) @ first
        points = points @ moved[:3, :3].T + moved[:3, 3]
        at = np.floor(project(here.camera, points))
        inside = ((at >= 0) & (at < (640, 480))).all(1)
        x, y = at[inside].astype(int).T
        return float(np.nanmedian(np.abs(other_m[y, x] / points[inside, 2] - 1)))

    assert max(disagreement(a, b) for a, b in pairwise(found[:10])) < 0.003
    assert disagreement(found[0], found[9]) < 0.004 < disagreement(found[0], found[9], inverted=True)
    build(BuildConfig(source="rgbd", root=str(root)), str(tmp_path / "out"), workers=1)
    assert verify(str(tmp_path / "out")).problems == []
