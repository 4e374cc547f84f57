"""MegaDepth against the exact truth of synthetic places, in both preparations; each thing that can be wrong with it."""

from __future__ import annotations

import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from fsspec.implementations.local import LocalFileSystem
from PIL import Image

from tests.vlm3data.formats.damage import CASES, survives
from vlm3data.build import BuildConfig, build, samples
from vlm3data.formats.hdf5 import read_array, write_array
from vlm3data.formats.scene_info import read_scene_info
from vlm3data.geometry import project, rays, relative_pose, rotation_angle_deg
from vlm3data.layouts.megadepth import DATASET, UNDISTORTED, MegadepthLayout
from vlm3data.sources.megadepth import MegadepthSource
from vlm3data.types import Camera, Cut, Drop, Frame, UserError

FORMS = ("d2net", "loftr")
PAIR_TASKS: dict[str, dict[str, Any]] = {"correspondence": {}, "pose": {}}
DENSE = f"{DATASET}/0000/dense0"
FS = LocalFileSystem()


def write(out: Path, **options: Any) -> Path:
    options = {"places": 1, "photos": 10, "long_side_px": 192, "ordinal": 0.3} | options
    MegadepthLayout(MegadepthLayout.Options(**options), 3).write(str(out), lambda *_: None)
    return out


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> dict[str, Path]:
    return {form: write(tmp_path_factory.mktemp("megadepth") / form, form=form) for form in FORMS}


@pytest.fixture
def root(written, tmp_path) -> Path:
    """Return a copy of D2-Net's form that a test may damage."""
    return Path(shutil.copytree(written["d2net"], tmp_path / "root"))


def opened(root: Path, **options: Any) -> MegadepthSource:
    return MegadepthSource(str(root), MegadepthSource.Options(**options), 0)


def frames(root: Path, **options: Any) -> list[Frame]:
    source = opened(root, **options)
    return list(source.frames(next(source.scenes(None))))


def truth_of(root: Path) -> dict[str, Any]:
    return orjson.loads((root / "truth" / "0000.json").read_bytes())


def edit(root: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Change the arrays of a root's one scene_info file."""
    path = root / "scene_info" / "0000.npz"
    with np.load(path, allow_pickle=True) as file:
        arrays = dict(file)
    change(arrays)
    np.savez(path, **arrays)
    return root


def reason(call: Callable[[], object]) -> str:
    with pytest.raises(Drop) as caught:
        call()
    return caught.value.reason


@pytest.mark.parametrize("form", FORMS)
def test_cameras_poses_and_depth_are_the_truth_up_to_the_scale(written, form):
    truth, usable = truth_of(written[form]), []
    for number, (frame, photo) in enumerate(zip(frames(written[form]), truth["photos"], strict=True)):
        if not photo["listed"]:
            assert reason(frame.image) == "not_prepared"
            continue
        assert frame.camera == Camera(**photo["camera"])
        if photo["ordinal"]:
            assert frame.depth_m is not None
            with pytest.raises(Cut, match="ordinal_depth"):
                frame.depth_m()
            continue
        exact_m = np.load(written[form] / "truth" / f"0000-{number:05d}.depth.npy")
        np.testing.assert_allclose(frame.depth_m() / truth["scale"], exact_m, rtol=1e-6)
        usable.append((frame.world_from_cam, np.array(photo["world_from_cam"])))
    assert len(usable) >= 5
    assert sum(photo["ordinal"] for photo in truth["photos"]) >= 2
    for pose, exact in usable[1:]:
        rotation, shift = relative_pose(usable[0][0], pose)
        exact_rotation, exact_shift_m = relative_pose(usable[0][1], exact)
        np.testing.assert_allclose(rotation, exact_rotation, atol=1e-9)
        np.testing.assert_allclose(shift / truth["scale"], exact_shift_m, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_what_one_photograph_shows_lies_where_the_other_shows_it(written, form):
    """Lifted by depth, moved by pose, projected: the other depth map holds the same depth there, nearly everywhere.

    Neither a pose that is not inverted, nor depth in another unit than the poses, would leave that so.
    """
    source, agreeing = opened(written[form]), []
    for scene in source.scenes(None):
        listed, overlap = list(source.frames(scene)), source.overlap(scene)
        for i, j in np.argwhere(np.minimum(overlap, overlap.T) > 0.3).tolist():
            try:
                agreeing.append(_agreement(listed[i], listed[j]))
            except Cut:
                continue
    assert len(agreeing) >= 6
    assert np.median(agreeing) > 0.8


def _agreement(one: Frame, other: Frame) -> float:
    """Return the share of pixels of `one` inside `other`, at whose places `other` has their depth."""
    assert one.depth_m
    assert other.depth_m
    assert other.camera
    depth, other_depth = one.depth_m(), other.depth_m()
    v, u = np.nonzero(np.isfinite(depth))
    points = rays(one.camera, np.stack([u, v], 1) + 0.5) * depth[v, u, None]
    world = points @ one.world_from_cam[:3, :3].T + one.world_from_cam[:3, 3]
    there = (world - other.world_from_cam[:3, 3]) @ other.world_from_cam[:3, :3]
    xy = np.nan_to_num(np.floor(project(other.camera, there)), nan=-1).astype(int)
    inside = ((xy >= 0) & (xy < (other.camera.width_px, other.camera.height_px))).all(axis=1)
    found = other_depth[xy[inside, 1], xy[inside, 0]]
    nearer = found < 0.98 * there[inside, 2]  # hidden by something: says nothing
    return float((np.abs(found / there[inside, 2] - 1) < 0.02)[~nearer].mean())


def asked(root: Path, **config: Any) -> list[tuple[str, str]]:
    made = samples(BuildConfig(source="megadepth", root=str(root), tasks=PAIR_TASKS, focal_px=120.0, **config))
    return [(question.question, question.answer) for sample in made for question in sample.questions]


def test_the_scale_of_a_place_is_in_no_question_and_no_answer(tmp_path):
    texts = [asked(write(tmp_path / str(scale), scale=scale)) for scale in (1.0, 0.037, 731.3, 2.0**-20)]
    assert len(texts[0]) > 40
    assert all(text == texts[0] for text in texts[1:])


@pytest.mark.parametrize("form", FORMS)
def test_no_length_is_in_any_sample(written, form):
    length = re.compile(r"\d\s*(m|cm|mm|km|met(er|re)s?|feet|foot|ft|inch(es)?)\b", re.IGNORECASE)
    config = BuildConfig(source="megadepth", root=str(written[form]), tasks=PAIR_TASKS, focal_px=120.0)
    kinds = set()
    for sample in samples(config):
        assert sample.record["metric"] is False
        for question in sample.questions:
            assert not length.search(question.answer), question.answer
            assert question.truth.get("distance_m") is None
            kinds.add(question.truth.get("kind", question.task))
    assert kinds == {"correspondence", "rotation_angle", "euler", "direction"}


def test_metric_tasks_get_nothing(written, tmp_path):
    with pytest.raises(UserError, match="not_metric"):
        build(BuildConfig(source="megadepth", root=str(written["d2net"]), max_drop_rate=1.0), str(tmp_path / "out"))


def test_the_facts_name_no_length_and_pairs_are_those_that_loftr_trains_on():
    facts = MegadepthSource.facts
    assert (facts.metric, facts.depth_range_m, facts.depth_noise) == (False, (0.0, np.inf), (0.0, 0.02))
    assert facts.pair_overlap == (0.1, 0.7)


def test_what_is_left_out_is_counted_by_name(written, tmp_path):
    config = BuildConfig(source="megadepth", root=str(written["d2net"]), tasks=PAIR_TASKS, focal_px=120.0)
    told = build(config, str(tmp_path / "out"), workers=1)
    photos = truth_of(written["d2net"])["photos"]
    assert told["cuts"]["not_prepared"] == sum(not photo["listed"] for photo in photos)
    assert told["cuts"]["ordinal_depth"] > 0
    assert not told["drops"]


def test_d2nets_overlaps_are_read_as_stored(written):
    source = opened(written["d2net"])
    with np.load(written["d2net"] / "scene_info" / "0000.npz", allow_pickle=True) as file:
        stored = file["overlap_matrix"]
    found = source.overlap(next(source.scenes(None)))
    np.testing.assert_array_equal(np.isnan(found), stored < 0)
    np.testing.assert_allclose(found[stored >= 0], stored[stored >= 0], rtol=1e-6)
    assert np.nanmax(np.abs(found - found.T)) > 0.02  # the row is the one whose points are counted


def test_an_overlap_is_the_share_of_the_row_that_the_column_shows(written):
    source = opened(written["d2net"])
    scene = next(source.scenes(None))
    listed, overlap = list(source.frames(scene)), source.overlap(scene)
    usable = [
        n for n, photo in enumerate(truth_of(written["d2net"])["photos"]) if photo["listed"] and not photo["ordinal"]
    ]
    difference = np.where(np.isnan(overlap), 0, overlap - overlap.T)
    i, j = max(((i, j) for i in usable for j in usable), key=lambda pair: difference[pair])
    assert _inside(listed[i], listed[j]) > _inside(listed[j], listed[i])


def _inside(one: Frame, other: Frame) -> float:
    """Return the share of pixels of `one` that lie in the image of `other`."""
    assert one.depth_m
    assert other.camera
    depth = one.depth_m()
    v, u = np.nonzero(np.isfinite(depth))
    points = rays(one.camera, np.stack([u, v], 1) + 0.5) * depth[v, u, None]
    there = (points @ one.world_from_cam[:3, :3].T + one.world_from_cam[:3, 3] - other.world_from_cam[:3, 3]) @ (
        other.world_from_cam[:3, :3]
    )
    xy = np.nan_to_num(project(other.camera, there), nan=-1)
    return float(((xy >= 0) & (xy < (other.camera.width_px, other.camera.height_px))).all(axis=1).mean())


def test_an_overlap_that_is_no_share_is_unknown(root):
    stored = np.full((10, 10), 0.5)
    stored[0, :6] = (1.01, -1, np.nan, 0, 1, np.inf)
    source = opened(edit(root, put("overlap_matrix", stored)))
    found = source.overlap(next(source.scenes(None)))[0, :7]
    np.testing.assert_array_equal(found, np.float32([np.nan, np.nan, np.nan, 0, 1, np.nan, 0.5]))


def test_loftrs_files_hold_their_own_range_of_overlap_each(written):
    source = opened(written["loftr"])
    scenes = list(source.scenes(None))
    assert [scene.scene for scene in scenes] == ["0000_0.1_0.3", "0000_0.3_0.5", "0000_0.5_0.7"]
    for scene in scenes:
        low, high = (float(word) for word in scene.scene.split("_")[1:])
        overlap = source.overlap(scene)
        np.testing.assert_array_equal(overlap, overlap.T)
        known = overlap[~np.isnan(overlap)]
        assert known.size
        assert ((known > low) & (known <= high)).all()


def test_loftrs_files_are_raw_pickles_that_numpy_reads(written):
    path = written["loftr"] / "scene_info_0.1_0.7" / "0000_0.3_0.5.npz"
    assert path.read_bytes().startswith(b"\x80")
    info = np.load(path, allow_pickle=True)
    assert isinstance(info, dict)
    assert {value.dtype for value in info.values()} == {np.dtype(object)}
    (i, j), share, matches = info["pair_infos"][0]
    assert info["poses"][i].shape == (4, 4)
    assert isinstance(share, float)
    assert isinstance(matches, np.ndarray)
    assert None in list(info["image_paths"])
    assert j < len(info["image_paths"])


def test_places_belong_to_the_split_that_others_evaluate_on(root):
    for name in ("0015", "0022_0.1_0.3", "0008", "1589", "5018"):
        shutil.copy(root / "scene_info" / "0000.npz", root / "scene_info" / f"{name}.npz")
    splits = {scene.scene: scene.split for scene in opened(root).scenes(None)}
    assert splits == {
        "0000": "train", "0008": "test", "0015": "val", "0022_0.1_0.3": "val", "1589": "test", "5018": "train",
    }  # fmt: skip


def test_without_the_undistorted_copies_megadepths_own_images_are_read(root):
    before = [frame.image() for frame in frames(root) if frame.camera]
    shutil.rmtree(root / UNDISTORTED)
    assert [frame.image() for frame in frames(root) if frame.camera] == before
    for path in (root / DENSE / "imgs").iterdir():
        with Image.open(path) as image:
            image.reduce(2).save(path)
    assert {reason(frame.image) for frame in frames(root)} == {"not_prepared", "image_size_mismatch"}


def test_a_depth_map_of_another_size_has_its_own_camera(root):
    for path in (root / DENSE / "depths").iterdir():
        path.write_bytes(write_array("depth", read_array(path.read_bytes(), "depth")[::3, ::3]))
    for frame in frames(root):
        if frame.camera is None:
            continue
        camera = frame.depth_camera
        assert camera is not None
        assert camera.fx_px / camera.width_px == pytest.approx(frame.camera.fx_px / frame.camera.width_px)
        assert camera.cy_px / camera.height_px == pytest.approx(frame.camera.cy_px / frame.camera.height_px)
        assert (camera.width_px, camera.height_px) == tuple(
            -(-side // 3) for side in (frame.camera.width_px, frame.camera.height_px)
        )
    assert asked(root)
    for path in (root / DENSE / "depths").iterdir():
        path.write_bytes(write_array("depth", read_array(path.read_bytes(), "depth")[:, ::2]))
    with pytest.raises(UserError, match="depth_size_mismatch"):
        build(BuildConfig(source="megadepth", root=str(root), tasks=PAIR_TASKS, max_drop_rate=1.0), str(root / "out"))


def test_megadepth_alone_says_which_preparation_is_missing(root, tmp_path):
    shutil.rmtree(root / "scene_info")
    with pytest.raises(UserError, match=r"neither poses nor intrinsics; run D2-Net's preparation or .* LoFTR's index"):
        opened(root)
    (root / "scene_info").mkdir()
    with pytest.raises(UserError, match=r"holds no \.npz file"):
        opened(root)
    with pytest.raises(UserError, match="no such directory"):
        opened(tmp_path / "nowhere")


def test_several_preparations_must_be_chosen_from(root):
    shutil.copytree(root / "scene_info", root / "index" / "scene_info_val_1500")
    with pytest.raises(UserError, match=r"scene_info, index/scene_info_val_1500; choose one with --scene-info"):
        opened(root)
    assert len(frames(root, scene_info="index/scene_info_val_1500")) == 10


def rename(name: str, new: str) -> Callable[[dict[str, Any]], None]:
    def change(arrays: dict[str, Any]) -> None:
        arrays[new] = arrays.pop(name)

    return change


def put(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda arrays: arrays.__setitem__(name, value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (rename("poses", "pose"), "holds no poses"),
        (put("poses", np.zeros((3, 4, 4))), "different lengths"),
        (put("depth_paths", np.array(None)), "depth_paths is not a list"),
        (put("fact_x", np.zeros(3)), "first version of D2-Net's preparation"),
        (rename("overlap_matrix", "overlaps"), "neither overlap_matrix"),
        (put("overlap_matrix", np.zeros((9, 9))), "overlap_matrix is not one number"),
        (put("overlap_matrix", np.zeros((10, 10), int)), "overlap_matrix is not one number"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(root, change, says):
    with pytest.raises(UserError, match=rf"0000\.npz: .*{says}"):
        frames(edit(root, change))


def object_array(*items: Any) -> np.ndarray:
    array = np.empty(len(items), object)
    array[:] = items
    return array


@pytest.mark.parametrize(
    "pair",
    [(0, 1), ((0, 1),), ((0, 10), 0.5), ((-1, 0), 0.5), ((0, 1), 1.5), ((0, 1), float("nan")), ((0.5, 1), 0.5), 7],
)
def test_a_pair_that_cannot_be_is_one_line(written, tmp_path, pair):
    root = Path(shutil.copytree(written["loftr"], tmp_path / "root"))
    path = root / "scene_info_0.1_0.7" / "0000_0.1_0.3.npz"
    info = np.load(path, allow_pickle=True)
    info["pair_infos"] = [((0, 1), 0.2, None), pair]
    path.write_bytes(pickle.dumps(info))
    with pytest.raises(UserError, match=r"0000_0\.1_0\.3\.npz: pair_infos\[1\]"):
        frames(root)


def test_a_pickle_that_asks_for_more_is_one_line(root, tmp_path):
    class Evil:
        def __reduce__(self):
            return (tmp_path / "ran").touch, ()

    for whole in ({"image_paths": Evil()}, Evil()):
        (root / "scene_info" / "0000.npz").write_bytes(pickle.dumps(whole))
        with pytest.raises(UserError, match=r"0000\.npz: not read, because its pickle names .*, which no array needs"):
            frames(root)
    edit_with = root / "scene_info" / "0000.npz"
    np.savez(edit_with, image_paths=object_array(Evil()))
    with pytest.raises(UserError, match=r"0000\.npz: image_paths: not read"):
        frames(root)
    assert not (tmp_path / "ran").exists()


def first(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Change the entry of the first photograph that is listed."""

    def change(arrays: dict[str, Any]) -> None:
        at = next(number for number, path in enumerate(arrays["image_paths"]) if path is not None)
        items = list(arrays[name])
        items[at] = value
        arrays[name] = object_array(*items)

    return change


K = np.array([[100.0, 0, 80], [0, 100, 60], [0, 0, 1]])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (first("intrinsics", np.eye(4)), "bad_intrinsics"),
        (first("intrinsics", K * [[1, 1, np.nan]]), "bad_intrinsics"),
        (first("intrinsics", np.add(K, [[0, 3, 0], [0, 0, 0], [0, 0, 0]])), "bad_intrinsics"),
        (first("intrinsics", np.add(K, [[0, 0, 0], [3, 0, 0], [0, 0, 0]])), "bad_intrinsics"),
        (first("intrinsics", K.T), "bad_intrinsics"),
        (first("intrinsics", np.multiply(K, [[1], [1], [2]])), "bad_intrinsics"),
        (first("intrinsics", -K), "bad_intrinsics"),
        (first("intrinsics", "K"), "bad_intrinsics"),
        (first("poses", np.full((4, 4), -np.inf)), "pose_not_rigid"),
        (first("poses", 2 * np.eye(4)), "pose_not_rigid"),
        (first("poses", np.diag([1.0, 1, -1, 1])), "pose_not_rigid"),
        (first("poses", np.eye(3)), "pose_not_rigid"),
        (first("poses", None), "not_prepared"),
        (first("image_paths", 7), "bad_record"),
        (first("image_paths", "../secret.jpg"), "path_leaves_root"),
        (first("image_paths", "/etc/passwd"), "path_leaves_root"),
        (first("image_paths", f"{UNDISTORTED}/0000/images/none.jpg"), "image_missing"),
        (first("image_paths", f"{UNDISTORTED}/0000/images"), "image_missing"),
        (first("image_paths", "truth/0000.json"), "image_unreadable"),
    ],
)
def test_one_bad_photograph_costs_one_photograph(root, change, expected):
    reasons = []
    for frame in frames(edit(root, change)):
        try:
            frame.image()
        except Drop as drop:
            reasons.append(drop.reason)
    assert reasons.count(expected) == 1 + (expected == "not_prepared") * _unlisted(root)
    assert set(reasons) <= {expected, "not_prepared"}


def _unlisted(root: Path) -> int:
    return sum(not photo["listed"] for photo in truth_of(root)["photos"])


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("../secret.h5", "path_leaves_root"),
        (f"{DENSE}/depths/none.h5", "depth_missing"),
        ("truth/0000.json", "corrupt_hdf5"),
    ],
)
def test_a_depth_map_that_cannot_be_read_is_told_when_it_is(root, path, expected):
    usable = [frame for frame in frames(edit(root, first("depth_paths", path))) if frame.camera]
    assert usable[0].depth_m is not None
    assert reason(usable[0].depth_m) == expected
    assert isinstance(usable[0].image(), bytes)


def test_depth_that_cannot_be_is_unknown(root):
    frame = next(frame for frame in frames(root) if frame.camera)
    stored = np.full((frame.camera.height_px, frame.camera.width_px), 2.0, np.float64)
    stored[0, :5] = 0, np.nan, np.inf, 1e300, 1e-300
    for path in (root / DENSE / "depths").iterdir():
        path.write_bytes(write_array("depth", stored))
    depth = frame.depth_m()
    assert depth.dtype == np.float32
    assert np.isnan(depth[0, :5]).all()
    assert (depth[1:] == 2).all()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("poses", np.eye(4)),
        ("intrinsics", K),
        ("intrinsics", np.add(K, [[0, 0, 1], [0, 0, 0], [0, 0, 0]])),
        ("image_paths", "a.jpg"),
        ("depth_paths", "a.h5"),
        ("poses", None),
    ],
)
def test_whatever_is_said_of_a_photograph_is_in_the_stamp(root, name, value):
    edit(root, first("intrinsics", np.add(K, [[0, 0, 0], [0, 0, 1], [0, 0, 0]])))
    before = next(opened(root).scenes(None)).stamp
    assert next(opened(root).scenes(None)).stamp == before
    edit(root, first(name, value))
    assert next(opened(root).scenes(None)).stamp != before


@pytest.mark.parametrize("form", FORMS)
def test_damaged_scene_infos_end_in_a_result_or_in_one_line(written, tmp_path, form):
    (good, *_) = sorted(written[form].glob("scene_info*/*.npz"))
    path = tmp_path / "damaged.npz"
    came_of = survives(good.read_bytes(), path, lambda: read_scene_info(FS, str(path)), CASES // 5)
    assert came_of["refused"] > 0


def test_turns_between_photographs_are_those_of_the_truth(written):
    """What pose questions ask about, through the whole build."""
    photos = truth_of(written["d2net"])["photos"]
    config = BuildConfig(source="megadepth", root=str(written["d2net"]), tasks={"pose": {}}, focal_px=120.0)
    seen = 0
    for sample in samples(config):
        one, other = (
            np.array(photos[int(name.rpartition("-")[2])]["world_from_cam"]) for name in sample.record["frames"]
        )
        rotation, shift_m = relative_pose(one, other)
        for question in sample.questions:
            assert rotation_angle_deg(np.array(question.truth["rotation"]).T @ rotation) < 1e-5
            direction = question.truth["translation_direction"]
            if direction is not None:
                np.testing.assert_allclose(direction, shift_m / np.linalg.norm(shift_m), atol=1e-6)
                seen += 1
    assert seen > 5
