"""Builds at scale: every number of docs/scale.md, and whether it is what it should be.

plan      26 M frames planned, rows only: 50 frames a scene, and every frame a scene of its own. Targets 5 min, 2 GB.
cores     1600x900 frames on all cores of this machine against one. Targets 1.75x on 2 cores, 12x on 16.
ray       shards of 1,000 images on Ray, which runs already, against the local engine. Target 1.10.
build     200,000 small synthetic images end to end: rate and memory in each tenth of it. Targets: constant, flat.
curation  one core, real nuScenes frames: `build_shard` against the published way (`benchmarks.scale_curation`), which
          does not unify the focal length. Target 1.0.
rerender  `benchmarks.rerender`: asking again against copying the tars, and `--store original` in the stream.

Each part's result is written when it is done, `scale_<part>.json`; `scale.json` holds all that there are against their
targets. Stopped, it goes on with --resume. Results of another machine (16 cores) are files to put beside the others.

Run: python -m benchmarks.scale [--only plan --only cores] [--resume] [--results DIR] [--images 200000] [--rounds 5]
     [--quick]
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson

from benchmarks.bench import RESULTS, report
from benchmarks.inputs import frames_1600x900
from benchmarks.scale_measured import FRAMES
from benchmarks.scale_targets import against_targets

CORES = len(os.sched_getaffinity(0))
MINUTES = {"plan": 5, "cores": 4, "ray": 4, "build": 10, "curation": 1, "rerender": 1}
"""What each takes, about, on two cores."""
Measured = tuple[Sequence[Mapping[str, object]], str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=MINUTES, action="append", help="may be said several times")
    parser.add_argument("--resume", action="store_true", help="leave out what has a result already")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the results go")
    parser.add_argument("--images", type=int, default=200_000, help="of the long build")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="everything small: to see that it runs, not how fast")
    given = parser.parse_args()
    suffix = "_quick" if given.quick else ""
    chosen = [
        part
        for part in given.only or MINUTES
        if not (given.resume and (given.results / f"{_result_of(part)}{suffix}.json").exists())
    ]
    minutes = len(chosen) if given.quick else sum(MINUTES[part] for part in chosen)
    print(f"{', '.join(chosen)}: about {minutes} minutes on two cores", flush=True)
    for part in chosen:
        if part == "rerender":
            _rerender(given)
            continue
        with tempfile.TemporaryDirectory(prefix="vlm3-scale-") as directory:
            rows, note = PARTS[part](given, Path(directory))
        report(f"{_result_of(part)}{suffix}", rows, note, given.results)
    report(f"scale{suffix}", against_targets(given.results, suffix), "what was wanted", given.results)


def _result_of(part: str) -> str:
    return {"rerender": "rerender", "cores": f"scale_cores_{CORES}"}.get(part, f"scale_{part}")


def _rerender(given: argparse.Namespace) -> None:
    command = [sys.executable, "-m", "benchmarks.rerender", "--results", str(given.results)]
    subprocess.run([*command, *(["--quick"] if given.quick else [])], check=True)


def _plan(given: argparse.Namespace, directory: Path) -> Measured:
    rows = []
    frames = FRAMES // 100 if given.quick else FRAMES
    for per_scene in (50, 1):
        wall, peak_mb, said = _process("plan", str(directory / "plan.parquet"), str(frames), str(per_scene))
        rows.append(
            {"frames": f"{frames:,}", "frames a scene": per_scene} | said | {"wall s": wall, "peak MB": peak_mb}
        )
    return rows, "planned and written as Parquet, then all jobs read back; targets 300 s, 2,000 MB"


def _cores(given: argparse.Namespace, directory: Path) -> Measured:
    each = 60 if given.quick else 1000 if CORES <= 4 else 2000
    root, origin = _photos(directory / "all", each * CORES)
    few, _ = _photos(directory / "few", each)  # one core does not need as many
    rounds = 1 if given.quick else given.rounds
    one, all_of_them, apart = "one core", f"{CORES} cores", f"{CORES} builds of a core each, side by side"
    rates: dict[str, list[float]] = {one: [], all_of_them: [], apart: []}
    for _ in range(rounds):
        rates[one].append(each / _built(directory / "out", few, "local", 1, each // 16))
        rates[all_of_them].append(each * CORES / _built(directory / "out", root, "local", CORES, each // 16))
        rates[apart].append(sum(each / seconds for seconds in _side_by_side(directory, few, each // 16)))
    rows = [
        {"what": what, "images/s": statistics.median(rates[what]), "times one core": _ratio(rates[what], rates[one])}
        for what in rates
    ]
    note = f"{each:,} images a core of {origin}, local engine, median of {rounds}; targets 1.75 on 2, 12 on 16"
    return rows, f"{note}; the last row has nothing in common but the machine"


def _side_by_side(directory: Path, data: Path, shard_size: int) -> list[float]:
    """Return the seconds of a build on each core, all at once: what the machine can do when nothing is shared."""
    with ThreadPoolExecutor(CORES) as pool:
        outs = [directory / f"out-{core}" for core in range(CORES)]
        return list(pool.map(lambda out, core: _built(out, data, "local", 1, shard_size, core), outs, range(CORES)))


def _ray(given: argparse.Namespace, directory: Path) -> Measured:
    shard = 50 if given.quick else 1000
    images = CORES * shard
    root, origin = _photos(directory / "root", images)
    rounds = 1 if given.quick else min(3, given.rounds)
    seconds: dict[str, list[float]] = {"local": [], "ray": []}
    for _ in range(rounds):
        for engine, taken in seconds.items():
            taken.append(_built(directory / "out", root, engine, CORES, shard))
    rows = [
        {
            "engine": engine,
            "images/s": images / statistics.median(taken),
            "times the local time": _ratio(taken, seconds["local"]),
        }
        for engine, taken in seconds.items()
    ]
    return rows, f"a shard of {shard} images a core, {origin}, {CORES} cores, median of {rounds}; target 1.10"


def _built(out: Path, root: Path, engine: str, workers: int, shard_size: int, core: int = 0) -> float:
    """Return the seconds of a build, whose output is thrown away; one with one worker runs on `core`."""
    said = _process("build", str(root), str(out), engine, str(workers), str(max(1, shard_size)), str(core))[2]
    shutil.rmtree(out)
    return said["s"]


def _build(given: argparse.Namespace, directory: Path) -> Measured:
    images = min(given.images, 4000) if given.quick else given.images
    _, peak_mb, said = _process("watch", str(directory / "out"), str(images))
    rows = said["rows"]
    note = (
        f"{images:,} synthetic images of 64x48, {CORES} workers; the driver with its index: {peak_mb:,.0f} MB at most"
    )
    return rows, note


def _curation(given: argparse.Namespace, directory: Path) -> Measured:
    said = _process("curation", str(directory), "2" if given.quick else "9")[2]
    return said["rows"], f"{said['origin']}, one core, CPU time, both JPEG quality 95 with 4:2:0 chroma; target 1.0"


PARTS: dict[str, Callable[[argparse.Namespace, Path], Measured]] = {
    "plan": _plan,
    "cores": _cores,
    "ray": _ray,
    "build": _build,
    "curation": _curation,
}


def _process(what: str, *arguments: str) -> tuple[float, float, dict[str, Any]]:
    """Measure one thing in a process of its own; return its wall seconds, peak memory in MB and what it says."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.scale_measured", what, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{what} ended with {process.returncode}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024, orjson.loads(said.splitlines()[-1])


def _photos(directory: Path, images: int) -> tuple[Path, str]:
    """Return a JSON Lines dataset of so many 1600x900 images with 100 labels each, and where its frames are from."""
    root, (frames, origin) = directory, frames_1600x900()
    (root / "rgb").mkdir(parents=True)
    for number, data in enumerate(frames):
        (root / "rgb" / f"{number}.jpg").write_bytes(data)
    labels = [[(37 * n) % 1600, (53 * n) % 900] for n in range(100)]
    record = {"intrinsics": [1266.4, 1266.4, 816.3, 491.5, 1600, 900], "pixel_coords": labels, "depth_type": "z_depth"}
    record["depth"] = [round(1 + 0.37 * n, 2) for n in range(100)]
    lines = [orjson.dumps(record | {"image": f"rgb/{number % len(frames)}.jpg"}) for number in range(images)]
    (root / "photos_train.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    return root, origin


def _ratio(these: list[float], those: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(these, those, strict=True))


if __name__ == "__main__":
    main()
