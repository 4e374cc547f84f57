"""WAI against the exact truth of synthetic scenes, and each thing that a scene_meta.json can have wrong."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import orjson
import pytest

from tests.vlm3data.formats.damage import CASES, survives
from vlm3data.build import BuildConfig, build, samples
from vlm3data.formats.exr import encode_exr
from vlm3data.formats.wai import read_scene_meta
from vlm3data.geometry import relative_pose
from vlm3data.layouts.wai import WaiLayout
from vlm3data.sources.wai import WaiSource
from vlm3data.types import Camera, Distortion, Drop, Frame, UserError

PAIR_TASKS: dict[str, dict[str, Any]] = {"correspondence": {}, "pose": {}}
SIZE = (160, 120)


def write(out: Path, **options: Any) -> Path:
    options = {"scenes": 1, "frames": 6, "width_px": SIZE[0], "height_px": SIZE[1]} | options
    WaiLayout(WaiLayout.Options(**options), 4).write(str(out), lambda *_: None)
    return out


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("wai")
    return {
        "metric": write(out / "metric"),
        "shared": write(out / "shared", shared_intrinsics=True, depth_share=0.5),
        "colmap": write(out / "colmap", scale_type="colmap"),
    }


@pytest.fixture
def root(written, tmp_path) -> Path:
    return Path(shutil.copytree(written["metric"], tmp_path / "root"))


def scene_of(root: Path) -> Path:
    return root / "synthetic" / "000000"


def opened(root: Path, **options: Any) -> WaiSource:
    return WaiSource(str(root), WaiSource.Options(**options), 0)


def frames(root: Path, **options: Any) -> list[Frame]:
    source = opened(root, **options)
    return list(source.frames(next(source.scenes(None))))


def edit(root: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    path = scene_of(root) / "scene_meta.json"
    meta = orjson.loads(path.read_bytes())
    change(meta)
    path.write_bytes(orjson.dumps(meta))
    return root


def edit_frame(root: Path, number: int = 0, **values: Any) -> Path:
    return edit(root, lambda meta: meta["frames"][number].update(values))


def reason(call: Callable[[], object]) -> str:
    with pytest.raises(Drop) as caught:
        call()
    return caught.value.reason


@pytest.mark.parametrize("kind", ["metric", "shared", "colmap"])
def test_cameras_poses_and_depth_are_the_truth_up_to_the_scale(written, kind):
    truth = orjson.loads((written[kind] / "truth" / "000000.json").read_bytes())
    scale = truth["scale"]
    assert (scale == 1) == (kind != "colmap")
    for number, (frame, exact) in enumerate(zip(frames(written[kind]), truth["frames"], strict=True)):
        assert frame.camera == Camera(**exact["camera"])
        pose = np.array(exact["world_from_cam"])
        np.testing.assert_allclose(frame.world_from_cam[:3, :3], pose[:3, :3], atol=1e-12)
        np.testing.assert_allclose(frame.world_from_cam[:3, 3] / scale, pose[:3, 3], atol=1e-9)
        exact_m = np.load(written[kind] / "truth" / f"000000-{number:06d}.depth.npy")
        depth_m = frame.depth_m() / scale
        if kind == "shared":
            assert depth_m.shape == (60, 80)
            assert frame.depth_camera.cx_px == pytest.approx(frame.camera.cx_px / 2)
            mean_m = exact_m.reshape(60, 2, 80, 2).mean(axis=(1, 3))  # over the four pixels around each centre
            assert np.nanmedian(np.abs(depth_m / mean_m - 1)) < 1e-3
        else:
            assert frame.depth_camera is None
            np.testing.assert_allclose(depth_m, exact_m, rtol=2**-11)


def test_the_kind_of_scale_is_the_datasets(written, tmp_path):
    facts = opened(written["metric"]).facts
    assert (facts.metric, facts.depth_range_m, facts.depth_noise) == (True, (0.01, 1000.0), (0.01, 0.005))
    facts = opened(written["colmap"]).facts
    assert (facts.metric, facts.depth_range_m) == (False, (0.0, np.inf))
    assert facts.depth_noise[0] == 0
    both = tmp_path / "both"
    for kind in ("metric", "colmap"):
        shutil.copytree(written[kind] / "synthetic", both / kind)
    with pytest.raises(UserError, match=r"of different scale_type; build what is metric and what is not as two"):
        list(opened(both).scenes(None))


def test_a_scene_that_does_not_state_its_scale_needs_to_be_told(root):
    edit(root, lambda meta: meta.pop("scale_type"))
    with pytest.raises(UserError, match="has no scale_type: pass --scale metric or colmap"):
        opened(root)
    assert opened(root, scale="metric").facts.metric
    assert not opened(root, scale="colmap").facts.metric
    edit(root, lambda meta: meta.update(scale_type="feet"))
    with pytest.raises(UserError, match=r"scene_meta\.json: scale_type: .*feet"):
        opened(root, scale="metric")


def asked(root: Path) -> list[tuple[str, str]]:
    made = samples(BuildConfig(source="wai", root=str(root), tasks=PAIR_TASKS, focal_px=120.0))
    return [(question.question, question.answer) for sample in made for question in sample.questions]


def test_the_scale_of_a_scene_is_in_no_question_and_no_answer(tmp_path):
    """Powers of two: WAI's half floats round any other scale anew."""
    colmap = {"scale_type": "colmap", "frames": 8}
    texts = [asked(write(tmp_path / str(scale), scale=scale, **colmap)) for scale in (1.0, 0.125, 256.0)]
    assert len(texts[0]) > 20
    assert all(text == texts[0] for text in texts[1:])


@pytest.mark.parametrize("kind", ["metric", "colmap"])
def test_lengths_are_told_only_where_the_scale_is_metric(written, kind):
    length = re.compile(r"\d\s*(m|cm|mm|km|met(er|re)s?|feet|foot|ft|inch(es)?)\b", re.IGNORECASE)
    answers = [answer for _, answer in asked(written[kind])]
    assert answers
    assert any(map(length.search, answers)) == (kind == "metric")


def test_metric_tasks_get_nothing_of_a_reconstruction(written, tmp_path):
    with pytest.raises(UserError, match="not_metric"):
        build(BuildConfig(source="wai", root=str(written["colmap"]), max_drop_rate=1.0), str(tmp_path / "out"))
    told = build(
        BuildConfig(source="wai", root=str(written["metric"]), focal_px=120.0), str(tmp_path / "metric"), workers=1
    )
    assert told["samples"] == 6


def test_the_directions_asked_for_are_those_of_the_truth(written):
    exact = orjson.loads((written["colmap"] / "truth" / "000000.json").read_bytes())["frames"]
    seen = 0
    for sample in samples(BuildConfig(source="wai", root=str(written["colmap"]), tasks={"pose": {}}, focal_px=120.0)):
        one, other = (np.array(exact[int(name[-6:])]["world_from_cam"]) for name in sample.record["frames"])
        rotation, shift_m = relative_pose(one, other)
        for question in sample.questions:
            np.testing.assert_allclose(question.truth["rotation"], rotation, atol=1e-9)
            if question.truth["translation_direction"] is not None:
                np.testing.assert_allclose(
                    question.truth["translation_direction"], shift_m / np.linalg.norm(shift_m), atol=1e-6
                )
                seen += 1
    assert seen > 5


def covisibility(root: Path) -> Path:
    (path,) = (scene_of(root) / "covisibility" / "v0").glob("*.npy")
    return path


def overlap(root: Path, **options: Any) -> np.ndarray | None:
    source = opened(root, **options)
    return source.overlap(next(source.scenes(None)))


def test_overlap_is_the_mean_of_both_ways_as_a_share_of_what_the_row_knows(root):
    seen = np.zeros((6, 6), np.float32)
    seen[:2, :2] = [[0.8, 0.2], [0.4, 0.5]]
    seen[2, 2] = 1
    seen[0, 3] = 0.5  # what has no depth itself may be seen all the same
    np.save(covisibility(root), seen)
    found = overlap(root)
    np.testing.assert_allclose(found[:2, :2], [[1, 0.3 / 0.8], [0.3 / 0.5, 1]])
    assert np.isnan(found[3:]).all()  # frames without any depth
    assert found[2, 0] == 0


def test_no_share_is_more_than_all_of_it(root):
    seen = np.zeros((6, 6), np.float32)
    seen[:2, :2] = [[0.2, 0.3], [0.9, 0.5]]  # the two ways may disagree: their mean is more than the first knows
    np.save(covisibility(root), seen)
    np.testing.assert_array_equal(overlap(root)[:2, :2], np.ones((2, 2), np.float32))


def test_without_a_covisibility_map_depth_and_pose_decide(root):
    before = asked(root)
    path = covisibility(root)
    edit(root, lambda meta: meta["scene_modalities"].clear())
    assert overlap(root) is not None  # the only file in its usual place
    path.unlink()
    assert overlap(root) is None
    assert len(asked(root)) > 0.5 * len(before) > 0


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (np.zeros((5, 5), np.float32), "not a number for each two of 6 frames"),
        (np.zeros((6, 6), int), "not a number for each two"),
        (np.array([[None]]), "not a number for each two"),
        (b"\x93NUMPY", "not a sound array"),
        (b"", "not a sound array"),
    ],
)
def test_a_covisibility_map_that_cannot_be_used_is_one_line(root, data, says):
    if isinstance(data, bytes):
        covisibility(root).write_bytes(data)
    else:
        np.save(covisibility(root), data)
    with pytest.raises(UserError, match=rf"\.npy: .*{says}"):
        overlap(root)


@pytest.mark.parametrize("name", ["../../../truth/000000.json", "covisibility/none.npy"])
def test_a_covisibility_map_that_is_elsewhere_is_one_line(root, name):
    edit(root, lambda meta: meta["scene_modalities"]["pairwise_covisibility"].update(scene_key=name))
    with pytest.raises(UserError, match="run the stage covisibility again"):
        overlap(root)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda meta: meta.update(camera_convention="opengl"), "camera_convention 'opengl'"),
        (lambda meta: meta.pop("camera_convention"), "camera_convention: Field required"),
        (lambda meta: meta.update(camera_model="EQUIRECTANGULAR"), "camera_model 'EQUIRECTANGULAR' is none of PINHOLE"),
        (lambda meta: meta.update(frames=[]), "lists no frames"),
        (lambda meta: meta.update(frames=[1]), "frames"),
        (lambda meta: meta.update(fl_x="wide"), "fl_x"),
        (lambda meta: meta["frames"][1].update(frame_name="000000"), "two frames are named '000000'"),
    ],
)
def test_a_scene_that_cannot_be_used_is_one_line(root, change, says):
    with pytest.raises(UserError, match=rf"scene_meta\.json: .*{says}") as caught:
        frames(edit(root, change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"transform_matrix": np.full((4, 4), 2.0).tolist()}, "pose_not_rigid"),
        ({"transform_matrix": [[1, 0], [0, 1]]}, "pose_not_rigid"),
        ({"transform_matrix": [["a"] * 4] * 4}, "pose_not_rigid"),
        ({"transform_matrix": 7}, "bad_record"),
        ({"frame_name": None}, "bad_record"),
        ({"fl_x": "wide"}, "bad_record"),
        ({"fl_x": 0}, "bad_intrinsics"),
        ({"fl_y": None}, "bad_intrinsics"),
        ({"w": 160.5}, "bad_intrinsics"),
        ({"k1": 0.1}, "bad_intrinsics"),
        ({"camera_model": "FOV"}, "bad_intrinsics"),
        ({"camera_model": "OPENCV", "k4": 0.1}, "bad_intrinsics"),
        ({"image": None, "file_path": None}, "bad_record"),
        ({"image": "../../../secret.png"}, "path_leaves_root"),
        ({"image": "images/none.png"}, "image_missing"),
    ],
)
def test_one_bad_frame_costs_one_frame(root, values, expected):
    listed = frames(edit_frame(root, **values))
    assert len(listed) == 6
    assert reason(listed[0].image) == expected
    assert all(isinstance(frame.image(), bytes) for frame in listed[1:])


@pytest.mark.parametrize(
    ("values", "lens"),
    [
        ({"camera_model": "OPENCV", "k1": 0.1, "p2": 0.01}, Distortion("brown_conrady", (0.1, 0, 0, 0.01, 0, 0, 0, 0))),
        ({"camera_model": "OPENCV", "k3": 0.2}, Distortion("brown_conrady", (0, 0, 0, 0, 0.2, 0, 0, 0))),
        ({"camera_model": "FULL_OPENCV", "k6": 0.3}, Distortion("brown_conrady", (0, 0, 0, 0, 0, 0, 0, 0.3))),
        ({"camera_model": "OPENCV_FISHEYE", "k1": 0.1, "k4": 0.4}, Distortion("opencv_fisheye", (0.1, 0, 0, 0.4))),
        ({"camera_model": "PINHOLE", "k1": 0}, None),
    ],
)
def test_lenses_are_read_by_their_names(root, values, lens):
    assert frames(edit_frame(root, **values))[0].camera.distortion == lens


@pytest.mark.parametrize(("name", "half"), [("asev2", 0.5), ("ASEv2", 0.5), ("ase", 0.5), ("spring", 0.0)])
def test_aria_synthetic_environments_count_pixels_from_their_centres(root, name, half):
    usual = frames(root)[0].camera
    edit(root, lambda meta: meta.update(dataset_name=name))
    camera = frames(root)[0].camera
    assert (camera.cx_px, camera.cy_px) == (usual.cx_px + half, usual.cy_px + half)


def test_intrinsics_of_a_frame_come_before_the_scenes(written, tmp_path):
    root = Path(shutil.copytree(written["shared"], tmp_path / "root"))
    usual = frames(root)[1].camera
    listed = frames(edit_frame(root, 1, fl_x=99.0))
    assert (listed[1].camera.fx_px, listed[1].camera.fy_px) == (99.0, usual.fy_px)
    assert listed[0].camera == usual


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("../../../secret.exr", b"", "path_leaves_root"),
        ("depth/none.exr", None, "depth_missing"),
        ("depth/bad.exr", b"not EXR", "corrupt_depth"),
        ("depth/000000.tiff", b"II", "corrupt_depth"),
    ],
)
def test_a_depth_map_that_cannot_be_read_is_told_when_it_is(root, name, data, expected):
    if data and not name.startswith(".."):
        (scene_of(root) / name).write_bytes(data)
    frame = frames(edit_frame(root, depth=name))[0]
    assert isinstance(frame.image(), bytes)
    assert reason(frame.depth_m) == expected


def test_depth_that_cannot_be_is_unknown(root):
    depth = np.full(SIZE[::-1], 2.0, np.float32)
    depth[0, :4] = 0, -1, np.inf, np.nan
    (scene_of(root) / "depth" / "000000.exr").write_bytes(encode_exr(depth))
    found = frames(root)[0].depth_m()
    assert np.isnan(found[0, :4]).all()
    assert (found[1:] == 2).all()


def test_png_depth_needs_the_size_of_a_count(root):
    path = scene_of(root) / "depth" / "000000.png"
    counts = np.full(SIZE[::-1], 1500, np.uint16)
    counts[0, 0] = 0
    path.write_bytes(cv2.imencode(".png", counts)[1].tobytes())
    edit_frame(root, depth="depth/000000.png")
    with pytest.raises(UserError, match="say what a count of it is with --png-metres"):
        frames(root)[0].depth_m()
    depth_m = frames(root, png_metres=0.001)[0].depth_m()
    assert np.isnan(depth_m[0, 0])
    np.testing.assert_allclose(depth_m[1:], 1.5)


def test_depth_counts_only_inside_the_mask(root):
    mask = np.zeros((60, 80), bool)
    mask[:, 40:] = True
    (scene_of(root) / "mask.png").write_bytes(cv2.imencode(".png", 255 * mask.astype(np.uint8))[1].tobytes())
    edit(root, lambda meta: meta["frame_modalities"].update(pred_mask={"moge2": {"frame_key": "moge2_mask"}}))
    edit_frame(root, moge2_mask="mask.png")
    listed = frames(root)
    depth_m = listed[0].depth_m()
    assert np.isnan(depth_m[:, :80]).all()
    assert np.isfinite(depth_m[:, 80:]).mean() > 0.5
    assert np.isfinite(listed[1].depth_m()[:, :80]).any()
    (scene_of(root) / "mask.png").unlink()
    assert reason(listed[0].depth_m) == "mask_missing"


def test_grey_of_a_mask_is_inside_from_the_middle_on_and_in_its_own_rows_and_columns(root):
    depth = np.full(SIZE[::-1], 2.0, np.float32)
    (scene_of(root) / "depth" / "000000.exr").write_bytes(encode_exr(depth))
    mask = np.zeros((60, 80), np.uint8)
    mask[10, 70], mask[50, 5], mask[0, 0] = 255, 128, 127
    (scene_of(root) / "mask.png").write_bytes(cv2.imencode(".png", mask)[1].tobytes())
    edit(root, lambda meta: meta["frame_modalities"].update(pred_mask={"moge2": {"frame_key": "moge2_mask"}}))
    known = np.argwhere(np.isfinite(frames(edit_frame(root, moge2_mask="mask.png"))[0].depth_m()))
    expected = [(2 * row + down, 2 * column + right) for row, column in ((10, 70), (50, 5))
                for down in (0, 1) for right in (0, 1)]  # fmt: skip
    assert sorted(map(tuple, known.tolist())) == sorted(expected)


def test_true_depth_comes_before_rendered_depth_and_the_image_before_the_distorted_file(root):
    for name, metres in (("a", 2.0), ("b", 3.0)):
        (scene_of(root) / f"{name}.exr").write_bytes(encode_exr(np.full(SIZE[::-1], metres, np.float32)))
    both = {"rendered_depth": {"frame_key": "rendered"}, "depth": {"frame_key": "depth"}}
    edit(root, lambda meta: meta["frame_modalities"].update(both))
    image = frames(root)[0].image()
    edit_frame(root, depth="a.exr", rendered="b.exr", file_path="images_distorted/none.png")
    for said, metres in (({}, 2.0), ({"depth": "depth"}, 2.0), ({"depth": "rendered_depth"}, 3.0)):
        frame = frames(root, **said)[0]
        assert (frame.depth_m() == metres).all()
        assert frame.image() == image


def test_predicted_depth_must_be_asked_for_and_counts_where_it_is_confident(root):
    def change(meta: dict[str, Any]) -> None:
        meta["frame_modalities"] = {
            "image": {"frame_key": "image"},
            "pred_depth": {"mvsanywhere": {"frame_key": "mvs_depth"}},
            "depth_confidence": {"mvsanywhere": {"frame_key": "mvs_confidence"}},
        }
        for frame in meta["frames"]:
            frame |= {"mvs_depth": frame.pop("depth"), "mvs_confidence": "confidence.exr"}

    confidence = np.full((30, 40), 0.2, np.float32)
    confidence[:, 20:] = 0.3
    (scene_of(root) / "confidence.exr").write_bytes(encode_exr(confidence))
    edit(root, change)
    assert frames(root)[0].depth_m is None
    depth_m = frames(root, depth="pred_depth/mvsanywhere")[0].depth_m()
    assert np.isnan(depth_m[:, :80]).all()
    assert np.isfinite(depth_m[:, 80:]).any()
    sure = np.full(SIZE[::-1], 0.5, np.float32)
    sure[0, :2] = 0.25, np.nan
    (scene_of(root) / "confidence.exr").write_bytes(encode_exr(sure))
    (scene_of(root) / "depth" / "000000.exr").write_bytes(encode_exr(np.full(SIZE[::-1], 2.0, np.float32)))
    unknown = np.argwhere(np.isnan(frames(root, depth="pred_depth/mvsanywhere")[0].depth_m()))
    assert unknown.tolist() == [[0, 0], [0, 1]], "not more than a quarter, or not a number"
    with pytest.raises(UserError, match=r"--depth pred_depth/moge2: .* has no such modality"):
        frames(root, depth="pred_depth/moge2")


def test_rendered_depth_is_depth_too(root):
    edit(root, lambda meta: meta.update(frame_modalities={"rendered_depth": {"frame_key": "depth"}}))
    assert frames(root)[0].depth_m is not None


def test_a_scene_is_found_wherever_it_lies(written, tmp_path):
    for place in (written["metric"], written["metric"] / "synthetic", scene_of(written["metric"])):
        assert [scene.num_frames for scene in opened(place).scenes(None)] == [6]
    with pytest.raises(UserError, match=r"no scene_meta\.json in it .* undistort"):
        opened(written["metric"] / "truth")
    with pytest.raises(UserError, match="no such directory"):
        opened(tmp_path / "nowhere")


def test_a_changed_scene_changes_the_stamp(root):
    before = next(opened(root).scenes(None)).stamp
    edit_frame(root, fl_x=100.0)
    assert next(opened(root).scenes(None)).stamp != before


def test_damaged_scenes_end_in_a_result_or_in_one_line(root):
    path = scene_of(root) / "scene_meta.json"

    def read() -> None:
        source = opened(root)
        for scene in source.scenes(None):
            list(source.frames(scene))

    assert min(survives(path.read_bytes(), path, read, CASES // 6).values()) > 0
    maps = covisibility(root)
    assert survives(maps.read_bytes(), maps, lambda: overlap(root), CASES // 6)["refused"] > 0
    with pytest.raises(UserError, match="not valid JSON"):
        read_scene_meta(b"{", "x")
