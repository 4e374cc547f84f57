"""Mixtures from an S3 server: the stream that the disk gives, whatever the network does, or one clear line."""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from itertools import cycle, islice
from pathlib import Path

import fsspec
import pytest
from botocore.exceptions import EndpointConnectionError
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import jsonl_line, write_jsonl
from tests.faulty_store import Proxy, s3_server, upload
from vlm3data import retries
from vlm3data.ahead import THREAD
from vlm3data.build import BuildConfig, build
from vlm3data.mixture import Mixture
from vlm3data.shards import Dataset
from vlm3data.shards.ranges import StoreError, is_transient, read_pieces, read_range
from vlm3data.stream import Stream, open_stream
from vlm3data.types import UserError
from vlm3train.data import Layout, LocalBatches, make_loader

SIZES = {"a": 11, "b": 5}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("stores")
    for name, size in SIZES.items():
        write_jsonl(root / name, [jsonl_line(i) for i in range(size)], f"{name}_train.jsonl")
        config = BuildConfig(source="jsonl", root=str(root / name), focal_px=150, shard_size=3)
        build(config, str(root / "shards" / name), workers=1)
    return root / "shards"


@pytest.fixture(scope="module")
def server(built):
    with s3_server() as proxy:
        for name in SIZES:
            upload(built / name, f"s3://data/{name}")
        yield proxy


@pytest.fixture
def s3(server, monkeypatch) -> Proxy:
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.01)
    server.faults.clear()
    server.seen.clear()
    return server


def mixture(root: object, weights: tuple[float, float] = (11, 5), **changes: object) -> Mixture:
    """Return the mixture of a and b, each below `root`; "mixed" has a from S3 and b from disk."""
    datasets = {
        name: {"shards": f"{root}/{name}", "weight": weight, "pixels": 3}
        for name, weight in zip(SIZES, weights, strict=True)
    }
    return Mixture.check({"seed": 3, "datasets": datasets, **changes}, "test")


def rows(stream, many: int) -> list[tuple[int, str, int, list[str]]]:
    return [(n, s.key, s.epoch, [q.question for q in s.questions]) for n, s in islice(stream, many)]


def fetching() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(THREAD)]


@pytest.mark.parametrize("read_ahead", [1, 2, 7, 64])
def test_an_s3_server_gives_the_stream_that_the_disk_gives(built, s3, read_ahead):
    assert rows(open_stream(mixture("s3://data", read_ahead=read_ahead)), 40) == rows(open_stream(mixture(built)), 40)


def test_one_dataset_may_be_remote_and_another_local(built, s3):
    datasets = {
        "a": {"shards": "s3://data/a", "weight": 11, "pixels": 3},
        "b": {"shards": str(built / "b"), "weight": 5, "pixels": 3},
    }
    mixed = Mixture.check({"seed": 3, "datasets": datasets}, "test")
    assert rows(open_stream(mixed), 40) == rows(open_stream(mixture(built)), 40)


def test_neighbours_come_in_one_request(s3):
    stream = open_stream(mixture("s3://data", read_ahead=64))
    rows(stream, 16)  # an epoch of both, out of six shards, and reading ahead 48 more
    assert sum(s3.seen.values()) <= 2 * 6
    stream.close()


def test_no_more_is_fetched_than_was_said(s3, monkeypatch):
    asked = []
    fetch = Dataset.fetch
    monkeypatch.setattr(
        Dataset, "fetch", lambda self, samples, closed=None: (asked.extend(samples), fetch(self, samples, closed))[1]
    )
    stream = open_stream(mixture("s3://data", read_ahead=4))
    rows(stream, 1)
    stream.close()
    assert len(asked) <= 4


FAULTS = ["500", "503", "429", "reset", "cut", "short", "slow", "flip"]


@pytest.mark.parametrize("fault", FAULTS)
def test_what_passes_is_tried_again(built, s3, fault):
    expected = rows(open_stream(mixture(built)), 6)
    s3.faults.extend([fault] if fault == "flip" else [fault, "", fault])
    with open_stream(mixture("s3://data", read_ahead=6)) as stream:
        assert rows(stream, 6) == expected
        assert not stream.skips.listed
    assert not s3.faults


def test_a_store_that_fails_often_changes_nothing(built, s3):
    s3.faults.extend(fault if i % 4 == 0 else "" for i, fault in zip(range(60), cycle(FAULTS[:6]), strict=False))
    assert rows(open_stream(mixture("s3://data", read_ahead=3)), 40) == rows(open_stream(mixture(built)), 40)


def test_a_store_that_never_answers_is_given_up_in_one_line(s3):
    s3.faults.extend(["500"] * 1000)
    with pytest.raises(
        StoreError, match=r"s3://data/[ab]/shard-00000\d\.tar: bytes \d+-\d+: could not be read in 6 attempts; the last"
    ) as caught:
        rows(open_stream(mixture("s3://data", read_ahead=1)), 1)
    assert "\n" not in str(caught.value)
    assert len(s3.faults) == 1000 - retries.ATTEMPTS
    assert not fetching()


@pytest.mark.parametrize(("status", "message"), [("403", "is not permitted"), ("404", "there is no such file")])
def test_what_waiting_does_not_mend_is_not_tried_again(s3, status, message):
    s3.faults.extend([status] * 10)
    with pytest.raises(StoreError, match=rf"shard-00000\d\.tar: bytes \d+-\d+: .*{message}"):
        rows(open_stream(mixture("s3://data", read_ahead=1)), 1)
    assert len(s3.faults) == 9


def test_a_range_is_whole_or_ends_with_its_file(s3):
    fs, path = fsspec.core.url_to_fs("s3://data/a/shard-000000.tar")
    size = fs.info(path)["size"]
    s3.faults.append("short")
    assert len(read_range(fs, path, 0, 4000)) == 4000
    assert len(read_range(fs, path, size - 100, size + 100)) == 100
    assert read_range(fs, path, size + 5, size + 100) == b""


@pytest.mark.parametrize("many", [1, 999, 1000, 1001, 4321])
def test_the_pieces_of_a_file_make_it_up_and_none_is_too_large(many, monkeypatch):
    monkeypatch.setattr("vlm3data.shards.ranges.PIECE_BYTES", 1000)
    fs = fsspec.filesystem("memory")
    whole = bytes(i * i % 251 for i in range(many))
    fs.pipe_file("/pieces", whole)
    pieces = list(read_pieces(fs, "/pieces"))
    assert b"".join(pieces) == whole
    assert [len(piece) for piece in pieces[:-1]] == [1000] * ((many - 1) // 1000)


def test_a_file_that_becomes_shorter_meanwhile_is_not_taken_for_a_whole_one(monkeypatch):
    monkeypatch.setattr("vlm3data.shards.ranges.PIECE_BYTES", 1000)
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/shorter", bytes(4321))
    pieces = read_pieces(fs, "/shorter")
    assert len(next(pieces)) == 1000
    fs.pipe_file("/shorter", bytes(1500))
    with pytest.raises(StoreError, match="shorter: became shorter while it was read"):
        list(pieces)


def test_a_missing_dataset_is_a_mistake(s3):
    with pytest.raises(UserError, match="no dataset at s3://data/none"):
        Dataset("s3://data/none")


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (ConnectionResetError(), True), (TimeoutError(), True), (OSError(5, "io"), True), (OSError(28, "full"), False),
        (EndpointConnectionError(endpoint_url="http://s3"), True),
        (FileNotFoundError(), False), (PermissionError(), False), (ValueError(), False), (KeyError(), False),
    ],
)  # fmt: skip
def test_which_errors_are_tried_again(error, again):
    assert is_transient(error) is again


def test_an_iterator_that_is_closed_or_forgotten_leaves_no_thread(s3):
    for end in (Stream.close, lambda stream: None):
        stream = open_stream(mixture("s3://data"))
        next(stream)
        assert fetching()
        end(stream)
        del stream
        assert not fetching()


def test_closing_does_not_wait_for_what_would_be_tried_again(s3, monkeypatch):
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 500.0)
    monkeypatch.setattr(retries, "LONGEST_WAIT_S", 500.0)
    stream = open_stream(mixture("s3://data", read_ahead=8))
    rows(stream, 4)
    s3.faults.extend(["500"] * 100)
    next(stream)  # of the first eight; asks for four more
    closing = threading.Timer(0.3, stream.close)
    closing.start()
    closing.join(10)
    assert not closing.is_alive()
    assert not fetching()


def test_forked_workers_read_from_s3(built, s3):
    layout = Layout(0, 1, 3)
    remote = mixture("s3://data", read_ahead=4)
    assert next(open_stream(remote))  # the parent has read, so its connections are there to be inherited
    expected = [
        [s.key for s in drawn.samples] for drawn in islice(LocalBatches(mixture(built), layout, 9).batches(), 6)
    ]
    loader = make_loader(LocalBatches(remote, layout, 9), keys_of, 2)
    assert list(islice(loader, 6)) == expected


def keys_of(samples) -> list[str]:
    return [sample.key for sample in samples]


topologies = st.tuples(st.integers(1, 8), st.integers(1, 3), st.integers(0, 4), st.integers(0, 200))
"""Ranks, batch size, workers, start."""


@pytest.fixture(scope="module")
def damaged(built, tmp_path_factory) -> tuple[Path, str]:
    """Return a copy with a byte changed in two samples that follow each other and in one alone; also in a store."""
    root = tmp_path_factory.mktemp("damaged")
    shutil.copytree(built, root, dirs_exist_ok=True)
    for name, samples in {"a": (3, 4), "b": (1,)}.items():
        dataset = Dataset(str(root / name))
        for i in samples:
            shard, _ = dataset.key(i)
            data = bytearray((root / name / shard).read_bytes())
            data[dataset.where(i).offset + 900] ^= 1
            (root / name / shard).write_bytes(data)
    for name in SIZES:
        upload(root / name, f"memory://damaged/{name}")
        upload(built / name, f"memory://sound/{name}")
    return root, "memory://damaged"


def check_topology(spec: Mixture, topology: tuple[int, int, int, int], expected: Mixture) -> None:
    """All processes and workers together see, in every global batch, what one reader sees at its positions."""
    world, batch, workers, start = topology
    together: list[list[tuple[object, ...]]] = [[] for _ in range(2 * workers + 1)]
    for rank in range(world):
        batches = LocalBatches(spec, Layout(rank, world, batch), start)
        parts = [batches.batches(worker, max(workers, 1)) for worker in range(max(workers, 1))]
        for number, part in zip(range(2 * workers + 1), cycle(parts)):
            together[number] += [(s.key, s.epoch, s.questions) for s in next(part).samples]
        for part in parts:
            part.close()
    with open_stream(expected, start=start) as stream:
        for seen in together:
            wanted = [(s.key, s.epoch, s.questions) for _, s in islice(stream, batch * world)]
            assert sorted(seen, key=str) == sorted(wanted, key=str)


specs = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 99),
        "weights": st.tuples(st.floats(0.01, 1), st.floats(0, 1)),
        "samples": st.just(400),
        "schedule": st.lists(
            st.fixed_dictionaries(
                {"weights": st.fixed_dictionaries({"b": st.floats(0, 2)}), "ramp": st.booleans()}
            ).map(lambda stage: stage | {"until": 0.5}),
            max_size=1,
        ),
    }
)


@given(specs, topologies, st.sampled_from(["disk", "store"]), st.booleans(), st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_every_topology_and_start_sees_the_same_order(built, damaged, spec, topology, where, sound, read_ahead):
    urls = {"disk": (damaged[0], built), "store": (damaged[1], "memory://sound")}
    read = mixture(urls[where][sound], read_ahead=read_ahead, **spec)
    check_topology(read, topology, mixture(built if sound else damaged[0], **spec))


@pytest.mark.parametrize("topology", [(3, 2, 2, 17), (1, 4, 0, 100)])
def test_an_s3_server_changes_no_topology(built, s3, topology):
    check_topology(mixture("s3://data", read_ahead=5), topology, mixture(built))


@given(st.integers(0, 300), st.integers(1, 40))
@settings(max_examples=20, deadline=None)
def test_starting_anywhere_is_having_read_up_to_there(damaged, start, many):
    spec = mixture(damaged[0])
    assert rows(open_stream(spec, start=start), many) == rows(open_stream(spec), start + many)[start:]


def test_a_damaged_sample_changes_its_own_positions_only(built, damaged):
    sound, stream = rows(open_stream(mixture(built)), 160), open_stream(mixture(damaged[1]))
    seen = rows(stream, 160)
    keys = {name: [Dataset(str(built / name)).key(i)[1] for i in range(size)] for name, size in SIZES.items()}
    # the next sound one: 3 and 4 of a are both replaced by 5
    stand_in = {keys["a"][3]: keys["a"][5], keys["a"][4]: keys["a"][5], keys["b"][1]: keys["b"][2]}
    for (n, key, epoch, questions), now in zip(sound, seen, strict=True):
        assert now[:3] == (n, stand_in.get(key, key), epoch)
        if key not in stand_in:
            assert now[3] == questions
    assert {skip.key for skip in stream.skips.listed} == set(stand_in)
    assert stream.skips.counts == Counter(
        next(name for name in SIZES if key in keys[name]) for _, key, _, _ in sound if key in stand_in
    )
    for skip in stream.skips.listed:
        assert sound[skip.position][1] in stand_in
        assert skip.replaced_by == seen[skip.position][1]
        assert skip.shard == Dataset(str(built / skip.dataset)).key(keys[skip.dataset].index(skip.key))[0]
