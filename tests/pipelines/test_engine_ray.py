"""Builds on a real cluster of several nodes, which die meanwhile: the bytes of an undisturbed local build."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines import engine_ray
from tests import hostile_source
from tests.conftest import directory_bytes, jsonl_line, write_jsonl
from vlm3data import registry
from vlm3data.build import BuildConfig, build
from vlm3data.contracts import Needs

ray = pytest.importorskip("ray")
cluster_utils = pytest.importorskip("ray.cluster_utils")

FRAMES, SHARD, SLOW_S = 48, 4, "0.1"
NODE = {"num_cpus": 1, "object_store_memory": 80 << 20, "memory": 2 << 30}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Yield a directory with data and traps; all processes that start from here know the source `hostile`."""
    place = tmp_path_factory.mktemp("ray")
    site = hostile_source.install(place / "site")
    (place / "traps").mkdir()
    write_jsonl(place / "root", [jsonl_line(number) for number in range(FRAMES)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(site), str(Path.cwd()), os.environ.get("PYTHONPATH", "")]))
        patch.syspath_prepend(str(site))
        registry._known.cache_clear()
        yield place
    registry._known.cache_clear()


@pytest.fixture(scope="module")
def undisturbed(place) -> dict[str, bytes]:
    config = BuildConfig(source="hostile", root=str(place / "root"), focal_px=150, shard_size=SHARD)
    build(config, str(place / "undisturbed"), workers=1)
    return directory_bytes(place / "undisturbed")


@pytest.fixture(scope="module")
def cluster(place, undisturbed):
    """Yield a cluster whose head computes nothing and whose two other nodes have one CPU each."""
    (place / "traps" / "slow").write_text(SLOW_S)
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=NODE | {"num_cpus": 0})
    for _ in range(2):
        cluster.add_node(**NODE)
    cluster.wait_for_nodes()
    yield cluster
    cluster.shutdown()


def start(place: Path, cluster, out: Path) -> subprocess.Popen[str]:
    """Start a build on the cluster as its user would."""
    command = [sys.executable, "-m", "vlm3data.cli", "build", "hostile", "--root", str(place / "root")]
    command += ["--out", str(out), "--focal", "150", "--shard-size", str(SHARD), "--engine", "ray"]
    return subprocess.Popen([*command, "--ray-address", cluster.address], stderr=subprocess.PIPE, text=True)


def committed(out: Path, some: int, process: subprocess.Popen[str]) -> int:
    """Wait until `some` shards are there, and return how many."""
    deadline = time.monotonic() + 120
    while len(list(out.glob("*.manifest.json"))) < some and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    return len(list(out.glob("*.manifest.json")))


def finish(process: subprocess.Popen[str]) -> None:
    _, said = process.communicate(timeout=240)
    assert process.returncode == 0, said


def test_a_node_and_workers_may_die(place, cluster, undisturbed, tmp_path):
    out = tmp_path / "out"
    process = start(place, cluster, out)
    assert 0 < committed(out, 2, process) < FRAMES // SHARD
    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
    cluster.add_node(**NODE)
    committed(out, 4, process)
    while not (busy := busy_workers(place)) and process.poll() is None:
        time.sleep(0.01)  # between two shards
    for pid in busy:
        os.kill(pid, signal.SIGKILL)
    assert committed(out, 5, process) < FRAMES // SHARD, "the kills must hit the middle of the build"
    finish(process)
    assert directory_bytes(out) == undisturbed


def test_the_driver_may_die_and_is_started_again(place, cluster, undisturbed, tmp_path):
    out = tmp_path / "out"
    process = start(place, cluster, out)
    assert 0 < committed(out, 2, process) < FRAMES // SHARD
    process.kill()
    process.communicate()
    assert not (out / "dataset.json").exists()
    finish(start(place, cluster, out))
    assert directory_bytes(out) == undisturbed


def test_crashing_frames_are_left_out_as_without_ray(place, cluster, tmp_path):
    traps = place / "traps"
    (traps / "13.crash").touch()
    (traps / "30.exit").touch()
    (traps / "slow").unlink()  # nothing is to be met in the middle
    try:
        finish(start(place, cluster, tmp_path / "out"))
        config = BuildConfig(source="hostile", root=str(place / "root"), focal_px=150, shard_size=SHARD)
        dataset = build(config, str(tmp_path / "local"), workers=2)
    finally:
        (traps / "13.crash").unlink()
        (traps / "30.exit").unlink()
        (traps / "slow").write_text(SLOW_S)
    assert [found["key"] for found in dataset["quarantined"]] == ["toy_train-00000013", "toy_train-00000030"]
    assert directory_bytes(tmp_path / "out") == directory_bytes(tmp_path / "local")


def test_tasks_go_where_their_data_and_memory_are(cluster, monkeypatch):
    holder = cluster.add_node(**NODE, resources={"hostile": 1})
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        asked = engine_ray._placed(Needs("hostile", 500))
        assert asked == {"num_cpus": 1, "memory": 500_000_000, "resources": {"hostile": engine_ray.HOLDS}}
        assert engine_ray._placed(Needs("other", 10**6)) == {"num_cpus": 1, "memory": 2 << 30, "resources": {}}
        nodes = dict(engine_ray.run(node_of, range(6), workers=None, needs=Needs("hostile", 500)))
        assert nodes == dict.fromkeys(range(6), holder.node_id)
    finally:
        ray.shutdown()
        cluster.remove_node(holder)


def node_of(job: int) -> str:
    return ray.get_runtime_context().get_node_id()


def test_no_more_is_taken_on_than_can_run_soon(cluster):
    taken = []

    def jobs():
        for number in range(40):
            taken.append(number)
            yield number

    ray.init(address=cluster.address, log_to_driver=False)
    try:
        results = engine_ray.run(str, jobs(), workers=2)
        next(results)
        assert len(taken) <= 2 * engine_ray.AHEAD + 1
        results.close()
    finally:
        ray.shutdown()


def busy_workers(place: Path) -> list[int]:
    """Return the processes of this cluster that build a shard now."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                ours = str(place).encode() in (process / "environ").read_bytes()
                if ours and (process / "cmdline").read_bytes().startswith(b"ray::_call"):
                    found.append(int(process.name))
            except OSError:
                continue  # it ended, or is not ours
    return found
