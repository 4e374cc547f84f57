"""COLMAP reconstructions become frames: poses, lenses, sparse and dense depth, tracks, overlap; no length unasked."""

import io
import json
import re
import shutil

import fsspec
import numpy as np
import pytest
from PIL import Image

from tests.conftest import needs_realdata
from tests.tiny_colmap import FS, frames_at, rescale, rewrite, write_tiny
from vlm3data.build import BuildConfig, build, samples
from vlm3data.formats.colmap.model import Model
from vlm3data.geometry import project, rays, relative_pose
from vlm3data.geometry.match import match, shared_tracks
from vlm3data.geometry.sparse import shared_share
from vlm3data.geometry.warp import resample
from vlm3data.layouts._colmap.stage import set_up
from vlm3data.randomness import rng_for
from vlm3data.shards.verify import verify
from vlm3data.sources.colmap import ColmapSource
from vlm3data.synth.lidar import cast
from vlm3data.types import SourceFacts, UserError, View

LENGTH = re.compile(
    r"\d\s*(m|metres?|meters?|cm|mm|centimet\w+|feet|foot|ft|inch\w*|units?)\b|metre|meter", re.IGNORECASE
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("colmap"), dense=True)


@pytest.fixture(scope="module")
def truth(root):
    return json.loads((root.parent / "truth" / f"{root.name}.json").read_text())


def model_of(root):
    return Model(FS, str(root / "sparse" / "0"), "binary")


def pixels_of(frame):
    return np.asarray(Image.open(io.BytesIO(frame.image())))


def test_poses_and_depths_are_the_true_ones_where_the_unit_is_known(root, truth):
    frames = frames_at(root, metres_per_unit=truth["metres_per_unit"], min_track=2)
    true = [np.array(pose) for pose in truth["world_from_cam"].values()]
    stage = set_up("scene-0000", "room", "opencv", 6, (240, 180), rng_for(3, "colmap layout", "scene-0000"))
    for number, frame in enumerate(frames):
        for ours, expected in zip(
            relative_pose(frames[0].world_from_cam, frame.world_from_cam),
            relative_pose(true[0], true[number]),
            strict=True,
        ):
            np.testing.assert_allclose(ours, expected, atol=1e-9)
        points, tracks = frame.points(), frame.tracks()
        assert len(points.depth_m) > 50
        np.testing.assert_array_equal(points.pixel_px, np.floor(tracks.xy_px))
        ways = rays(frame.camera, tracks.xy_px) @ true[number][:3, :3].T
        z_m, _ = cast(stage.packed, np.broadcast_to(true[number][:3, 3], ways.shape), ways)
        np.testing.assert_allclose(points.depth_m, z_m, rtol=1e-6)


def test_without_a_unit_there_is_no_depth_label_and_no_world_up(root):
    source = ColmapSource(str(root), ColmapSource.Options(), 0)
    assert not source.facts.metric
    assert source.facts.world_up is None
    assert all(frame.points is None and frame.depth_m is None for frame in frames_at(root))


@pytest.mark.parametrize("lens", ["opencv", "fov", "thin_prism_fisheye"])
def test_an_image_shows_what_its_lens_says(lens, tmp_path):
    root = write_tiny(tmp_path, lens=lens, images=2, points=5, dense=True)
    for bent, straight in zip(frames_at(root), frames_at(root.parent / f"{root.name}-dense"), strict=True):
        undone = resample(pixels_of(bent), bent.camera, straight.camera, (1.0, 1.0), (0, 0))
        expected = pixels_of(straight)
        seen = (undone > 0).any(axis=2)
        assert seen.mean() > 0.9

        def apart(image, seen=seen, expected=expected):
            return np.abs(image[seen].astype(float) - expected[seen]).mean()

        assert apart(undone) < 0.7 * apart(pixels_of(bent))
        assert apart(undone) < 0.8 * apart(np.roll(undone, 1, axis=1))


def test_observations_project_to_their_pixels_exactly(root):
    model = model_of(root)
    for number, frame in enumerate(frames_at(root)):
        seen = model.images.observations(number)
        tracked = seen.point > 0
        assert (~tracked).any()
        xyz = model.points.xyz[model.points.find(seen.point[tracked])]
        pose = frame.world_from_cam
        xy = project(frame.camera, (xyz - pose[:3, 3]) @ pose[:3, :3])
        np.testing.assert_allclose(xy, seen.xy_px[tracked], atol=1e-8)


def test_the_overlap_is_the_share_of_points_seen_by_both(root):
    source = ColmapSource(str(root), ColmapSource.Options(), 0)
    model = model_of(root)
    shares = source.overlap(next(iter(source.scenes(None))))
    seen = [set(model.images.observations(number).point.tolist()) - {-1} for number in range(6)]
    brute = [[len(mine & others) / len(mine) for others in seen] for mine in seen]
    np.testing.assert_allclose(shares, brute, rtol=1e-6)
    assert not np.allclose(shares, shares.T)  # it says whose share


def test_an_image_with_hardly_a_point_overlaps_with_nobody_knows_what():
    shares = shared_share([np.arange(20), np.arange(5), np.arange(15, 30), np.zeros(0, np.int64)], at_least=10)
    expected = [[1, np.nan, 0.25, np.nan], [np.nan] * 4, [1 / 3, np.nan, 1, np.nan], [np.nan] * 4]
    np.testing.assert_allclose(shares, expected, rtol=1e-6)


def test_what_cannot_be_trusted_is_no_label(tmp_path):
    root = write_tiny(tmp_path, noise_px=0.7, images=5, points=60)
    model, (good, *_) = model_of(root), frames_at(root, max_error_px=1e9, min_track=2)
    everything = good.tracks()
    seen = model.images.observations(0)
    assert sorted(everything.point) == sorted(seen.point[seen.point > 0])
    strict = frames_at(root, max_error_px=0.5, min_track=4)[0].tracks()
    xyz = model.points.xyz[model.points.find(everything.point)]
    pose = good.world_from_cam
    error = np.linalg.norm(project(good.camera, (xyz - pose[:3, 3]) @ pose[:3, :3]) - everything.xy_px, axis=1)
    long = model.points.track_length[model.points.find(everything.point)] >= 4
    assert 0 < len(strict.point) < len(everything.point)
    assert set(strict.point) == set(everything.point[(error <= 0.5) & long])
    usual = frames_at(root)[0].tracks()
    three = model.points.track_length[model.points.find(everything.point)] >= 3
    assert not three.all()
    assert set(usual.point) == set(everything.point[(error <= 1) & three]), "two rays can agree by chance"


def test_a_point_that_an_image_observes_twice_is_left_out_of_it(tmp_path):
    root = write_tiny(tmp_path, images=3, points=40)
    before = frames_at(root)[0].tracks()

    def twice(number, image, seen):
        places = np.flatnonzero(seen.point == before.point[0])
        if number:
            return image, seen
        xy, point = np.vstack([seen.xy_px, seen.xy_px[places]]), np.append(seen.point, seen.point[places])
        return image, seen._replace(xy_px=xy, point=point)

    rewrite(root / "sparse" / "0", twice)
    assert set(frames_at(root)[0].tracks().point) == set(before.point) - {before.point[0]}


def test_dense_depth_is_exact_and_zero_is_unknown(root, truth):
    frames = frames_at(root.parent / f"{root.name}-dense", metres_per_unit=truth["metres_per_unit"])
    stage = set_up("scene-0000", "room", "opencv", 6, (240, 180), rng_for(3, "colmap layout", "scene-0000"))
    for frame, pose in zip(frames, truth["world_from_cam"].values(), strict=True):
        assert frame.points is None
        assert frame.camera.distortion is None
        depth_m, pixels = frame.depth_m(), np.random.default_rng(0).integers((0, 0), (240, 180), (200, 2))
        ways = rays(frame.depth_camera, pixels + 0.5) @ np.array(pose)[:3, :3].T
        z_m, _ = cast(stage.packed, np.broadcast_to(np.array(pose)[:3, 3], ways.shape), ways)
        ours = depth_m[pixels[:, 1], pixels[:, 0]]
        assert (np.abs(ours / z_m - 1) < 1e-4).mean() > 0.95  # two pixels at an edge may fall either way
        tracks = frame.tracks()
        assert len(tracks.point) > 30


def test_a_smaller_depth_map_has_a_camera_of_its_own(root, tmp_path):
    dense = shutil.copytree(root.parent / f"{root.name}-dense", tmp_path / "dense")
    for path in (dense / "stereo" / "depth_maps").iterdir():
        header, depth = b"240&180&1&", np.frombuffer(path.read_bytes()[10:], "<f4").reshape(180, 240)
        assert path.read_bytes().startswith(header)
        path.write_bytes(b"120&90&1&" + np.ascontiguousarray(depth[::2, ::2]).tobytes())
    frame = frames_at(dense)[0]
    assert frame.depth_m().shape == (90, 120)
    assert (frame.depth_camera.width_px, frame.depth_camera.height_px) == (120, 90)
    assert frame.depth_camera.fx_px == frame.camera.fx_px / 2
    assert frame.depth_camera.cy_px == frame.camera.cy_px / 2


def test_correspondences_from_tracks_and_from_depth_agree(root):
    views = []
    for frame in frames_at(root.parent / f"{root.name}-dense", min_track=2):
        camera = frame.camera
        about = {"camera": camera, "source_camera": camera, "depth_camera": camera, "depth_m": frame.depth_m()}
        pixels = np.zeros((camera.height_px, camera.width_px, 3), np.uint8)
        views.append(
            View(
                frame=frame.key, image=pixels, scale=(1.0, 1.0), crop_xy_px=(0, 0), tracks=frame.tracks(),
                world_from_cam=frame.world_from_cam, **about,
            )
        )  # fmt: skip
    compared = []
    for one in views:
        for other in views:
            if one is other:
                continue
            pixel_px, by_tracks = shared_tracks(one, other)
            found, by_depth = match(one, other, pixel_px, (0.0, 0.001))
            compared += np.linalg.norm(by_tracks - by_depth, axis=1)[found].tolist()
    assert len(compared) > 100
    # a pixel's centre is up to 0.42 px from the observation that it holds; nearer cameras see that larger
    assert np.median(compared) < 0.4
    assert max(compared) < 2.0


@pytest.mark.parametrize("dense", [False, True])
def test_the_unit_changes_no_question_and_no_answer(dense, root, tmp_path):
    asked = {}
    name, model = (f"{root.name}-dense", "sparse") if dense else (root.name, "sparse/0")
    for scale in (1.0, 0.125, 731.7):
        copy = shutil.copytree(root.parent / name, tmp_path / str(scale) / "scene")
        rescale(copy / model, scale)
        for path in (copy / "stereo" / "depth_maps").glob("*") if dense else []:
            data = path.read_bytes()
            path.write_bytes(data[:10] + (np.frombuffer(data[10:], "<f4") * np.float32(scale)).astype("<f4").tobytes())
        config = BuildConfig(source="colmap", root=str(copy), tasks={"correspondence": {}, "pose": {}}, focal_px=200.0)
        asked[scale] = list(samples(config))
    first = asked[1.0]
    assert len(first) > 1
    for others in asked.values():
        assert [sample.images for sample in others] == [sample.images for sample in first]
        assert [(q.question, q.answer) for sample in others for q in sample.questions] == [
            (q.question, q.answer) for sample in first for q in sample.questions
        ]
    assert [sample.questions for sample in asked[0.125]] == [sample.questions for sample in first]
    for sample in first:
        assert not sample.record["metric"]
        for question in sample.questions:
            assert not LENGTH.search(question.answer), question.answer
            assert question.truth.get("distance_m") is None


def test_depth_is_not_asked_of_a_model_without_a_unit_and_is_of_one_with(root, truth, tmp_path):
    config = BuildConfig(source="colmap", root=str(root), focal_px=200.0)
    with pytest.raises(UserError, match="not_metric"):
        build(config, str(tmp_path / "none"), workers=1)
    config = config.model_copy(update={"options": {"metres_per_unit": truth["metres_per_unit"]}})
    build(config, str(tmp_path / "out"), workers=1)
    assert verify(str(tmp_path / "out")).problems == []


def test_models_are_found_where_colmap_and_megadepth_put_them(root, tmp_path):
    def names(where, **options):
        return [scene.scene for scene in ColmapSource(str(where), ColmapSource.Options(**options), 0).scenes(None)]

    assert names(root) == ["scene-0000"]
    assert names(root.parent) == ["scene-0000", "scene-0000-dense"]
    several = tmp_path / "several"
    shutil.copytree(root / "images", several / "images")
    for number in (0, 2, 10):
        shutil.copytree(root / "sparse" / "0", several / "sparse" / str(number))
    assert names(several) == ["several-0", "several-2", "several-10"]
    assert names(several, model="sparse/2") == ["several"]
    (several / "sparse").rename(several / "manhattan")
    (several / "sparse").mkdir()
    (several / "manhattan").rename(several / "sparse" / "manhattan")
    assert names(several) == ["several-manhattan-0", "several-manhattan-2", "several-manhattan-10"]
    apart = {"images": str(root / "images"), "model": str(root / "sparse" / "0")}
    assert len(frames_at("", **apart)) == 6
    pixels_of(frames_at("", **apart)[0])
    with pytest.raises(UserError, match=r"3 models .*each with a unit of its own: name one with --model"):
        names(several, metres_per_unit=2.0)
    assert names(several, metres_per_unit=2.0, model="sparse/manhattan/2") == ["several"]


def test_a_model_in_an_object_store_reads_like_a_local_one(root):
    memory = fsspec.filesystem("memory")
    memory.put(str(root), "/bucket/scene", recursive=True)
    ours, theirs = frames_at(root), frames_at("memory://bucket/scene")
    assert [frame.key.rpartition("/")[2] for frame in ours] == [frame.key.rpartition("/")[2] for frame in theirs]
    assert ours[1].image() == theirs[1].image()
    np.testing.assert_array_equal(ours[1].tracks().xy_px, theirs[1].tracks().xy_px)


def test_the_real_model_reprojects_to_a_quarter_of_a_pixel():
    path = needs_realdata("colmap_lund")
    model = Model(FS, str(path / "sparse"), "text")
    errors, shifted = [], []
    for number, frame in enumerate(frames_at(path)):
        seen = model.images.observations(number)
        tracked, pose = seen.point >= 0, frame.world_from_cam
        xyz = model.points.xyz[model.points.find(seen.point[tracked])]
        off = project(frame.camera, (xyz - pose[:3, 3]) @ pose[:3, :3]) - seen.xy_px[tracked]
        errors.append(np.linalg.norm(off, axis=1))
        shifted.append(np.linalg.norm(off + 0.5, axis=1))
    assert 0.2 < np.median(np.concatenate(errors)) < 0.3
    assert np.median(np.concatenate(shifted)) > 0.6


def test_the_real_model_builds_and_verifies(tmp_path):
    path = needs_realdata("colmap_lund")
    config = BuildConfig(source="colmap", root=str(path), tasks={"correspondence": {}, "pose": {}}, limit=2)
    built = build(config, str(tmp_path / "out"), workers=1)
    assert built["samples"] == 2
    assert verify(str(tmp_path / "out")).problems == []


def test_the_facts_say_how_pixels_count():
    facts: SourceFacts = ColmapSource.facts
    assert "+0.5" in facts.pixel_centre
    assert facts.pair_overlap == (0.1, 0.7)
