"""The schedule is a pure function with exact shares and exact epochs, at any position."""

from __future__ import annotations

import pickle
from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vlm3data.schedule import BLOCK, HORIZON_BLOCKS, Course, Leaf, Schedule, _apportion

weights = st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=40)
shard_sizes = st.lists(st.integers(0, 9), min_size=1, max_size=40).filter(any)


def schedule(shares: list[float], sizes: list[tuple[int, ...]] | None = None, seed: int = 7) -> Schedule:
    sizes = sizes or [(5, 3)] * len(shares)
    total = sum(shares)
    leaves = [Leaf(f"d{i}", f"f{i}", size) for i, size in enumerate(sizes)]
    return Schedule(seed, Course.constant([share / total for share in shares]), leaves)


@given(weights, st.integers(0, 1 << 30))
@example([0.5] + [0.5 / 39] * 39, 17)
@example([1.0, 1e-6], 1)
@settings(max_examples=300, deadline=None)
def test_at_every_multiple_of_64_each_count_is_within_one_of_its_share(shares, block):
    drawn = schedule(shares).counts(block * BLOCK)
    ideal = block * BLOCK * np.array(shares) / sum(shares)
    assert drawn.sum() == block * BLOCK
    assert np.abs(drawn - ideal).max() < 1


@given(weights, st.integers(0, 1 << 24))
@settings(max_examples=100, deadline=None)
def test_counts_at_the_ends_of_a_block_are_what_the_block_serves(shares, block):
    order = schedule(shares)
    served = Counter(order.locate(block * BLOCK + i).dataset for i in range(BLOCK))
    difference = order.counts((block + 1) * BLOCK) - order.counts(block * BLOCK)
    assert [served[i] for i in range(len(shares))] == difference.tolist()


@given(shard_sizes, st.integers(0, 3), st.integers(0, 1000))
@settings(max_examples=100, deadline=None)
def test_every_epoch_serves_every_sample_once(sizes, epoch, seed):
    order = schedule([1.0], [tuple(sizes)], seed)
    total = sum(sizes)
    places = [order.locate(n) for n in range(epoch * total, (epoch + 1) * total)]
    assert sorted(place.sample for place in places) == list(range(total))
    assert {place.epoch for place in places} == {epoch}


def test_epochs_are_shuffled_differently():
    order = schedule([1.0], [(50, 50)])
    first, second = ([order.locate(n + start).sample for n in range(100)] for start in (0, 100))
    assert first != second != sorted(second)


@given(st.floats(0.01, 1.0), st.floats(0.01, 1.0))
@settings(max_examples=30, deadline=None)
def test_a_datasets_own_order_does_not_depend_on_the_others(weight, other):
    def own(order: Schedule, name: str) -> list[tuple[int, int]]:
        places = (order.locate(n) for n in range(20 * BLOCK))
        return [(p.epoch, p.sample) for p in places if order.leaves[p.dataset].name == name]

    sizes = [(5, 3), (20, 1), (4,)]
    alone = own(schedule([1.0], sizes[:1]), "d0")
    mixed = own(schedule([weight, other, 0.3], sizes), "d0")
    assert mixed == alone[: len(mixed)]


@given(weights, st.lists(st.integers(0, 10**9), min_size=1, max_size=5))
@settings(max_examples=50, deadline=None)
def test_a_position_is_the_same_whatever_was_asked_before_and_wherever(shares, positions):
    fresh = [schedule(shares).locate(n) for n in positions]
    used = schedule(shares)
    for n in range(0, 1000, 37):
        used.locate(n)
    assert [pickle.loads(pickle.dumps(used)).locate(n) for n in positions] == fresh  # noqa: S301
    assert [used.locate(n) for n in positions] == fresh


def test_another_seed_or_fingerprint_gives_another_order():
    def order(seed: int, fingerprint: str) -> list[int]:
        leaf = Leaf("d", fingerprint, (100, 100))
        return [Schedule(seed, Course.constant([1.0]), [leaf]).locate(n).sample for n in range(200)]

    assert len({tuple(order(*args)) for args in ((1, "a"), (2, "a"), (1, "b"))}) == 3


def test_the_order_is_that_of_every_release():
    """Golden: a run that was started with an older version must go on in the same order."""
    order = schedule([0.7, 0.2, 0.1], [(5, 3), (20,), (4, 4, 4)])
    assert [tuple(order.locate(n)) for n in (0, 1, 2, 63, 64, 1000, 10**9)] == GOLDEN


GOLDEN = [(0, 0, 0), (0, 0, 7), (0, 0, 3), (0, 5, 2), (0, 5, 6), (0, 87, 7), (0, 87500000, 4)]


@pytest.mark.parametrize("n", [-1, HORIZON_BLOCKS * BLOCK])
def test_positions_beyond_the_horizon_are_refused(n):
    with pytest.raises(IndexError, match="horizon"):
        schedule([1.0]).locate(n)


def test_an_epoch_goes_through_windows_of_16_shards():
    """Until a window is empty, no shard of another is touched; the last window has what is left."""
    order = schedule([1.0], [(3,) * 40])
    shard_of = [order.locate(n).sample // 3 for n in range(120)]
    windows = [set(shard_of[first : first + 48]) for first in (0, 48, 96)]
    assert [len(window) for window in windows] == [16, 16, 8]
    assert set.union(*windows) == set(range(40))


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20), st.floats(0, 90)), min_size=1, max_size=8), st.data())
@settings(max_examples=300, deadline=None)
def test_whole_numbers_stay_between_their_limits_and_add_up(rows, data):
    low, room, ideal = (np.array(column) for column in zip(*rows, strict=True))
    total = data.draw(st.integers(int(low.sum()), int((low + room).sum())))
    counts = _apportion(ideal.astype(float), total, low, low + room)
    assert counts.sum() == total
    assert (low <= counts).all()
    assert (counts <= low + room).all()
