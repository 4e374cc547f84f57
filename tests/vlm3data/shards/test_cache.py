"""The cache of remote shards: what it gives is right or nothing, and it keeps to its limit."""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from itertools import islice
from pathlib import Path

import filelock
import fsspec
import pyarrow as pa
import pytest
import xxhash

from tests.conftest import jsonl_line, write_jsonl
from tests.faulty_store import upload
from vlm3data.build import BuildConfig, build
from vlm3data.mixture import Mixture
from vlm3data.shards import Dataset, ShardCache
from vlm3data.shards.read import CorruptSampleError
from vlm3data.stream import open_stream
from vlm3data.types import UserError


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("cached")
    write_jsonl(root / "d", [jsonl_line(i) for i in range(9)])
    build(BuildConfig(source="jsonl", root=str(root / "d"), focal_px=150, shard_size=3), str(root / "s"), workers=1)
    upload(root / "s", "memory://cached")
    return root / "s"


def block(seed: int, size: int = 5000) -> tuple[bytes, int]:
    data = random.Random(seed).randbytes(size)
    return data, xxhash.xxh3_64_intdigest(data)


def mixture(url: object, directory: Path | None, **changes: object) -> Mixture:
    spec = {"datasets": {"d": {"shards": str(url), "weight": 1}}, **changes}
    if directory is not None:
        spec["cache"] = {"directory": str(directory), "limit_gb": 1}
    return Mixture.check(spec, "test")


def keys(spec: Mixture, many: int = 18) -> list[tuple[str, bytes]]:
    with open_stream(spec) as stream:
        return [(sample.key, sample.images[0]) for _, sample in islice(stream, many)]


def test_what_was_written_is_read_and_nothing_else(tmp_path):
    cache = ShardCache(str(tmp_path), 10**9)
    (one, hash_one), (two, hash_two) = block(1), block(2)
    assert cache.read("f/s.tar", 0, 5000, hash_one) is None
    cache.write("f/s.tar", 20_000, two)
    assert cache.read("f/s.tar", 0, 5000, hash_one) is None  # a hole
    assert cache.read("f/s.tar", 18_000, 5000, hash_one) is None
    assert cache.read("f/s.tar", 23_000, 5000, hash_one) is None  # behind the end
    cache.write("f/s.tar", 0, one)
    assert cache.read("f/s.tar", 0, 5000, hash_one) == one
    assert cache.read("f/s.tar", 20_000, 5000, hash_two) == two
    cache.write("f/s.tar", 20_000, two[:2500] + bytes(2500))  # as a process that died has left it
    assert cache.read("f/s.tar", 20_000, 5000, hash_two) is None


def test_a_second_epoch_comes_from_the_disk(built, tmp_path):
    cached = mixture("memory://cached", tmp_path)
    first = keys(cached)
    assert first == keys(mixture(built, None))
    memory = fsspec.filesystem("memory")
    away = {path: memory.cat_file(path) for path in memory.ls("/cached", detail=False) if path.endswith(".tar")}
    for path in away:
        memory.rm_file(path)
    try:
        assert keys(mixture("memory://cached", tmp_path)) == first
    finally:
        for path, data in away.items():
            memory.pipe_file(path, data)


def test_damage_in_the_cache_is_mended_from_the_store(built, tmp_path):
    expected = keys(mixture("memory://cached", tmp_path))
    files = [path for path in tmp_path.glob("*/*") if path.is_file()]
    assert {path.suffix for path in files} == {".tar", ".arrow"}
    for path in files:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    assert keys(mixture("memory://cached", tmp_path)) == expected
    for path in tmp_path.glob("*/*.tar"):
        assert path.read_bytes()[:-1024] == (built / path.name).read_bytes()[: len(path.read_bytes()) - 1024]


def test_what_is_damaged_in_the_store_is_not_kept(built, tmp_path):
    upload(built, "memory://bad")
    memory = fsspec.filesystem("memory")
    data = bytearray(memory.cat_file("/bad/shard-000000.tar"))
    data[900] ^= 1
    memory.pipe_file("/bad/shard-000000.tar", bytes(data))
    dataset = Dataset("memory://bad", cache=ShardCache(str(tmp_path), 10**9))
    with pytest.raises(CorruptSampleError, match=r"shard-000000\.tar: sample 0 at byte 0 is damaged"):
        dataset[0]
    assert not list(tmp_path.glob("*/*.tar"))


def test_what_was_not_used_for_longest_makes_room(tmp_path):
    cache = ShardCache(str(tmp_path), 1_000_000)
    data = [block(seed, 100_000) for seed in range(14)]
    for number, (content, _) in enumerate(data):
        cache.write(f"f/{number}.tar", 0, content)
        old = time.time() - 1000 + number
        if number < 9 and (tmp_path / f"f/{number}.tar").exists():
            os.utime(tmp_path / f"f/{number}.tar", (old, old))
        if number == 8:
            assert cache.read("f/0.tar", 0, 100_000, data[0][1])  # used again, so others go first
    there = {number for number in range(14) if (tmp_path / f"f/{number}.tar").exists()}
    assert 0 in there
    assert 13 in there
    assert not {1, 2, 3} & there
    assert sum(path.stat().st_blocks * 512 for path in tmp_path.glob("*/*")) <= 1_000_000 + 100_000 + 4096 * 14


def test_whole_files_make_room_for_those_that_come(tmp_path):
    cache, there = ShardCache(str(tmp_path), 10_000), []
    for number in range(4):
        content = block(number, 8000)[0]
        path = cache.whole(f"{number}/index.arrow", lambda content=content: [content])
        assert path is not None
        assert path.read_bytes() == content
        os.utime(path, (number, number))
        there = sorted(path.parent.name for path in tmp_path.glob("*/*"))
    assert there == ["2", "3"]  # the limit is looked after before a file comes, so it is passed by one


def test_one_process_at_a_time_makes_room(tmp_path):
    cache = ShardCache(str(tmp_path), 1000)
    cache.write("f/s.tar", 0, block(1)[0][:10])
    with filelock.FileLock(tmp_path / ".lock"):
        (tmp_path / "f" / "s.tar").write_bytes(block(1)[0])
        cache.look_after_limit()
        assert (tmp_path / "f" / "s.tar").exists()
    cache.look_after_limit()
    assert not (tmp_path / "f" / "s.tar").exists()


def hammer(directory: str, seed: int) -> int:
    """Read and write 40 blocks of a cache that holds half of them; return how many came back wrong."""
    cache, rng, wrong = ShardCache(directory, 1_000_000), random.Random(seed), 0
    for _ in range(300):
        number = rng.randrange(40)
        content, digest = block(number, 50_000)
        found = cache.read(f"f/{number % 8}.tar", 60_000 * number, 50_000, digest)
        if found is None:
            cache.write(f"f/{number % 8}.tar", 60_000 * number, content)
        wrong += found not in (None, content)
    return wrong


def test_many_processes_share_it(tmp_path):
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        assert pool.starmap(hammer, [(str(tmp_path), seed) for seed in range(3)]) == [0, 0, 0]
    used = sum(path.stat().st_blocks * 512 for path in tmp_path.glob("*/*"))
    assert 0 < used <= 1_000_000 + 3 * (1_000_000 // 64 + 50_000) + 8 * 4096


def test_a_full_disk_is_warned_of_and_costs_speed_only(built, tmp_path, monkeypatch):
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.warns(UserWarning, match="No space left on device"):
        assert len(keys(mixture("memory://cached", tmp_path))) == 18


def test_a_cache_that_cannot_be_is_a_mistake(built, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"test: cache\.directory: .*file/below cannot be made"):
        open_stream(mixture("memory://cached", tmp_path / "file" / "below"))


def test_the_directory_may_name_the_environment(tmp_path, monkeypatch, built):
    monkeypatch.setenv("SCRATCH_DISK", str(tmp_path / "here"))
    keys(mixture("memory://cached", Path("$SCRATCH_DISK/vlm3")), 2)
    assert list((tmp_path / "here" / "vlm3").glob("*/*.tar"))


# --- indexes, without a cache in the mixture


@pytest.fixture
def indexes(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("VLM3_CACHE", str(tmp_path / "indexes"))
    return tmp_path / "indexes"


def test_a_machine_fetches_an_index_once_and_maps_it(built, indexes, monkeypatch):
    expected = keys(mixture(built, None, seed=3))
    assert keys(mixture("memory://cached", None, seed=3)) == expected
    assert [path.suffix for path in indexes.glob("*/*")] == [".arrow"], "indexes only: samples are read anew"
    memory = fsspec.filesystem("memory")
    index = memory.cat_file("/cached/index.arrow")
    memory.rm_file("/cached/index.arrow")
    monkeypatch.setattr(pa, "BufferReader", None)  # in memory it would be read from there
    try:
        assert keys(mixture("memory://cached", None, seed=3)) == expected
    finally:
        memory.pipe_file("/cached/index.arrow", index)


def test_the_users_cache_has_them_where_nothing_is_said(built, tmp_path, monkeypatch):
    monkeypatch.delenv("VLM3_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    keys(mixture("memory://cached", None), 2)
    assert list((tmp_path / "vlm3" / "index").glob("*/index-*.arrow"))


def test_without_a_place_for_them_a_line_says_so(built, indexes):
    indexes.write_text("")
    with pytest.warns(UserWarning, match=r"in memory; set VLM3_CACHE, or `cache` in the mixture, to a directory"):
        assert keys(mixture("memory://cached", None), 4) == keys(mixture(built, None), 4)


def test_a_disk_that_fills_meanwhile_is_warned_of(built, indexes, monkeypatch):
    def full(*_: object) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.warns(
        UserWarning, match=r"cannot keep .*index.arrow, so each process holds it in memory.*No space left"
    ):
        assert keys(mixture("memory://cached", None), 4) == keys(mixture(built, None), 4)
    assert not list(indexes.glob("*/*"))


def test_what_is_damaged_in_the_store_is_asked_for_again(built, indexes):
    memory = fsspec.filesystem("memory")
    index = memory.cat_file("/cached/index.arrow")
    memory.pipe_file("/cached/index.arrow", index[:300])
    try:
        with pytest.raises(UserError, match=r"index\.arrow: is damaged"):
            keys(mixture("memory://cached", None), 2)
    finally:
        memory.pipe_file("/cached/index.arrow", index)
    assert keys(mixture("memory://cached", None)) == keys(mixture(built, None))


def test_a_store_that_fails_is_not_taken_for_a_full_disk(tmp_path):
    def load():
        yield b"some"
        raise OSError("the store is gone")

    with pytest.raises(OSError, match="the store is gone"):
        ShardCache(str(tmp_path), 10**9).whole("f/index.arrow", load)
    assert not list(tmp_path.glob("*/*"))


def load_slowly(directory: str, log: str) -> bytes:
    """Ask for a file that takes a while, and note that it was loaded."""

    def load():
        with Path(log).open("a") as file:
            file.write("loaded\n")
        time.sleep(0.5)
        yield b"an "
        yield b"index"

    path = ShardCache(directory, 10**9).whole("f/index.arrow", load)
    assert path is not None
    return path.read_bytes()


def test_of_many_processes_one_loads(tmp_path):
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        found = pool.starmap(load_slowly, [(str(tmp_path / "c"), str(tmp_path / "log"))] * 3)
    assert found == [b"an index"] * 3
    assert (tmp_path / "log").read_text() == "loaded\n"
