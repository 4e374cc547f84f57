"""Which frames are paired: overlapping ones, in an order drawn at random, no sample twice."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from vlm3data.build import BuildConfig, samples
from vlm3data.pairs import ScenePairs
from vlm3data.sources.synthetic import SyntheticSource
from vlm3data.types import Cut, Drop, Frame

VIEWS = 8
OPTIONS = {"domains": ("hall",), "scenes": 1, "views": VIEWS, "width_px": 96, "height_px": 64}


def frames() -> list[Frame]:
    source = SyntheticSource("", SyntheticSource.Options.model_validate(OPTIONS), 4)
    (scene,) = source.scenes(None)
    return list(source.frames(scene))


FRAMES = frames()


def pairs(changed: dict[int, Frame] | None = None, seed: int = 0, per_frame: int = 3) -> ScenePairs:
    shown = [(changed or {}).get(number, frame) for number, frame in enumerate(FRAMES)]
    return ScenePairs("scene", shown, SyntheticSource.facts, None, seed, per_frame)


def every_pair(scene: ScenePairs, anchors=range(VIEWS), per_frame: int = 3) -> list[tuple[int, str, str]]:
    found = []
    for anchor in anchors:
        for number in range(per_frame):
            try:
                one, other = scene.pair(anchor, number)
            except Cut:
                break
            found.append((anchor, one.key, other.key))
    return found


def test_a_pair_holds_the_frame_that_begins_it_and_another_and_none_comes_twice():
    drawn = [pair for seed in range(8) for pair in every_pair(pairs(seed=seed))]
    assert len(drawn) > 8 * VIEWS
    for anchor, one, other in drawn:
        assert FRAMES[anchor].key in (one, other)
        assert one != other
    for seed in range(8):
        ordered = Counter(pair[1:] for pair in every_pair(pairs(seed=seed)))
        assert max(ordered.values()) == 1, "one order of two frames is one sample"
    assert 0.35 < np.mean([FRAMES[anchor].key == one for anchor, one, _ in drawn]) < 0.65


def test_the_same_pairs_come_whichever_frames_are_asked_first():
    backwards = every_pair(pairs(), reversed(range(VIEWS)))
    assert sorted(backwards) == sorted(every_pair(pairs()))
    assert len(backwards) > VIEWS


def test_a_frame_without_pose_or_depth_is_nobodys_partner_and_says_what_it_lacks():
    def broken() -> np.ndarray:
        raise Drop("depth_unreadable")

    changed = {
        0: replace(FRAMES[0], world_from_cam=None),
        1: replace(FRAMES[1], depth_m=None),
        2: replace(FRAMES[2], depth_m=broken),
    }
    scene = pairs(changed)
    for anchor, reason in ((0, "no_pose"), (1, "no_depth_map"), (2, "depth_unreadable")):
        with pytest.raises(Drop) as drop:
            scene.pair(anchor, 0)
        assert drop.value.reason == reason
    left = {FRAMES[number].key for number in range(3, VIEWS)}
    drawn = every_pair(scene, range(3, VIEWS))
    assert drawn
    assert {key for pair in drawn for key in pair[1:]} <= left
    with pytest.raises(Cut, match="no_overlap"):
        scene.pair(3, 99)


def test_frames_whose_depth_is_known_in_part_have_partners_all_the_same():
    def partly(frame: Frame) -> np.ndarray:
        assert frame.depth_m is not None
        depth_m = frame.depth_m().copy()
        depth_m[:2] = np.nan
        return depth_m

    changed = {n: replace(frame, depth_m=lambda frame=frame: partly(frame)) for n, frame in enumerate(FRAMES)}
    assert len(every_pair(pairs(changed))) > VIEWS


def test_each_of_two_frames_is_shown_first_as_often_as_the_other():
    many = [replace(FRAMES[0], key=f"{number}") for number in range(200)]
    scene = ScenePairs("s", many, SyntheticSource.facts, lambda: np.full((200, 200), 0.4, np.float32), 0, 3)
    drawn = every_pair(scene, range(200))
    assert len(drawn) == 600
    assert 0.43 < np.mean([many[anchor].key == one for anchor, one, _ in drawn]) < 0.57


def test_the_keys_of_a_build_with_pairs_are_different():
    config = BuildConfig(
        source="synthetic",
        options=OPTIONS,
        tasks={"correspondence": {}, "pose": {}, "depth": {}},
        focal_px=120.0,
        pairs=4,
        seed=4,
    )
    made = list(samples(config))
    assert len({sample.key for sample in made}) == len(made) > 3 * VIEWS
    for sample in made:
        assert len(sample.images) == len(sample.record["views"]) == len(sample.record["frames"])
        tasks = {question.task for question in sample.questions}
        assert tasks <= ({"depth"} if len(sample.images) == 1 else {"correspondence", "pose"})


def test_with_overlap_known_the_partners_are_all_that_fit_and_no_other():
    rng, many, unusable = np.random.default_rng(2), 24, 5
    shares = rng.random((many, many)).astype(np.float32)  # a share of the row that the column shows: not symmetric
    shares[rng.random(shares.shape) < 0.1] = np.nan
    shown = [replace(FRAMES[0], key=f"{number}") for number in range(many)]
    shown[unusable] = replace(shown[unusable], world_from_cam=None)
    scene = ScenePairs("s", shown, SyntheticSource.facts, lambda: shares, 0, many)
    low, high = SyntheticSource.facts.pair_overlap
    fits = (np.minimum(shares, shares.T) > low) & (np.minimum(shares, shares.T) <= high)
    fits[unusable] = fits[:, unusable] = False
    np.fill_diagonal(fits, val=False)
    assert 0 < fits.sum() < fits.size / 2
    with pytest.raises(Cut, match="no_pose"):
        scene.pair(unusable, 0)
    for anchor in {*range(many)} - {unusable}:
        drawn = every_pair(scene, [anchor], many)
        partners = [int(one if other == f"{anchor}" else other) for _, one, other in drawn]
        assert sorted(partners) == np.flatnonzero(fits[anchor]).tolist()


def test_the_pairs_are_what_they_were():
    """Golden: a change here changes which pairs every dataset holds."""
    shown = [replace(FRAMES[0], key=f"{number}") for number in range(6)]
    shares = np.fromfunction(lambda i, j: 0.9 - 0.1 * abs(i - j), (6, 6))
    scene = ScenePairs("s", shown, SyntheticSource.facts, lambda: shares, 7, 2)
    assert (
        " ".join(f"{one}{other}" for _, one, other in every_pair(scene, range(6), 2))
        == "30 40 21 01 25 12 03 34 45 04 52 35"
    )
