"""Every position reaches exactly one process, in an order that no worker count changes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vlm3data.build import BuildConfig, build
from vlm3data.mixture import Mixture
from vlm3data.shards.original import Unify
from vlm3data.stream import open_stream
from vlm3data.types import UserError
from vlm3train import image_sizes
from vlm3train.data import Layout, LocalBatches, make_loader, said_if_a_worker_dies
from vlm3train.image_sizes import ImageSizes


def _keys(batch):
    return [(sample.key, sample.epoch, [q.question for q in sample.questions]) for sample in batch]


@pytest.mark.parametrize(("world_size", "grad_accum"), [(1, 1), (2, 1), (3, 1), (1, 4), (2, 3), (3, 2)])
def test_every_step_has_the_same_samples_on_any_number_of_processes(mixture, world_size, grad_accum):
    spec = Mixture.load(mixture)
    expected = _keys(sample for _, sample in islice(open_stream(spec), 12, 48))
    layouts = [Layout(rank, world_size, 12 // world_size // grad_accum, grad_accum) for rank in range(world_size)]
    streams = [LocalBatches(spec, layout, 12).batches() for layout in layouts]
    for first in (0, 12, 24):
        shares = [_keys(next(stream).samples) for _ in range(grad_accum) for stream in streams]
        assert sorted(key for share in shares for key in share) == sorted(expected[first : first + 12])


@pytest.mark.parametrize("world_size", [1, 2])
def test_images_of_one_size_come_together(mixture, world_size):
    spec = Mixture.load(mixture)
    layouts = [Layout(rank, world_size, 6 // world_size, 2) for rank in range(world_size)]
    streams = [LocalBatches(spec, layout, 0).batches() for layout in layouts]
    for _ in range(3):
        micros = [[sample for stream in streams for sample in next(stream).samples] for _ in range(2)]
        smaller, larger = ([_pixels(sample) for sample in micro] for micro in micros)
        assert max(smaller) <= min(larger)


def test_images_of_one_size_keep_the_streams_order(mixture, tmp_path):
    only = tmp_path / "one.yaml"
    only.write_text(Path(mixture).read_text().replace("pixels: 3", "pixels: 3, where: width_px = 64"))
    spec = Mixture.load(only)
    sizes = {_pixels(sample) for _, sample in islice(open_stream(spec), 12)}
    assert len(sizes) == 1, "the test needs images of one size"
    batches = LocalBatches(spec, Layout(1, 2, 3), 6).batches()
    expected = _keys(sample for _, sample in islice(open_stream(spec, rank=1, world_size=2, start=6), 6))
    assert _keys(next(batches).samples) + _keys(next(batches).samples) == expected


def test_a_pair_is_as_large_as_both_its_images(tmp_path):
    config = BuildConfig(
        source="synthetic",
        options={"width_px": 96, "height_px": 96, "scenes": 3, "views": 2, "size_jitter": 0.0},
        tasks={"depth": {}, "correspondence": {}},
        focal_px=80.0,
    )
    build(config, str(tmp_path / "shards"), workers=1)
    path = tmp_path / "mix.yaml"
    path.write_text(f"seed: 5\ndatasets:\n  toy: {{shards: {tmp_path / 'shards'}, weight: 1.0}}\n")
    with open_stream(path) as stream:
        pixels = {n: _pixels(sample) * len(sample.images) for n, sample in islice(stream, 24)}
    order = ImageSizes(Mixture.load(path)).order(range(24))
    assert [pixels[n] for n in order] == sorted(pixels.values())


def _pixels(sample):
    camera = sample.record["views"][0]["camera"]
    return camera["width_px"] * camera["height_px"]


@pytest.mark.parametrize("workers", [0, 2, 3])
def test_workers_change_nothing(mixture, workers):
    spec, layout = Mixture.load(mixture), Layout(1, 2, 2)
    expected = [_keys(drawn.samples) for drawn in islice(LocalBatches(spec, layout, 8).batches(), 7)]
    loader = make_loader(LocalBatches(spec, layout, 8), _keys, workers)
    assert list(islice(loader, 7)) == expected


def refuse(samples):
    raise UserError("sample x: is refused")


@pytest.mark.parametrize("workers", [0, 1])
def test_what_a_worker_refuses_is_said_in_its_own_words(mixture, workers):
    batches = LocalBatches(Mixture.load(mixture), Layout(0, 1, 2), 0)
    with pytest.raises(UserError, match=r"\Asample x: is refused\Z"):
        next(iter(make_loader(batches, refuse, workers)))


def test_images_that_are_unified_when_read_count_as_what_they_become(tmp_path):
    focal_px = [160.0, 80.0, 160.0, 80.0, 40.0]
    table = {"width_px": [256] * 5, "height_px": [256] * 5, "views": [1] * 5, "source_focal_px": focal_px}
    pq.write_table(pa.table(table), tmp_path / "index.parquet")

    def pixels(focal_px=None, align=None, mode="uniform", unifier="one", built="crop"):
        about = {"config": {"focal_mode": mode, "focal_px": 80.0, "align": built}}
        unify = Unify(focal_px, align)
        dataset = SimpleNamespace(
            index_parquet=lambda: str(tmp_path / "index.parquet"), about=about, unifier=unifier, unify=unify
        )
        found = image_sizes._pixels(dataset)
        return found if isinstance(found, int) else found.tolist()

    assert pixels() == [128 * 128, 256 * 256, 128 * 128, 256 * 256, 512 * 512]
    assert pixels(focal_px=40.0) == [64 * 64, 128 * 128, 64 * 64, 128 * 128, 256 * 256]
    for sides_px, aligned in (
        ([153, 307, 153, 307, 614], {"align": "none"}),
        ([128, 288, 128, 288, 608], {}),
        ([160, 320, 160, 320, 640], {"align": "pad"}),
        ([160, 320, 160, 320, 640], {"built": "pad"}),
        ([128, 288, 128, 288, 608], {"align": "crop", "built": "pad"}),
    ):
        assert pixels(focal_px=96.0, **aligned) == [side * side for side in sides_px]
    assert pixels(mode="none") == pixels(unifier=None) == 256 * 256


def test_datasets_of_one_size_and_of_several_are_dealt_out_together(tmp_path):
    def part(name, sides_px, selected=None):
        columns = dict.fromkeys(("width_px", "height_px", "source_focal_px"), sides_px)
        pq.write_table(pa.table(columns | {"views": [1] * len(sides_px)}), tmp_path / name)
        index = lambda: str(tmp_path / name)  # noqa: E731
        dataset = SimpleNamespace(index_parquet=index, about={"config": {}}, unifier=None)
        return SimpleNamespace(dataset=dataset, selected=selected)

    def order(*parts):
        schedule = SimpleNamespace(locate=lambda position: (position % 2, 0, position // 2))
        return ImageSizes(SimpleNamespace(parts=parts, schedule=lambda: schedule)).order(range(4))

    assert order(part("even", [64, 64]), part("odd", [32, 96, 128], selected=[2, 0])) == [3, 0, 2, 1]
    assert order(part("even", [64, 64]), part("odd", [32, 32, 32])) == [1, 3, 0, 2]
    assert order(part("even", [64, 64]), part("odd", [64, 64, 64])) == [0, 1, 2, 3]


def die(samples):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_dies_is_said_in_one_line(mixture):
    batches = LocalBatches(Mixture.load(mixture), Layout(0, 1, 2), 0)
    with pytest.raises(UserError, match=r"reads samples has died \(.*\); .* lower --workers") as caught:
        next(iter(make_loader(batches, die, 1)))
    assert "\n" not in str(caught.value)


def test_a_worker_that_dies_while_the_loop_computes_is_said_in_one_line(mixture):
    batches = iter(make_loader(LocalBatches(Mixture.load(mixture), Layout(0, 1, 2), 0), _keys, 1))
    next(batches)
    (worker,) = multiprocessing.active_children()
    with pytest.raises(UserError, match="reads samples has died"), said_if_a_worker_dies():
        computes_while_it_dies(worker.pid)


def computes_while_it_dies(worker):
    os.kill(worker, signal.SIGKILL)
    while True:
        time.sleep(0.01)


def threads(samples):
    return cv2.getNumThreads()


def test_a_worker_keeps_to_its_core(mixture):
    batches = LocalBatches(Mixture.load(mixture), Layout(0, 1, 2), 0)
    cv2.setNumThreads(2)
    cv2.GaussianBlur(np.zeros((2000, 3000, 3), np.uint8), (31, 31), 5)  # starts them; a forked worker has none of them
    time.sleep(0.2)  # until they wait for work: only then a child waits for them
    assert next(iter(make_loader(batches, threads, 1))) == 1
    assert cv2.getNumThreads() == 2
