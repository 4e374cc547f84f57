"""Every position reaches exactly one process, in an order that no worker count changes."""

from __future__ import annotations

from itertools import islice

import pytest

from vlm3data.mixture import Mixture
from vlm3data.stream import open_stream
from vlm3data.types import UserError
from vlm3train.data import Layout, LocalBatches, local_batches, make_loader


def _keys(batch):
    return [(sample.key, sample.epoch, [q.question for q in sample.questions]) for sample in batch]


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_global_batches_are_consecutive_positions_on_any_number_of_processes(mixture, world_size):
    spec = Mixture.load(mixture)
    expected = _keys(sample for _, sample in islice(open_stream(spec), 12, 48))
    layouts = [Layout(rank, world_size, 12 // world_size) for rank in range(world_size)]
    streams = [local_batches(spec, layout, layout.position(1)) for layout in layouts]
    for first in (0, 12, 24):
        shares = [_keys(next(stream).samples) for stream in streams]
        assert [share[i] for i in range(12 // world_size) for share in shares] == expected[first : first + 12]


@pytest.mark.parametrize("workers", [0, 2, 3])
def test_workers_change_nothing(mixture, workers):
    spec, layout = Mixture.load(mixture), Layout(1, 2, 2)
    expected = [_keys(drawn.samples) for drawn in islice(local_batches(spec, layout, 8), 7)]
    loader = make_loader(LocalBatches(spec, layout, 8), _keys, workers)
    assert list(islice(loader, 7)) == expected


def refuse(samples):
    raise UserError("sample x: is refused")


@pytest.mark.parametrize("workers", [0, 1])
def test_what_a_worker_refuses_is_said_in_its_own_words(mixture, workers):
    batches = LocalBatches(Mixture.load(mixture), Layout(0, 1, 2), 0)
    with pytest.raises(UserError, match=r"\Asample x: is refused\Z"):
        next(iter(make_loader(batches, refuse, workers)))
