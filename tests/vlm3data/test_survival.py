"""What dies while it builds: frames that crash their process, workers, the whole build. The bytes are the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from itertools import count
from multiprocessing import get_context
from pathlib import Path

import pytest

from tests import hostile_source
from tests.conftest import directory_bytes, jsonl_line, write_jsonl
from vlm3data import isolation, registry, workers
from vlm3data.build import BuildConfig, build, plan
from vlm3data.candidates import candidates_of
from vlm3data.isolation import isolated_samples
from vlm3data.shards import ShardTally, read_samples, verify
from vlm3data.types import UserError

FRAMES = 24


@pytest.fixture
def fast_start(monkeypatch):
    """Start worker processes as copies of one that has imported everything: each then costs 20 ms, not a second.

    The builds that start as commands do it as users' do.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(["vlm3data.build", "vlm3data.isolation", "vlm3data.sources.jsonl"])
    monkeypatch.setattr(workers, "CONTEXT", context)


@pytest.fixture
def hostile(tmp_path, monkeypatch) -> Path:
    """Return a directory for traps; the source `hostile` is known here and in all processes that start from here."""
    site, traps = hostile_source.install(tmp_path / "site"), tmp_path / "traps"
    traps.mkdir()
    write_jsonl(tmp_path / "root", [jsonl_line(number) for number in range(FRAMES)])
    monkeypatch.setenv("PYTHONPATH", f"{site}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.syspath_prepend(str(site))
    registry._known.cache_clear()
    yield traps
    registry._known.cache_clear()


def config(traps: Path, **changes: object) -> BuildConfig:
    values = {"source": "hostile", "root": str(traps.parent / "root"), "focal_px": 150, "shard_size": 6}
    return BuildConfig.check(values | {"max_drop_rate": 0.5} | changes, "test")


def keys(out: Path) -> list[str]:
    return [sample.key for sample in read_samples(str(out))]


def manifests(out: Path) -> list[dict]:
    return [json.loads(path.read_bytes()) for path in sorted(out.glob("*.manifest.json"))]


@pytest.fixture
def undisturbed(hostile, tmp_path) -> dict[str, bytes]:
    """Return the files of a build in which nothing happens."""
    build(config(hostile), str(tmp_path / "undisturbed"), workers=1)
    return directory_bytes(tmp_path / "undisturbed")


def test_samples_made_in_another_process_are_the_same(fast_start, hostile, undisturbed, tmp_path):
    made = [sample for job in plan(config(hostile)) for sample in isolated_samples(job.config, job.parts, ShardTally())]
    there = list(read_samples(str(tmp_path / "undisturbed")))
    assert [(s.key, s.images, s.record_json) for s in made] == [(s.key, s.images, s.record_json) for s in there]


def test_what_another_process_leaves_out_is_counted_once_and_the_same(fast_start, hostile):
    lines = [jsonl_line(number) for number in range(5)]
    lines[1]["image"] = "rgb/none.jpg"
    lines[2]["depth"][4] = -1.0
    write_jsonl(hostile.parent / "root", lines)
    (job,) = plan(config(hostile))
    tally = ShardTally()
    made = [candidate.make() for candidate in candidates_of(job.config, job.parts, tally)]
    expected = [sample.key for sample in made if sample is not None]
    assert (len(expected), tally.drops, tally.label_drops.total()) == (4, {"image_missing": 1}, 1)
    for number in (0, 4):
        (hostile / f"before-{number}.flaky").write_text("1")
    (hostile / "1.once").touch()  # the process is killed there, and the sample then made alone
    (hostile / "2.flaky").write_text("2")  # once more even then, which is not each time
    apart = ShardTally()
    assert [sample.key for sample in isolated_samples(job.config, job.parts, apart)] == expected
    assert apart == tally
    assert not (hostile / "1.once").exists()
    assert [(hostile / f"{what}.flaky").read_text() for what in ("2", "before-0", "before-4")] == ["0"] * 3
    (hostile / "before-0.flaky").write_text("2")
    with pytest.raises(UserError, match=r"scene toy_train-00000000: listing its frames ends the process \(SIGSEGV\)"):
        list(isolated_samples(job.config, job.parts, ShardTally()))


def test_a_frame_that_crashes_its_worker_is_left_out_by_name_and_the_rest_goes_on(fast_start, hostile, tmp_path):
    build(config(hostile), str(tmp_path / "sound"), workers=1)
    (hostile / "7.crash").touch()
    (hostile / "23.exit").touch()
    dataset = build(config(hostile), str(tmp_path / "out"), workers=2)
    crashing = [f"toy_train-{number:08d}" for number in (7, 23)]
    assert dataset["drops"] == {"crashes_worker": 2}
    assert [found["key"] for found in dataset["quarantined"]] == crashing
    assert [m.get("quarantined") for m in manifests(tmp_path / "out")] == [
        None,
        [{"scene": "toy_train-00000000", "key": key} for key in crashing[:1]],
        None,
        [{"scene": "toy_train-00000000", "key": key} for key in crashing[1:]],
    ]
    assert keys(tmp_path / "out") == [key for key in keys(tmp_path / "sound") if key not in crashing]
    assert not verify(str(tmp_path / "out")).problems
    tars = directory_bytes(tmp_path / "out")
    for untouched in ("shard-000000.tar", "shard-000002.tar"):
        assert tars[untouched] == (tmp_path / "sound" / untouched).read_bytes()


def test_what_is_left_out_does_not_depend_on_engine_or_interruption(fast_start, hostile, tmp_path):
    for number in (0, 11):
        (hostile / f"{number}.crash").touch()
    build(config(hostile), str(tmp_path / "one"), workers=2)
    (hostile / "2.once").touch()
    (hostile / "12.once").touch()
    build(config(hostile), str(tmp_path / "two"), workers=3)
    assert directory_bytes(tmp_path / "two") == directory_bytes(tmp_path / "one")
    assert not list(hostile.glob("*.once")), "the workers must have been killed"


@pytest.mark.parametrize("what", ["bug", "killed"])
def test_what_is_no_crash_of_a_frame_fails_and_names_it(fast_start, hostile, tmp_path, what):
    (hostile / f"13.{what}").touch()
    with pytest.raises((UserError, ZeroDivisionError)) as caught:
        build(config(hostile), str(tmp_path / "out"), workers=2)
    assert "frame toy_train-00000013" in str(caught.value) + "".join(getattr(caught.value, "__notes__", []))
    assert not (tmp_path / "out" / "shard-000002.manifest.json").exists()
    assert not list((tmp_path / "out").glob("*.tmp"))
    (hostile / f"13.{what}").unlink()
    build(config(hostile), str(tmp_path / "out"), workers=1)
    build(config(hostile), str(tmp_path / "sound"), workers=1)
    assert directory_bytes(tmp_path / "out") == directory_bytes(tmp_path / "sound")


def test_frames_that_all_crash_are_not_the_data(fast_start, hostile, tmp_path, monkeypatch):
    monkeypatch.setattr(isolation, "TRIES", 1)
    monkeypatch.setattr(isolation, "IN_A_ROW", 3)
    for number in range(6):
        (hostile / f"{number}.crash").touch()
    (job, *_) = plan(config(hostile))
    with pytest.raises(
        UserError, match=r"3 samples in a row end their process \(SIGSEGV\), .*00 to .*02: that is not one"
    ):
        list(isolated_samples(job.config, job.parts, ShardTally()))


def workers_of(pid: int) -> list[int]:
    """Return the processes that this one started, and theirs, which compute (not multiprocessing's helpers)."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    found = []
    for child in map(int, children):
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
            found += [child, *workers_of(child)]
    return found


def test_workers_that_are_killed_again_and_again_change_nothing(hostile, undisturbed, tmp_path):
    (hostile / "slow").write_text("0.05")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "vlm3data.cli", "build", "hostile", "--root", str(hostile.parent / "root")]
    command += ["--out", str(out), "--focal", "150", "--shard-size", "6", "--max-drop-rate", "0.5", "--workers", "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    kills, deadline = 0, time.monotonic() + 120
    for n in count():
        if process.poll() is not None or kills == 4 or time.monotonic() > deadline:
            break
        time.sleep(0.4)
        for worker in workers_of(process.pid)[n % 2 :: 2]:
            if list(out.glob("*.tmp")):  # something is being written
                os.kill(worker, signal.SIGKILL)
                kills += 1
                break
    assert process.wait(180) == 0, process.stderr.read()
    assert kills
    assert directory_bytes(out) == undisturbed


def test_a_build_that_is_killed_leaves_nothing_half_done_and_no_process(hostile, undisturbed, tmp_path):
    (hostile / "slow").write_text("0.05")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "vlm3data.cli", "build", "hostile", "--root", str(hostile.parent / "root")]
    command += ["--out", str(out), "--focal", "150", "--shard-size", "6", "--max-drop-rate", "0.5", "--workers", "2"]
    process = subprocess.Popen(command)
    while not list(out.glob("*.manifest.json")) and process.poll() is None:
        time.sleep(0.02)
    there = workers_of(process.pid)
    process.kill()  # the parent alone: its workers see it
    process.wait()
    assert there
    deadline = time.monotonic() + 120
    while any(Path(f"/proc/{worker}").exists() for worker in there) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not [worker for worker in there if Path(f"/proc/{worker}").exists()]
    assert not (out / "dataset.json").exists()
    (hostile / "slow").unlink()
    subprocess.run(command, check=True, capture_output=True)
    assert directory_bytes(out) == undisturbed
