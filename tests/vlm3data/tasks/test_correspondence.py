"""Correspondences against exact ray casting, and a task that closes its loop."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import orjson
import pytest

from vlm3data.geometry import move_of, move_pixels, project, rays
from vlm3data.geometry.match import CENTRED_PX, match, shared_tracks
from vlm3data.geometry.warp import unify_image
from vlm3data.randomness import rng_for
from vlm3data.sources.synthetic import SyntheticSource
from vlm3data.synth.trace import trace
from vlm3data.tasks.correspondence import CorrespondenceTask, _places, _spread
from vlm3data.types import Camera, Cut, Drop, Question, SourceFacts, Tracks, UserError, View

FAR_M = 120.0
FACTS = SyntheticSource.facts


def staged(domain: str, seed: int, focal_px: float = 400.0) -> tuple:
    """Return a generated world and two views of it."""
    options = SyntheticSource.Options(domains=(domain,), scenes=1, views=2, width_px=256, height_px=192)
    source = SyntheticSource("", options, seed)
    (scene,) = source.scenes(None)
    views = []
    for frame in source.frames(scene):
        image, camera, scale, crop_xy_px = unify_image(frame.image(), frame.camera, focal_px)
        views.append(
            View(
                frame=frame.key,
                image=image,
                camera=camera,
                source_camera=frame.camera,
                scale=scale,
                crop_xy_px=crop_xy_px,
                depth_m=frame.depth_m(),
                depth_camera=frame.camera,
                world_from_cam=frame.world_from_cam,
            )
        )
    return source._staged(scene)[0], views


_, ROOM_VIEWS = staged("room", 3)


def asked(views: list[View], facts: SourceFacts = FACTS, seed: int = 0, **options: object) -> list[Question]:
    task = CorrespondenceTask(CorrespondenceTask.Options.model_validate(options))
    return task.ask(views, facts, "z", rng_for(seed, "t"))


def record(views: list[View]) -> dict:
    sizes = [(view.camera.width_px, view.camera.height_px) for view in views]
    return {"views": [{"camera": {"width_px": width, "height_px": height}} for width, height in sizes], "metric": True}


def seen_at(world, view: View, at_px: np.ndarray) -> float:
    """Return the exact depth along the ray through a continuous pixel: a camera whose only pixel lies there."""
    camera = view.camera
    one = Camera(camera.fx_px, camera.fy_px, camera.cx_px - at_px[0] + 0.5, camera.cy_px - at_px[1] + 0.5, 1, 1)
    return 1 / max(float(trace(world, one, view.world_from_cam, FAR_M).inverse_depth[0, 0]), 1e-9)


def errors(world, views: list[View], questions: list[Question]) -> tuple[np.ndarray, np.ndarray]:
    """Return the distance of each answer from the exact match, px, and how far behind the visible surface that is."""
    one, other = views
    off_px, hidden = [], []
    for question in questions:
        start = np.array(question.truth["pixel_px"]) + 0.5
        point = rays(one.camera, start) * seen_at(world, one, start)
        in_world = one.world_from_cam[:3, :3] @ point + one.world_from_cam[:3, 3]
        there = other.world_from_cam[:3, :3].T @ (in_world - other.world_from_cam[:3, 3])
        exact_px = project(other.camera, there)
        off_px.append(np.linalg.norm(exact_px - question.truth["pixel2_px"]))
        hidden.append(there[2] / seen_at(world, other, exact_px) - 1)
    return np.array(off_px), np.array(hidden)


@pytest.mark.parametrize(("domain", "seed"), [("room", 3), ("room", 5), ("hall", 1), ("street", 2)])
def test_matches_are_exact_and_nothing_hides_them(domain, seed):
    world, views = staged(domain, seed)
    off_px, hidden = errors(world, views, asked(views, pixels=150))
    assert len(off_px) == 150
    assert off_px.max() < 0.1
    assert np.abs(hidden).max() < 1e-3


def test_the_answer_leads_back_to_the_question():
    there = asked(ROOM_VIEWS, pixels=100)
    ends = np.array([question.truth["pixel2_px"] for question in there])
    found, back_px = match(ROOM_VIEWS[1], ROOM_VIEWS[0], np.floor(ends), FACTS.depth_noise)
    starts = np.array([question.truth["pixel_px"] for question in there]) + 0.5
    assert found.mean() > 0.8
    # Followed back from the centre of its pixel, a match moves by no more than the images differ in scale.
    assert np.median(np.linalg.norm(back_px - starts, axis=1)[found]) < 0.8


@pytest.mark.parametrize("scale", [8.0, 0.37, 1234.5])
def test_a_scene_of_another_scale_gives_the_same_text(scale):
    facts = replace(FACTS, metric=False, depth_noise=(0.0, 0.002))
    scaled = []
    for view in ROOM_VIEWS:
        pose = view.world_from_cam.copy()
        pose[:3, 3] *= scale
        scaled.append(replace(view, depth_m=view.depth_m * np.float32(scale), world_from_cam=pose))
    expected = [(question.question, question.answer) for question in asked(ROOM_VIEWS, facts)]
    assert [(question.question, question.answer) for question in asked(scaled, facts)] == expected


def test_no_length_is_in_what_is_asked_and_answered():
    for question in asked(ROOM_VIEWS, pixels=30):
        assert not re.search(r"\bm(eters?|etres?)?\b|\d\.\d", question.question + question.answer)


def test_the_questions_pixels_are_spread_over_what_both_views_show():
    views = [ROOM_VIEWS[0]] * 2
    pixels = np.array([question.truth["pixel_px"] for question in asked(views, pixels=24)])
    cells = pixels * (4, 3) // (views[0].camera.width_px, views[0].camera.height_px)
    assert len(np.unique(cells, axis=0)) >= 9
    assert len(np.unique(pixels, axis=0)) == 24
    other_draw = [question.truth["pixel_px"] for question in asked(views, pixels=24, seed=1)]
    assert other_draw != pixels.tolist()


def test_an_oracle_scores_perfectly_on_any_grid():
    for options, focal_px in (({}, 400.0), ({"grid": 1000}, 400.0), ({"grid": 100}, 1000.0)):
        views = staged("room", 3, focal_px)[1]
        task = CorrespondenceTask(CorrespondenceTask.Options(**options))
        for question in asked(views, **options):
            prediction = task.parse(question.answer, question.truth)
            assert prediction == tuple(question.truth["grid2_xy"])
            score = task.score(prediction, question.truth)
            assert score["epe_grid"] == 0
            assert [score[f"within_{px}px"] for px in (1, 3, 5)] == [1, 1, 1]
            if task.options.grid >= 1000:
                assert score["epe_px"] <= 0.7072
            assert task.problem_with(question, record(views)) is None
            assert orjson.loads(orjson.dumps(question.truth)) == question.truth
            named = [int(number) for number in re.findall(r"\d+", question.question)]
            assert "".join(map(str, question.truth["grid_xy"])) in "".join(map(str, named))


def test_a_constant_scores_at_chance_and_silence_nothing():
    task = CorrespondenceTask(CorrespondenceTask.Options())
    questions = asked(ROOM_VIEWS, pixels=200)
    middle = np.mean([task.score((1000.0, 1000.0), question.truth)["within_5px"] for question in questions])
    assert middle < 0.02
    score = task.score(None, questions[0].truth)
    assert np.isnan([score["epe_px"], score["epe_grid"]]).all()
    assert [score[f"within_{px}px"] for px in (1, 3, 5)] == [0, 0, 0]


def test_the_distance_is_from_the_named_pixels_centre_in_pixels_of_the_second_image():
    truth = {"grid": 2000, "sizes_px": [[64, 64], [500, 400]], "pixel2_px": [100.5, 50.5], "grid2_xy": [400, 250]}
    task = CorrespondenceTask(CorrespondenceTask.Options())
    assert task.score((400.0, 250.0), truth)["epe_px"] == 0
    score = task.score((412.0, 270.0), truth)  # 3 px right, 4 px down
    assert score["epe_px"] == pytest.approx(5)
    assert score["epe_grid"] == pytest.approx(np.hypot(12, 20))
    assert (score["within_1px"], score["within_3px"], score["within_5px"]) == (0, 0, 1)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("(640, 12)", (640, 12)),
        ("640, 12", (640, 12)),
        ("<think> maybe (3, 4) </think>\n\n<answer> (640.5, 12) </answer>", (640.5, 12)),
        ("(440, 60) in image 1 is (640, 12) in image 2.", (640, 12)),
        ("It stays at (440, 60).", (440, 60)),
        ("[640,12]", (640, 12)),
        ("(-3, 12)", (-3, 12)),
        ("The 2, 3 candidates lead to (640, 12).", (640, 12)),
        ("(640, 12) or (650, 12)", None),
        ("(640, 12, 7)", None),
        ("640", None),
        ("I cannot tell.", None),
        ("", None),
    ],
)
def test_one_point_is_read_and_of_several_none(answer, expected):
    task = CorrespondenceTask(CorrespondenceTask.Options())
    assert task.parse(answer, {"grid_xy": [440, 60]}) == expected


def test_a_damaged_question_is_found():
    (question, *_) = asked(ROOM_VIEWS)
    task, truth, about = CorrespondenceTask, question.truth, record(ROOM_VIEWS)
    turned = {key: truth[key][::-1] for key in ("pixel_px", "pixel2_px", "grid_xy", "grid2_xy")}
    for change, problem in (
        ({"pixel_px": turned["pixel_px"]}, "pixel_px"),
        ({"grid2_xy": turned["grid2_xy"]}, "grid2_xy"),
        ({"pixel2_px": [1e5, 3]}, "outside"),
        ({"sizes_px": truth["sizes_px"][::-1]}, "sizes_px"),
        ({"grid": 1000}, "grid_xy"),
    ):
        if truth | change != truth:
            assert problem in (task.problem_with(replace(question, truth=truth | change), about) or "")
    assert "answer" in (task.problem_with(replace(question, answer="(1, 2)"), about) or "")
    assert "question" in (task.problem_with(replace(question, question="Where?"), about) or "")


def far_wall(shift_m: float = 0.0, depth_m: float = 4.0) -> View:
    camera = Camera(200.0, 200.0, 80.0, 64.0, 160, 128)
    pose = np.eye(4)
    pose[0, 3] = shift_m
    return View(
        frame="f",
        image=np.zeros((128, 160, 3), np.uint8),
        camera=camera,
        source_camera=camera,
        scale=(1.0, 1.0),
        crop_xy_px=(0, 0),
        depth_m=np.full((128, 160), depth_m, np.float32),
        depth_camera=camera,
        world_from_cam=pose,
    )


def test_a_camera_moved_right_sees_things_farther_left():
    for question in asked([far_wall(), far_wall(0.333)]):
        (u, v), there = question.truth["pixel_px"], question.truth["pixel2_px"]
        assert there == pytest.approx((u + 0.5 - 0.333 * 200 / 4, v + 0.5), abs=0.002)


def test_views_that_do_not_share_enough_are_dropped_by_name():
    noise = replace(FACTS, depth_noise=(0.0, 0.01))
    near = far_wall(0.333, depth_m=3.0)
    for views, reason in (
        ([far_wall(), replace(near, world_from_cam=None)], "no_pose"),
        ([replace(far_wall(), depth_m=None), near], "no_depth"),
        ([replace(far_wall(), depth_m=None, tracks=Tracks(np.arange(1), np.ones((1, 2)))), near], "no_depth"),
        ([far_wall(), near], "no_correspondence"),  # something stands before the wall in one of them
        ([near, far_wall()], "no_correspondence"),
        ([far_wall(), far_wall(9.0)], "no_correspondence"),
        ([far_wall(), replace(near, depth_m=near.depth_m * np.float32(np.nan))], "no_correspondence"),
    ):
        with pytest.raises(Drop, match=reason) as caught:
            asked(views, noise)
        assert isinstance(caught.value, Cut)


def test_what_came_between_is_seen_even_without_parallax_and_a_long_baseline_asks_for_more_than_the_noise():
    wall, noisy = far_wall(), replace(FACTS, depth_noise=(0.0, 0.05))
    with pytest.raises(Cut, match="no_correspondence"):
        asked([wall, far_wall(depth_m=3.0)])  # from the same place: it leads back to the very pixel
    # 2.5 % apart is within the noise, but over two metres of baseline it is over two pixels.
    assert asked([wall, far_wall(0.5, depth_m=4.1)], noisy)
    with pytest.raises(Cut, match="no_correspondence"):
        asked([wall, far_wall(2.0, depth_m=4.1)], noisy)


def with_tracks(views: list[View], outliers: int = 0, seed: int = 0) -> list[View]:
    """Return the views without depth, but with observations of shared points, those of `outliers` moved away."""
    rng = np.random.default_rng(seed)
    width, height = views[0].camera.width_px, views[0].camera.height_px
    starts = np.stack([rng.integers(0, width, 4000), rng.integers(0, height, 4000)], axis=1)
    found, there_px = match(*views, starts, FACTS.depth_noise)
    names = rng.permutation(5000)[: found.sum()]
    ends = there_px[found]
    ends[:outliers] += rng.normal(0, 60, (outliers, 2))
    own = rng.permutation(np.arange(6000, 6100)), rng.uniform(0, 64, (100, 2))  # points that only the second sees
    order = rng.permutation(len(names))
    tracks = (
        Tracks(names, starts[found] + 0.5),
        Tracks(np.append(names[order], own[0]), np.concatenate([ends[order], own[1]])),
    )
    return [replace(view, depth_m=None, tracks=track) for view, track in zip(views, tracks, strict=True)]


@pytest.mark.parametrize(("domain", "seed"), [("room", 5), ("hall", 1)])
def test_points_of_a_sparse_reconstruction_match_where_there_is_no_depth(domain, seed):
    world, views = staged(domain, seed)
    off_px, hidden = errors(world, views, asked(with_tracks(views), pixels=100))
    assert len(off_px) == 100
    assert off_px.max() < 0.1
    assert np.abs(hidden).max() < 1e-3


def test_observations_that_the_poses_contradict_are_left_out():
    world, views = staged("room", 5)
    tracked = with_tracks(views, outliers=300)
    pixel_px, there_px = shared_tracks(*tracked)
    starts = np.floor(tracked[0].tracks.xy_px).astype(int).tolist()
    false = {tuple(start) for start in starts[:300]}
    kept = sum(tuple(pixel) in false for pixel in pixel_px.tolist())
    assert kept < 30  # a point moved along its epipolar line cannot be told
    assert len(pixel_px) > 0.9 * (len({tuple(start) for start in starts}) - 300)
    assert len(np.unique(pixel_px, axis=0)) == len(pixel_px) == len(there_px)
    off_px, _ = errors(world, views, asked(with_tracks(views), pixels=400))
    assert off_px.max() < 0.1


def test_a_shared_point_at_the_second_images_edge_is_left_out():
    starts = np.indices((160, 128)).reshape(2, -1).T + 0.5
    ends = starts - (0.31 * 200 / 4, 0)  # as the wall four metres away moves
    there = ((ends >= 0) & (ends < (160, 128))).all(axis=1)
    tracks = Tracks(np.arange(len(starts)), starts), Tracks(np.flatnonzero(there), ends[there])
    views = [
        replace(view, depth_m=None, tracks=track)
        for view, track in zip((far_wall(), far_wall(0.31)), tracks, strict=True)
    ]
    pixel_px, there_px = shared_tracks(*views)
    well_inside = ((ends >= 2) & (ends <= (158, 126))).all(axis=1)
    assert 0 < well_inside.sum() < there.sum()
    np.testing.assert_array_equal(pixel_px, np.floor(starts[well_inside]))
    np.testing.assert_allclose(there_px, ends[well_inside])


def test_nothing_is_asked_beside_an_edge_or_where_depth_is_unknown():
    views = [far_wall(), far_wall(0.111)]
    depths = [view.depth_m.copy() for view in views]
    for depth_m in depths:
        depth_m[40:80, 60:100] = 2.0  # the same hole and the same step in both, wherever they belong
        depth_m[100:] = np.nan
    views = [replace(view, depth_m=depth_m) for view, depth_m in zip(views, depths, strict=True)]
    pixels = np.indices((128, 160)).reshape(2, -1).T[:, ::-1]
    found, there_px = match(*views, pixels, (0.0, 0.01))
    assert found.sum() > 2000
    for points in (pixels[found] + 0.5, there_px[found]):
        assert points[:, 1].max() <= 98.5
        x, y = points.T
        across = ((y > 38.5) & (y < 81.5))[:, None] & (np.abs(x[:, None] - (60, 100)) < 1.49)
        along = ((x > 58.5) & (x < 101.5))[:, None] & (np.abs(y[:, None] - (40, 80)) < 1.49)
        assert not across.any()
        assert not along.any()


def test_a_depth_map_of_its_own_size_gives_the_same_matches():
    world, views = staged("room", 5)
    small = []
    for view in views:
        camera = view.depth_camera
        half = Camera(
            camera.fx_px / 2, camera.fy_px / 2, camera.cx_px / 2, camera.cy_px / 2,
            camera.width_px // 2, camera.height_px // 2,
        )  # fmt: skip
        depth_m = 1 / np.maximum(trace(world, half, view.world_from_cam, FAR_M).inverse_depth, 1e-9)
        small.append(replace(view, depth_m=depth_m.astype(np.float32), depth_camera=half))
    off_px, hidden = errors(world, small, asked(small, pixels=100))
    assert off_px.max() < 0.5
    assert np.abs(hidden).max() < 0.01


def test_the_grid_is_the_papers_unless_told_otherwise():
    (question, *_) = asked(ROOM_VIEWS)
    assert question.truth["grid"] == 2000


def test_pixels_of_the_stored_image_belong_to_the_source_they_came_from():
    view = ROOM_VIEWS[0]
    source_px = np.array([[100, 80], [30, 150]])
    moved = move_pixels(source_px, view.source_camera, view.scale, view.crop_xy_px)
    np.testing.assert_allclose(
        rays(view.camera, moved + 0.5), rays(view.source_camera, source_px + 0.5), atol=0.51 / view.camera.fx_px
    )


def test_the_named_pixel_of_the_source_is_the_one_that_holds_the_place():
    questions = asked(ROOM_VIEWS, pixels=40)
    task = CorrespondenceTask(CorrespondenceTask.Options())
    truths = [question.truth for question in task.to_source(questions, ROOM_VIEWS)]
    within = np.array([np.subtract(truth["xy_px"], truth["pixel_px"]) for truth in truths])
    assert len(truths) == len(questions)
    assert within.min() >= 0
    assert within.max() < 1
    named_px = np.array([question.truth["pixel_px"] for question in questions]) + 0.5
    xy_px = np.array([truth["xy_px"] for truth in truths])
    one = ROOM_VIEWS[0]
    np.testing.assert_allclose(project(one.camera, rays(one.source_camera, xy_px)), named_px, atol=1e-6)


def test_each_match_is_in_the_moved_images_beside_its_pixels_middle_or_cropped_away():
    task = CorrespondenceTask(CorrespondenceTask.Options())
    stored = task.to_source(asked(ROOM_VIEWS, pixels=400), ROOM_VIEWS)
    moves = [move_of(view.source_camera, 330.0) for view in ROOM_VIEWS]
    cut: Counter[str] = Counter()
    kept = task.to_view(stored, moves, cut)
    xy_px = [project(moves[i].camera, rays(moves[i].source_camera, xy)) for i, xy in enumerate(_places(stored))]
    size = [(move.camera.width_px, move.camera.height_px) for move in moves]
    inside = np.all([((xy >= 0) & (xy < size[i])).all(axis=1) for i, xy in enumerate(xy_px)], axis=0)
    centred = (np.abs(xy_px[0] % 1 - 0.5) <= CENTRED_PX).all(axis=1)
    assert cut == {"cropped": (~inside).sum(), "off_centre": (inside & ~centred).sum()}
    assert min(len(kept), *cut.values()) > 5
    assert [question.truth["pixel_px"] for question in kept] == np.floor(xy_px[0][inside & centred]).tolist()
    np.testing.assert_allclose(
        [question.truth["pixel2_px"] for question in kept], xy_px[1][inside & centred], atol=0.0006
    )


def test_another_pack_must_say_the_point(tmp_path):
    pack = tmp_path / "pack.yaml"
    pack.write_text('wordings: [{question: "{x} {y}?", answer: "<think> so </think> <answer>({x2}, {y2})</answer>"}]')
    (question, *_) = asked(ROOM_VIEWS, wordings=str(pack))
    task = CorrespondenceTask(CorrespondenceTask.Options(wordings=str(pack)))
    assert task.parse(question.answer, question.truth) == tuple(question.truth["grid2_xy"])
    assert task.about() != CorrespondenceTask(CorrespondenceTask.Options()).about()
    pack = tmp_path / "turned.yaml"
    pack.write_text('wordings: [{question: "{x} {y}?", answer: "({y2}, {x2})"}]')
    with pytest.raises(UserError, match=r"wordings.0.answer: .* does not say \(640, 12\)"):
        CorrespondenceTask(CorrespondenceTask.Options(wordings=str(pack)))


def test_wordings_vary():
    wordings = {re.sub(r"\d+", "", question.question) for question in asked(ROOM_VIEWS, pixels=60)}
    assert len(wordings) >= 5


def test_pixels_are_chosen_from_every_part_before_any_part_has_two():
    """One unknown row of cells: of the others each gives one, then each a second."""
    rng, size_px = np.random.default_rng(0), (320, 240)
    pixel_px = np.stack(np.meshgrid(np.arange(0, 320, 10), np.arange(0, 240, 10)), -1).reshape(-1, 2)
    found = pixel_px[:, 1] >= 40
    for count in (40, 80):
        chosen = pixel_px[_spread(pixel_px, found, size_px, count, rng)] // 40
        parts, times = np.unique(chosen, axis=0, return_counts=True)
        assert len(parts) == 8 * 5
        assert set(times) == {count // 40}
    assert len(_spread(pixel_px, found, size_px, 10_000, rng)) == found.sum()
