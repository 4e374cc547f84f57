"""What mixtures cost beyond a local disk: a store with latency, a far start, a very long index, and other readers.

The store is a local one whose every request waits 20 ms in fsspec. Peers read the same tars, each as its own
documentation advises; those that are not installed are left out. Peers whose dependencies collide with ours run in a
Python of their own, named by `PEER_GRAIN`, `PEER_ENERGON`, `PEER_MOSAIC` and `PEER_LITDATA`.

Run: python -m benchmarks.mixture [store] [start] [memory] [peers]
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice, product
from pathlib import Path

import fsspec
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg
from fsspec.asyn import AsyncFileSystem

from benchmarks.bench import ratio, report
from benchmarks.peers import READERS
from benchmarks.peers import __file__ as peers_file
from benchmarks.stream import SAMPLES, _prepare
from vlm3data.mixture import Mixture
from vlm3data.stream import open_stream

LATENCY_S, INDEX_SAMPLES = 0.02, 10_000_000
ROUNDS, PEER_ROUNDS, DECODED = 7, 3, 300


class SlowFileSystem(AsyncFileSystem):
    """Local files as a store far away has them: any number of requests at a time, each with its latency."""

    protocol = "slow"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(path).removeprefix("slow://")

    async def _cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: object) -> bytes:
        await asyncio.sleep(LATENCY_S)
        with Path(self._strip_protocol(path)).open("rb") as file:
            file.seek(start or 0)
            return file.read() if end is None else file.read(end - (start or 0))

    async def _info(self, path: str, **_: object) -> dict[str, object]:
        await asyncio.sleep(LATENCY_S)
        size = Path(self._strip_protocol(path)).stat().st_size
        return {"name": path, "size": size, "type": "file"}


def main() -> None:
    """Measure what is named on the command line, or all of it."""
    fsspec.register_implementation("slow", SlowFileSystem, clobber=True)
    chosen = sys.argv[1:] or ["store", "start", "memory", "peers"]
    with tempfile.TemporaryDirectory() as directory:
        rows: list[dict[str, object]] = []
        if {"store", "start", "peers"} & set(chosen):
            local, tars, origin = _prepare(Path(directory))
        if "store" in chosen:
            rows += store(local)
        if "start" in chosen:
            rows += start(local)
        if "memory" in chosen:
            rows += memory(Path(directory))
        if rows:
            report("mixture", rows, f"latency {LATENCY_S * 1e3:.0f} ms, index of {INDEX_SAMPLES:,}")
        if "peers" in chosen:
            report(
                "mixture_peers",
                peers(local, tars),
                f"{SAMPLES} samples of {origin}; ratios to tarfile, wall and CPU time",
            )


def store(local: Mixture) -> list[dict[str, object]]:
    """Return how fast a stream from the slow store is beside that from the disk, decoded, in wall time."""
    values = local.spec.model_dump(exclude_defaults=True)
    for entry in values["datasets"].values():
        entry["shards"] = f"slow://{entry['shards']}"
    slow = Mixture.check(values, "slow")
    one_by_one = Mixture.check(values | {"read_ahead": 1}, "slow")

    def read(mixture: Mixture, many: int = DECODED) -> Callable[[], None]:
        def run() -> None:
            with open_stream(mixture) as stream:
                for _, sample in islice(stream, many):
                    simplejpeg.decode_jpeg(sample.images[0])

        return run

    contenders = {"disk": read(local), "20 ms store": read(slow), "20 ms store, one by one": read(one_by_one)}
    seconds = walls(contenders)
    target = {"disk": "-", "20 ms store": ">= 0.8", "20 ms store, one by one": "-"}
    return [
        row(
            f"{name}, decoded",
            DECODED / statistics.median(times),
            "samples/s",
            ratio(seconds["disk"], times),
            target[name],
        )
        for name, times in seconds.items()
    ]


def start(local: Mixture) -> list[dict[str, object]]:
    """Return the time to the first sample at position 0 and at 10^9, of a mixture loaded anew."""

    def first(n: int) -> Callable[[], None]:
        def run() -> None:
            fresh = Mixture.check(local.spec.model_dump(exclude_defaults=True), "fresh")
            next(open_stream(fresh, start=n))

        return run

    seconds = walls({"position 0": first(0), "position 10^9": first(10**9)}, rounds=11)
    near, far = seconds["position 0"], seconds["position 10^9"]
    return [
        row("first sample at position 0", statistics.median(near) * 1e3, "ms", 1.0, "-"),
        row("first sample at 10^9", statistics.median(far) * 1e3, "ms", ratio(far, near), "<= 1.25"),
    ]


def memory(directory: Path) -> list[dict[str, object]]:
    """Return the anonymous memory that ten million samples take beyond the imports, as shares of 300 MB."""
    huge = directory / "huge"
    write_huge(huge)
    rows = []
    for name, entry in (("all", {}), ("limit 9,000,000", {"limit": 9_000_000}), ("where", {"where": "questions > 5"})):
        spec = {"datasets": {"huge": {"shards": str(huge), "weight": 1, **entry}}}
        found = json.loads(
            subprocess.run([sys.executable, "-c", _HOLD, json.dumps(spec)], stdout=subprocess.PIPE, check=True).stdout
        )
        for when in ("after", "peak"):
            rows.append(row(f"index of 10^7, {name}, {when}", found[when], "MB anonymous", found[when] / 300, "<= 1"))
    return rows


_HOLD = """
import json, sys, threading, time
def anonymous():
    lines = open("/proc/self/smaps_rollup").read().splitlines()
    return sum(int(l.split()[1]) for l in lines if l.startswith("Anonymous:")) / 1e3
import numpy, polars, pyarrow
from vlm3data.mixture import Mixture
imports, peak, done = anonymous(), [0], []
def watch():
    while not done:
        peak[0] = max(peak[0], anonymous()); time.sleep(0.005)
watcher = threading.Thread(target=watch, daemon=True); watcher.start()
mixture = Mixture.check(json.loads(sys.argv[1]), "huge")
schedule = mixture.schedule()
dataset = mixture.parts[0].dataset
for n in (0, 10**9):
    for i in range(2000):
        place = schedule.locate(n + i)
        dataset.where(place.sample)
done.append(1); watcher.join()
print(json.dumps({"after": anonymous() - imports, "peak": peak[0] - imports}))
"""


def write_huge(out: Path) -> None:
    """Write the index of ten million samples in shards of 1,000, without the shards."""
    out.mkdir()
    numbers = np.arange(INDEX_SAMPLES)
    shards = [f"shard-{i:06d}.tar" for i in range(INDEX_SAMPLES // 1000)]
    place = {
        "shard": pa.array((numbers // 1000).astype(np.uint32)),
        "offset": pa.array((numbers % 1000 * 200_192).astype(np.uint64)),
        "length": pa.array(np.full(INDEX_SAMPLES, 200_192, np.uint32)),
        "xxh3": pa.array(numbers.astype(np.uint64)),
    }
    table = pa.table(place).replace_schema_metadata({"shards": orjson.dumps(shards)})
    with pa.ipc.new_file(str(out / "index.arrow"), table.schema) as writer:
        writer.write_table(table, max_chunksize=INDEX_SAMPLES)
    columns = {"questions": pa.array((numbers % 11).astype(np.uint32))}
    pq.write_table(pa.table(columns), out / "index.parquet", compression="zstd")
    about = {"samples": INDEX_SAMPLES, "bytes": 200_192 * INDEX_SAMPLES, "fingerprint": "0"}
    (out / "dataset.json").write_bytes(orjson.dumps(about | {"shards": dict.fromkeys(shards, "")}))


def peers(local: Mixture, tars: list[Path]) -> list[dict[str, object]]:
    """Return the rates of readers of the same tars in bytes and decoded, each in its own process, taken in turns."""
    values = json.dumps(local.spec.model_dump(exclude_defaults=True))
    pythons = {name: os.environ.get(f"PEER_{name.upper()}") for name in ("grain", "energon", "mosaic", "litdata")}
    seconds: dict[tuple[str, str], list[dict[str, float]]] = {}
    absent: set[str] = set()
    for _ in range(PEER_ROUNDS):
        for name, (what, samples) in product(READERS, {"bytes": SAMPLES, "decoded": DECODED}.items()):
            if name in absent:
                continue
            command = [
                pythons.get(name) or sys.executable,
                peers_file,
                name,
                what,
                str(samples),
                values,
                *map(str, tars),
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                print(f"{name} is left out: {(done.stderr.strip().splitlines() or ['?'])[-1]}", file=sys.stderr)
                absent.add(name)
                continue
            seconds.setdefault((what, name), []).append(json.loads(done.stdout.splitlines()[-1]))
    targets = {("bytes", "vlm3"): ">= 2.5"}  # decoded is held against a bare loop in `benchmarks.stream`
    rows = []
    for (what, name), found in sorted(seconds.items(), key=lambda entry: entry[0][0]):
        if len(found) < PEER_ROUNDS:
            continue
        wall, cpu = (
            ([times[clock] for times in seconds[what, "tarfile"]], [times[clock] for times in found])
            for clock in ("seconds", "cpu_seconds")
        )
        rate = found[0]["samples"] / statistics.median(wall[1])
        target = targets.get((what, name), "-")
        rows.append(row(f"{name}, {what}", rate, "samples/s", ratio(*wall), target) | {"CPU ratio": ratio(*cpu)})
    return rows


def walls(contenders: dict[str, Callable[[], None]], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Return seconds of wall time per contender and round, taken in turns: waiting is what is measured here."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for run in contenders.values():
        run()
    gc.disable()
    for _ in range(rounds):
        for name, run in contenders.items():
            begin = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - begin)
    gc.enable()
    return seconds


def row(what: str, value: float, unit: str, times: float, target: str) -> dict[str, object]:
    """Return a line of the table."""
    return {"what": what, "value": value, "unit": unit, "ratio": times, "target": target}


if __name__ == "__main__":
    main()
