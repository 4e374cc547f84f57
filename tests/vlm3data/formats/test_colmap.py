"""COLMAP's files: what is written is read back, by pycolmap too, and damage is one line or a counted drop."""

import struct
from contextlib import suppress

import fsspec
import numpy as np
import pycolmap
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import needs_realdata
from tests.vlm3data.formats.damage import CASES, survives
from vlm3data.formats.colmap import chain, points
from vlm3data.formats.colmap.cameras import MODELS, StoredCamera, stored
from vlm3data.formats.colmap.depth_map import decode_depth_map, encode_depth_map
from vlm3data.formats.colmap.images import Observations, StoredImage
from vlm3data.formats.colmap.model import Model, find_form
from vlm3data.formats.colmap.writing import WrittenPoints, write_model
from vlm3data.types import Camera, Distortion, Drop, UserError

FS = fsspec.filesystem("file")
FORMS = ("binary", "text")


def tiny(seed=0, num_images=4, num_points=30, cameras=None):
    """Return the cameras, images and points of a model whose tracks and observations agree."""
    rng = np.random.default_rng(seed)
    cameras = cameras or {1: StoredCamera("OPENCV", 640, 480, (500.0, 510.0, 320.0, 240.0, -0.1, 0.02, 1e-3, 1e-3))}
    observed = [rng.random(num_points) < 0.6 for _ in range(num_images)]
    images, track = [], []
    for number, sees in enumerate(observed):
        ids = np.where(rng.permutation(np.append(sees, [False] * 5)), 0, -1)
        ids[ids == 0] = 10 * (1 + np.flatnonzero(sees))
        xy = rng.uniform(0, 480, (len(ids), 2))
        track += [(point, number + 1, place) for place, point in enumerate(ids.tolist()) if point > 0]
        q = rng.normal(size=4)
        pose = tuple((q / np.linalg.norm(q)).tolist()), tuple(rng.normal(size=3).tolist())
        camera = sorted(cameras)[number % len(cameras)]
        images.append((StoredImage(number + 1, *pose, camera, f"dir/{number}.jpg"), Observations(xy, ids)))
    track = np.array(sorted(track)).reshape(-1, 3)
    ids = 10 * (1 + np.arange(num_points))
    first = np.searchsorted(track[:, 0], np.append(ids, 10**9))
    xyz, rgb = rng.normal(size=(num_points, 3)), rng.integers(0, 256, (num_points, 3)).astype(np.uint8)
    return cameras, images, WrittenPoints(ids, xyz, rgb, rng.uniform(0, 2, num_points), first, track[:, 1:])


def written(path, form="binary", **about):
    model = tiny(**about)
    write_model(FS, str(path), form, *model)
    return model, Model(FS, str(path), form)


@pytest.mark.parametrize("form", FORMS)
@given(seed=st.integers(0, 99), num_images=st.integers(1, 6), num_points=st.integers(0, 40))
@settings(max_examples=15)
def test_what_is_written_is_read_back(form, seed, num_images, num_points, tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    (cameras, images, table), model = written(path, form, seed=seed, num_images=num_images, num_points=num_points)
    assert model.cameras == {camera_id: camera.camera() for camera_id, camera in cameras.items()}
    assert list(model.images.images) == [image for image, _ in images]
    for number, (_, seen) in enumerate(images):
        read = model.images.observations(number)
        np.testing.assert_array_equal(read.xy_px, seen.xy_px)
        np.testing.assert_array_equal(read.point, seen.point)
    observed = model.images.all_observations()
    assert [points.tolist() for points in observed] == [sorted(set(seen.point.tolist()) - {-1}) for _, seen in images]
    for ours, theirs in (("point_id", "point_id"), ("xyz", "xyz"), ("error_px", "error_px")):
        np.testing.assert_array_equal(getattr(model.points, ours), getattr(table, theirs))
    np.testing.assert_array_equal(model.points.track_length, np.diff(table.first))


@pytest.mark.parametrize("form", FORMS)
def test_pycolmap_reads_what_we_write_and_we_read_what_it_writes(form, tmp_path):
    _, ours = written(tmp_path / "ours", form)
    theirs = pycolmap.Reconstruction(tmp_path / "ours")
    check_same(ours, theirs)
    (tmp_path / "theirs").mkdir()
    (theirs.write_binary if form == "binary" else theirs.write_text)(tmp_path / "theirs")
    assert find_form([path.name for path in (tmp_path / "theirs").iterdir()]) == form
    check_same(Model(FS, str(tmp_path / "theirs"), form), theirs)


def test_a_real_model_is_read_as_pycolmap_reads_it():
    path = needs_realdata("colmap_lund") / "sparse"
    check_same(Model(FS, str(path), "text"), pycolmap.Reconstruction(path))


def check_same(ours, theirs):
    assert len(ours.images.images) == len(theirs.images) > 0
    for number, image in enumerate(ours.images.images):
        other = theirs.images[image.image_id]
        assert image.name == other.name
        pose = other.cam_from_world() if callable(other.cam_from_world) else other.cam_from_world
        x, y, z, w = pose.rotation.quat
        np.testing.assert_allclose(image.wxyz, [w, x, y, z], atol=1e-12)
        np.testing.assert_allclose(image.translation, pose.translation, atol=1e-12)
        seen = ours.images.observations(number)
        np.testing.assert_allclose(seen.xy_px, np.array([point.xy for point in other.points2D]), atol=1e-12)
        ids = [point.point3D_id if point.has_point3D() else -1 for point in other.points2D]
        assert seen.point.tolist() == ids
    assert ours.points.point_id.tolist() == sorted(theirs.points3D)
    for place, point_id in enumerate(ours.points.point_id.tolist()[:500]):
        point = theirs.points3D[point_id]
        np.testing.assert_allclose(ours.points.xyz[place], point.xyz, atol=1e-12)
        assert ours.points.track_length[place] == point.track.length()
        assert ours.points.error_px[place] == pytest.approx(point.error, nan_ok=True)


@pytest.mark.parametrize("name", MODELS)
def test_every_camera_model_has_colmaps_number_and_parameters(name):
    model = MODELS[name]
    theirs = pycolmap.Camera.create_from_model_name(1, name, 500.0, 640, 480)
    assert int(pycolmap.CameraModelId.__members__[name]) == model.model_id
    assert len(theirs.params) == model.num_params
    assert (len(theirs.focal_length_idxs()) == 1) == model.one_focal
    camera = StoredCamera(name, 640, 480, tuple(theirs.params.tolist()))
    if not model.supported:
        with pytest.raises(Drop, match="camera_model_unsupported"):
            camera.camera()
        return
    ours = camera.camera()
    assert (ours.fx_px, ours.fy_px, ours.cx_px, ours.cy_px) == (500, 500, 320, 240)
    again = stored(ours).camera()
    assert again == ours


@pytest.mark.parametrize("form", FORMS)
def test_a_name_may_hold_blanks_and_bytes_that_are_no_text(form, tmp_path):
    written(tmp_path, form)
    path = tmp_path / f"images.{'bin' if form == 'binary' else 'txt'}"
    path.write_bytes(path.read_bytes().replace(b"dir/1.jpg", b"d r/1.jpg").replace(b"dir/2.jpg", b"d\xffr/2.jpg"))
    names = [image.name for image in Model(FS, str(tmp_path), form).images.images]
    assert names == ["dir/0.jpg", "d r/1.jpg", "d\\xffr/2.jpg", "dir/3.jpg"]


def test_a_camera_that_is_none_is_dropped_by_name():
    for params in ((np.nan, 1, 1), (500.0, np.inf, 1.0), (-500.0, 1.0, 1.0), (0.0, 1.0, 1.0)):
        with pytest.raises(Drop, match="bad_intrinsics"):
            StoredCamera("SIMPLE_PINHOLE", 640, 480, params).camera()
    with pytest.raises(Drop, match="bad_intrinsics"):
        StoredCamera("FOV", 640, 480, (500.0, 500.0, 1.0, 1.0, 4.0)).camera()
    with pytest.raises(Drop, match="bad_intrinsics"):
        StoredCamera("PINHOLE", 0, 480, (500.0, 500.0, 1.0, 1.0)).camera()


def test_opencvs_own_model_is_stored_as_colmaps_full_one():
    camera = Camera(500, 500, 320, 240, 640, 480, Distortion("brown_conrady", (-0.1, 0.02, 1e-3, 2e-3, 0.01)))
    assert stored(camera).model == "FULL_OPENCV"
    assert stored(camera).params[4:] == (-0.1, 0.02, 1e-3, 2e-3, 0.01, 0, 0, 0)


@given(st.integers(0, 10**6), st.sampled_from(["usual", "long", "empty", "lookalike"]), st.integers(1, 40_000))
@settings(max_examples=30)
def test_records_are_found_as_one_walk_would_find_them(seed, kind, cut):
    rng = np.random.default_rng(seed)
    lengths = {
        "usual": rng.geometric(0.2, 900),
        "long": rng.choice([2, 3, 2500], 60, p=[0.5, 0.4, 0.1]),
        "empty": rng.integers(0, 2, 1500),
        "lookalike": rng.geometric(0.02, 300),
    }[kind]
    data, starts = bytearray(), []
    for length in lengths.tolist():
        starts.append(len(data))
        filler = b"\x07\0\0\0\0\0\0\0" if kind == "lookalike" else rng.bytes(8)
        data += rng.bytes(43) + length.to_bytes(8, "little") + filler * length
    data, whole = bytes(data), np.array([*starts, len(data)])
    found, end = chain.record_starts(data, 10**9, 51, 43, 8)
    assert found.tolist() == starts
    assert end == len(data)
    part, end = chain.record_starts(data[:-cut], 10**9, 51, 43, 8)
    expected = int(np.searchsorted(whole, max(len(data) - cut, 0), side="right")) - 1
    assert part.tolist() == starts[: max(expected, 0)]
    some, end = chain.record_starts(data, 17, 51, 43, 8)
    assert (some.tolist(), end) == (starts[:17], whole[17])


@pytest.mark.parametrize("block", [64, 200, 1000])
def test_points_do_not_depend_on_how_much_is_read_at_once(block, tmp_path, monkeypatch):
    _, model = written(tmp_path, num_points=200)
    expected = model.points
    monkeypatch.setattr(points, "_BLOCK", block)
    again = Model(FS, str(tmp_path), "binary").points
    np.testing.assert_array_equal(again.xyz, expected.xyz)
    np.testing.assert_array_equal(again.track_length, expected.track_length)


@pytest.mark.parametrize("name", ["cameras", "images", "points3D"])
@pytest.mark.parametrize("form", FORMS)
def test_a_file_cut_off_anywhere_says_where(name, form, tmp_path):
    written(tmp_path, form, num_images=2, num_points=5)
    path = tmp_path / f"{name}.{'bin' if form == 'binary' else 'txt'}"
    data = path.read_bytes()
    for end in range(0, len(data) - 1, 3 if form == "binary" else 17):
        path.write_bytes(data[:end])
        model = Model(FS, str(tmp_path), form)
        if form == "binary":
            with pytest.raises(UserError, match=r"^[^\n]*(cameras|images|points3D).bin: [^\n]*$"):
                used(model)
        else:  # whole lines less are a smaller model
            with suppress(UserError):
                used(model)


def used(model):
    """Read everything."""
    table = model.points
    for number in range(len(model.images.images)):
        table.find(model.images.observations(number).point)


@pytest.mark.parametrize("name", ["cameras", "images", "points3D"])
def test_a_count_beyond_the_file_is_refused_before_anything_is_allocated(name, tmp_path):
    written(tmp_path)
    path = tmp_path / f"{name}.bin"
    data = path.read_bytes()
    for count in (len(data), 2**40, 2**64 - 1):
        path.write_bytes(struct.pack("<Q", count) + data[8:])
        with pytest.raises(UserError, match=rf"{name}.bin: says that it holds {count} .*more than its {len(data)}"):
            used(Model(FS, str(tmp_path), "binary"))


def test_an_absurd_track_or_number_of_observations_names_the_record(tmp_path):
    written(tmp_path)
    data = (tmp_path / "points3D.bin").read_bytes()
    (tmp_path / "points3D.bin").write_bytes(data[:51] + struct.pack("<Q", 2**62) + data[59:])
    with pytest.raises(UserError, match=r"points3D.bin: point record 0 at byte 8 \(id 10\): a track of 46116"):
        used(Model(FS, str(tmp_path), "binary"))
    (tmp_path / "points3D.bin").write_bytes(data)
    data = (tmp_path / "images.bin").read_bytes()
    at = data.index(b"dir/0.jpg") + 10
    (tmp_path / "images.bin").write_bytes(data[:at] + struct.pack("<Q", 2**61) + data[at + 8 :])
    with pytest.raises(UserError, match=r"image record 0 at byte 8 .*dir/0.jpg.*: 23058\d+ observations, more than"):
        used(Model(FS, str(tmp_path), "binary"))


def test_what_no_model_can_hold_is_refused_by_name(tmp_path):
    written(tmp_path)
    cameras, images, table = (tmp_path / f"{name}.bin" for name in ("cameras", "images", "points3D"))
    good = {path: path.read_bytes() for path in (cameras, images, table)}

    def refused(path, data, match):
        path.write_bytes(data)
        with pytest.raises(UserError, match=match):
            used(Model(FS, str(tmp_path), "binary"))
        path.write_bytes(good[path])

    data = good[cameras]
    refused(
        cameras, data[:12] + struct.pack("<i", 77) + data[16:], "camera record 0 at byte 8: unknown camera model id 77"
    )
    refused(cameras, data + b"\0", "1 bytes follow the last of its 1 cameras")
    data = good[images]
    refused(
        images,
        data[:68] + struct.pack("<I", 9) + data[72:],
        r"image 1 \(dir/0.jpg\) has camera 9, which .*cameras.bin",
    )
    refused(images, data.replace(b"1.jpg", b"0.jpg"), "two images have the name 'dir/0.jpg'")
    refused(images, data[:8] + struct.pack("<I", 2) + data[12:], "two images have the id '2'")
    refused(images, data + b"12", "2 bytes follow the last of its 4 images")
    data = good[table]
    refused(table, data[:8] + struct.pack("<Q", 20) + data[16:], "two points have the id 20")
    refused(table, data + b"123", "3 bytes follow the last of its 30 points")


def test_a_damaged_line_of_text_is_named(tmp_path):
    written(tmp_path, "text")
    for name, old, new, match in (
        ("cameras", b"OPENCV", b"ROUND", "cameras.txt: line 2: unknown camera model 'ROUND'"),
        ("cameras", b"640", b"six", "line 2: 'six' is no whole number"),
        ("cameras", b"640 480 500", b"640 480", "words, at least 12|7 parameters, OPENCV has 8"),
        ("images", b" 1 dir/2.jpg", b" 1", "images.txt: line 7: 9 words, at least 10"),
        ("points3D", b"\n10 ", b"\n10 x ", "points3D.txt: line 2: could not convert"),
    ):
        path = tmp_path / f"{name}.txt"
        data = path.read_bytes()
        assert old in data
        path.write_bytes(data.replace(old, new, 1))
        with pytest.raises(UserError, match=match):
            used(Model(FS, str(tmp_path), "text"))
        path.write_bytes(data)


@pytest.mark.parametrize("form", FORMS)
def test_damage_of_any_kind_is_one_line_or_a_drop(form, tmp_path):
    written(tmp_path, form, num_images=3, num_points=8)
    for path in sorted(tmp_path.iterdir()):
        came_of = survives(path.read_bytes(), path, lambda: used(Model(FS, str(tmp_path), form)), cases=CASES // 3)
        assert min(came_of.values()) > CASES / 60


def test_a_depth_map_is_read_row_by_row_and_its_zeros_are_unknown():
    depth = np.array([[1.5, np.nan, 2.0], [3.0, 4.0, 5.0]], np.float32)
    data = encode_depth_map(depth)
    assert data.startswith(b"3&2&1&")
    np.testing.assert_array_equal(decode_depth_map(data), depth)
    # as COLMAP's own scripts read it: Fortran order (width, height, channels), then transposed
    raw = np.frombuffer(data[6:], "<f4").reshape((3, 2, 1), order="F").transpose(1, 0, 2)[..., 0]
    np.testing.assert_array_equal(np.nan_to_num(depth), raw)
    bad = depth.copy()
    bad[0, 0], bad[0, 2] = -1, np.inf
    assert np.isnan(decode_depth_map(encode_depth_map(bad))[0, :2]).all()
    for broken in (data[:-1], data + b"\0", b"3&2&2&" + data[6:], b"3x2&1&" + data[6:], b"0&2&1&", b"3&0&1&", b""):
        with pytest.raises(Drop, match="depth_unreadable"):
            decode_depth_map(broken)
