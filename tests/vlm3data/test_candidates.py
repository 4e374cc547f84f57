"""Frames that a source promised and does not yield are counted: nothing gets lost without a trace."""

from __future__ import annotations

from vlm3data.build import BuildConfig, open_source
from vlm3data.candidates import candidates_of
from vlm3data.shards import ShardTally


def test_frames_that_do_not_come_are_counted_and_the_others_have_their_numbers(toy_root):
    config = BuildConfig(source="jsonl", root=str(toy_root), focal_px=150)
    (scene, *_) = open_source(config).scenes(None)
    whole = range(scene.num_frames)
    tally = ShardTally()
    parts = [(scene, 0, 1), (scene, scene.num_frames - 1, 5), (scene, 0, scene.num_frames)]
    found = [(each.part, each.number) for each in candidates_of(config, parts, tally)]
    assert found == [(0, 0), (1, scene.num_frames - 1), *((2, number) for number in whole)]
    assert tally.drops == {"frame_missing": 4}
