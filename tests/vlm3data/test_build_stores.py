"""Builds from and to an S3 server, whatever the network does, and onto disks that are full; appended and refused."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from contextlib import closing
from itertools import cycle, islice
from pathlib import Path

import fsspec
import polars as pl
import pytest

from tests.conftest import directory_bytes, jsonl_line
from tests.faulty_store import s3_server
from vlm3data import cli, retries
from vlm3data.build import BuildConfig, build, plan
from vlm3data.command import run_app
from vlm3data.growth import built_by
from vlm3data.output import claim, open_output
from vlm3data.plan import Plan
from vlm3data.retries import StoreError
from vlm3data.shards import read_samples, verify
from vlm3data.storage import open_store
from vlm3data.types import UserError


def config(root: object, **changes: object) -> BuildConfig:
    return BuildConfig.check({"source": "jsonl", "root": str(root), "focal_px": 150, "shard_size": 3} | changes, "test")


def store_bytes(url: str) -> dict[str, bytes]:
    fs, root = fsspec.core.url_to_fs(url)
    fs.invalidate_cache()
    return {path.removeprefix(f"{root}/"): fs.cat_file(path) for path in fs.find(root)}


def add_file(root: Path, name: str, numbers: range) -> None:
    """Add frames of these numbers to a dataset in a file of its own."""
    lines = [json.dumps(jsonl_line(number, image=f"rgb/{number % 3}.jpg")) for number in numbers]
    (root / name).write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def server():
    with s3_server() as proxy:
        yield proxy


@pytest.fixture
def s3(server, monkeypatch):
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.01)
    server.faults.clear()
    server.seen.clear()
    monkeypatch.setattr(server, "harassed", lambda method, path: not path.endswith(".jsonl"))
    return server


FAULTS = ["500", "503", "reset", "slow", "cut"]


@pytest.mark.parametrize("often", [1, 3])
def test_input_and_output_may_lie_in_a_store_that_fails_often(s3, toy_root, tmp_path, monkeypatch, often):
    build(config(toy_root), str(tmp_path / "out"), workers=1)
    fsspec.filesystem("s3").put(str(toy_root), f"data/in{often}/", recursive=True)
    # Where a source opens files piece by piece, trying again is the file system's own affair.
    monkeypatch.setattr(s3, "harassed", lambda method, path: "/out" in path or path.endswith(".jpg"))
    faults = islice(cycle(FAULTS), 40)
    s3.faults.extend(fault if n % (often + 1) == 0 else "" for fault in faults for n in range(often + 1))
    build(config(f"s3://data/in{often}/toy"), f"s3://data/out{often}", workers=1)
    s3.faults.clear()
    there, expected = store_bytes(f"s3://data/out{often}"), directory_bytes(tmp_path / "out")
    assert there.pop("plan.parquet") != expected.pop("plan.parquet")  # the scenes lie elsewhere
    assert there == expected


def test_a_store_that_stops_answering_is_one_line_and_the_build_goes_on_later(s3, toy_root, tmp_path, monkeypatch):
    build(config(toy_root), str(tmp_path / "out"), workers=1)
    monkeypatch.setattr(s3, "harassed", lambda method, path: method == "PUT" and path.endswith("2.tar"))
    s3.faults.extend(["503"] * 100)
    with pytest.raises(StoreError, match=r"s3://data/late/shard-000002.tar: could not be written in 6 attempts; .*"):
        build(config(toy_root), "s3://data/late", workers=1)
    there = store_bytes("s3://data/late")
    assert sorted(there) == [
        "plan.parquet",
        *(f"shard-00000{n}.{end}" for n in (0, 1) for end in ("manifest.json", "tar")),
    ]
    s3.faults.clear()
    build(config(toy_root), "s3://data/late", workers=1)
    assert store_bytes("s3://data/late") == directory_bytes(tmp_path / "out")


@pytest.mark.parametrize(
    ("fault", "url", "said"),
    [
        ("403", "s3://data/refused", "error: s3://data/refused: listing it is not permitted"),
        ("", "s3://no-such-bucket/out", "s3://no-such-bucket/out/plan.parquet: there is no such bucket or directory"),
    ],
)
def test_a_bucket_that_refuses_is_one_line(s3, toy_root, capsys, fault, url, said):
    s3.faults.extend([fault] * 100 if fault else [])
    command = ["build", "jsonl", "--root", str(toy_root), "--out", url, "--focal", "150", "--workers", "1"]
    assert run_app(cli.app, command) == 1
    captured = capsys.readouterr().err
    assert said in captured
    assert captured.count("\n") == 1


def test_missing_credentials_are_one_line(s3, toy_root, capsys, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    endpoint = fsspec.config.conf["s3"]["endpoint_url"]
    monkeypatch.setitem(fsspec.config.conf, "s3", {"endpoint_url": endpoint})
    command = ["build", "jsonl", "--root", str(toy_root), "--out", "s3://data/nobody", "--workers", "1"]
    assert run_app(cli.app, command) == 1
    captured = capsys.readouterr().err
    assert "s3://data/nobody" in captured
    assert "credentials" in captured
    assert captured.count("\n") == 1


def test_two_builds_into_one_store_do_not_mix(s3, toy_root, monkeypatch):
    """The second claims the place between the first's look at it and its own claim."""
    from vlm3data import build as module

    claim = module.claim

    def late(fs, directory, plan, built, out):
        monkeypatch.setattr(module, "claim", claim)
        build(config(toy_root, seed=5), out, workers=1)
        claim(fs, directory, plan, built, out)

    monkeypatch.setattr(module, "claim", late)
    with pytest.raises(UserError, match="another build began to write there"):
        build(config(toy_root), "s3://data/both", workers=1)
    assert not verify("s3://data/both").problems


def test_a_place_that_the_same_plan_has_claimed_meanwhile_is_free_to_it_alone(tmp_path):
    fs, directory = open_store("memory://claimed")
    for name in ("one", "other"):
        (tmp_path / name).write_bytes(name.encode())
    one, other = (Plan(str(tmp_path / name), {}, 0) for name in ("one", "other"))
    for _ in range(2):
        claim(fs, directory, one, None, "out")
    with pytest.raises(UserError, match="out: another build began to write there"):
        claim(fs, directory, other, None, "out")
    assert fs.cat_file(f"{directory}/plan.parquet") == b"one"


def test_two_builds_into_one_directory_exclude_each_other(toy_root, tmp_path):
    out = str(tmp_path / "out")
    with open_output(out), pytest.raises(UserError, match="another build writes there now"):
        build(config(toy_root), out, workers=1)
    assert build(config(toy_root), out, workers=1)["samples"] == 12


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_full_disk_is_one_line_nothing_is_committed_and_the_build_goes_on(toy_root, tmp_path, workers):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "vlm3data.cli", "build", "jsonl", "--root", str(toy_root), "--out", str(out)]
    command += ["--focal", "150", "--shard-size", "6", "--workers", workers]

    def small_files_only() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

    failed = subprocess.run(command, capture_output=True, text=True, preexec_fn=small_files_only)
    assert failed.returncode == 1
    assert failed.stderr.startswith(f"error: {out}/shard-00000")
    assert "cannot be written: File too large" in failed.stderr
    assert failed.stderr.count("\n") == 1
    assert list(directory_bytes(out)) == ["plan.parquet"]
    subprocess.run(command, check=True, capture_output=True)
    build(config(toy_root, shard_size=6), str(tmp_path / "sound"), workers=1)
    assert directory_bytes(out) == directory_bytes(tmp_path / "sound")


def test_a_disk_that_is_full_all_at_once_is_the_same(toy_root, tmp_path, monkeypatch):
    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vlm3data.shards.write._Counted.write", full)
    with pytest.raises(StoreError, match=r"shard-000000.tar: cannot be written: No space"):
        build(config(toy_root), str(tmp_path / "out"), workers=1)
    assert list(directory_bytes(tmp_path / "out")) == ["plan.parquet"]


def test_what_a_dataset_grew_by_is_built_into_new_shards(toy_root, tmp_path):
    out, whole = tmp_path / "out", tmp_path / "again"
    build(config(toy_root), str(out), workers=1)
    before = {name: data for name, data in directory_bytes(out).items() if name.startswith("shard")}
    add_file(toy_root, "aaa_train.jsonl", range(20, 24))  # before the others in the source's order
    add_file(toy_root, "zzz_train.jsonl", range(30, 37))
    with pytest.raises(UserError, match="a scene that is not in its plan, aaa_train-00000000: --append builds it"):
        build(config(toy_root), str(out), workers=1)
    dataset = build(config(toy_root), str(out), workers=2, append=True)
    after = directory_bytes(out)
    assert {name: after[name] for name in before} == before
    assert dataset["samples"] == 12 + 11
    assert list(dataset["shards"]) == [f"shard-{n:06d}.tar" for n in range(4 + 4)]
    keys = [sample.key for sample in read_samples(str(out))]
    assert len(set(keys)) == len(keys) == 23
    assert keys[12].startswith("aaa_train")
    assert not verify(str(out)).problems
    # again, with nothing new: the same; as is the whole from the start, by the recorded plan
    build(config(toy_root), str(out), workers=1, append=True)
    build(config(toy_root), str(out), workers=1)
    assert directory_bytes(out) == after
    whole.mkdir()
    (whole / "plan.parquet").write_bytes(after["plan.parquet"])
    build(config(toy_root), str(whole), workers=2)
    assert directory_bytes(whole) == after
    jobs = plan(config(toy_root), built_by(str(out), after["plan.parquet"]))
    assert [job.digest for job in jobs] == [json.loads(after[f"{job.name}.manifest.json"])["config"] for job in jobs]


def test_growing_three_times_with_an_interruption_and_a_limit(toy_root, tmp_path, monkeypatch):
    out = tmp_path / "out"
    build(config(toy_root, limit=20), str(out), workers=1)
    add_file(toy_root, "uuu_train.jsonl", range(20, 24))
    build(config(toy_root, limit=20), str(out), workers=1, append=True)
    add_file(toy_root, "bbb_train.jsonl", range(30, 37))  # of which there is room for four
    written = []

    def interrupted(*arguments, **named):
        written.append(arguments)
        if len(written) == 2:
            raise KeyboardInterrupt
        return write(*arguments, **named)

    from vlm3data import shards

    write = shards.write_shard
    monkeypatch.setattr(shards, "write_shard", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build(config(toy_root, limit=20), str(out), workers=1, append=True)
    monkeypatch.setattr(shards, "write_shard", write)
    assert not (out / "shard-000007.tar").exists()
    dataset = build(config(toy_root, limit=20), str(out), workers=1)  # goes on without being told again
    assert dataset["samples"] == 20
    rows = pl.read_parquet(out / "plan.parquet")
    assert rows.group_by("generation", maintain_order=True).agg(pl.sum("count"))["count"].to_list() == [12, 4, 4]
    assert rows["shard"].is_sorted()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda root: (root / "toy_train.jsonl").unlink(), "scene toy_train-00000000, which its shards hold, is gone"),
        (
            lambda root: add_file(root, "toy_train.jsonl", range(15)),
            "scene toy_train-00000000 has changed since it was built: it had 12 frames and now has 15",
        ),
        (
            lambda root: add_file(root, "toy_train.jsonl", range(12)),
            "scene toy_train-00000000 has changed since it was built: its files are not what they were",
        ),
    ],
)
def test_a_source_that_shrank_or_changed_is_refused_by_name(toy_root, tmp_path, change, said):
    out = tmp_path / "out"
    build(config(toy_root), str(out), workers=1)
    before = directory_bytes(out)
    add_file(toy_root, "zzz_train.jsonl", range(5))
    change(toy_root)
    for append in (False, True):
        with pytest.raises(UserError, match=said):
            build(config(toy_root), str(out), workers=1, append=append)
    assert directory_bytes(out) == before


def test_another_config_may_not_be_appended(toy_root, tmp_path):
    build(config(toy_root), str(tmp_path / "out"), workers=1)
    before = directory_bytes(tmp_path / "out")
    with pytest.raises(UserError, match="of another build"):
        build(config(toy_root, focal_px=140), str(tmp_path / "out"), workers=1, append=True)
    (tmp_path / "out" / "plan.parquet").write_bytes(b"nonsense")
    with pytest.raises(UserError, match=r"plan.parquet: is damaged .* delete it, and it is made again"):
        build(config(toy_root), str(tmp_path / "out"), workers=1)
    (tmp_path / "out" / "plan.parquet").unlink()
    build(config(toy_root), str(tmp_path / "out"), workers=1)
    assert directory_bytes(tmp_path / "out") == before


def test_jobs_are_read_back_as_they_were_planned(toy_root, tmp_path):
    from vlm3data.plan import write_plan

    add_file(toy_root, "zzz_train.jsonl", range(70))
    jobs = plan(config(toy_root, shard_size=2))
    written = write_plan(config(toy_root, shard_size=2), str(tmp_path / "plan.parquet"))
    some = [job.name for job in jobs][::3]
    assert written.candidates == sum(job.candidates for job in jobs) == 82
    with closing(written.shards(some)) as shards:
        assert [(s.name, s.parts, s.digest) for s in shards] == [(j.name, j.parts, j.digest) for j in jobs[::3]]
