"""Builds at scale: cores, Ray, a plan of 26 M frames, memory and rate over a long build, the published curation.

plan      26 M frames planned, rows only: 50 frames a scene, and every frame a scene of its own. Targets 5 min, 2 GB.
cores     1600x900 frames on all cores of this machine against one. Targets 1.75x on 2 cores, 12x on 16.
ray       shards of 1,000 images on Ray, which runs already, against the local engine. Target 1.10.
build     200,000 small synthetic images end to end: rate and memory in each tenth of it. Targets: constant, flat.
curation  one core, real nuScenes frames: `build_shard` against the published way (no compensation of the vehicle's
          motion, floor pixel, the nearest z in each, 100 of them drawn, the image encoded again by OpenCV at full
          size), which does not unify the focal length. Target 1.0.

Run: python -m benchmarks.scale [--only plan] [--images 200000] [--rounds 5] [--quick]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import orjson

from benchmarks.bench import report
from benchmarks.inputs import frames_1600x900
from benchmarks.scale_measured import FRAMES

CORES = len(os.sched_getaffinity(0))
MINUTES = {"plan": 6, "cores": 7, "ray": 10, "build": 10, "curation": 1}
"""What each takes, about, on two cores."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=MINUTES)
    parser.add_argument("--images", type=int, default=200_000, help="of the long build")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="everything small: to see that it runs, not how fast")
    given = parser.parse_args()
    chosen = [given.only] if given.only else list(MINUTES)
    minutes = 2 * len(chosen) if given.quick else sum(MINUTES[part] for part in chosen)
    print(f"{', '.join(chosen)}: about {minutes} minutes on two cores", flush=True)
    for part in chosen:
        with tempfile.TemporaryDirectory(prefix="vlm3-scale-") as directory:
            rows, note = PARTS[part](given, Path(directory))
        report(f"scale_{part}{'_quick' if given.quick else ''}", rows, note)


def _plan(given: argparse.Namespace, directory: Path) -> tuple[list[dict[str, object]], str]:
    rows = []
    frames = FRAMES // 100 if given.quick else FRAMES
    for per_scene in (50, 1):
        wall, peak_mb, said = _process("plan", str(directory / "plan.parquet"), str(frames), str(per_scene))
        rows.append(
            {"frames": f"{frames:,}", "frames a scene": per_scene} | said | {"wall s": wall, "peak MB": peak_mb}
        )
    return rows, "planned and written as Parquet, then all jobs read back; targets 300 s, 2,000 MB"


def _cores(given: argparse.Namespace, directory: Path) -> tuple[list[dict[str, object]], str]:
    images = (60 if given.quick else 1000) * CORES
    root, origin = _photos(directory, images)
    rounds = 1 if given.quick else given.rounds
    seconds: dict[int, list[float]] = {1: [], CORES: []}
    for number in range(rounds):
        for workers, taken in seconds.items():
            out = directory / f"{workers}-{number}"
            taken.append(
                _process("build", str(root), str(out), "local", str(workers), str(images // CORES // 8))[2]["s"]
            )
    one, many = (statistics.median(taken) for taken in seconds.values())
    rows = [
        {"cores": 1, "images/s": images / one, "times one core": 1.0},
        {"cores": CORES, "images/s": images / many, "times one core": _median_ratio(seconds[1], seconds[CORES])},
    ]
    return rows, f"{images:,} images of {origin}, local engine, median of {rounds}; targets 1.75 on 2, 12 on 16 cores"


def _ray(given: argparse.Namespace, directory: Path) -> tuple[list[dict[str, object]], str]:
    shard = 50 if given.quick else 1000
    images = 2 * CORES * shard
    root, origin = _photos(directory, images)
    rounds = 1 if given.quick else min(3, given.rounds)
    seconds: dict[str, list[float]] = {"local": [], "ray": []}
    for number in range(rounds):
        for engine, taken in seconds.items():
            out = directory / f"{engine}-{number}"
            taken.append(_process("build", str(root), str(out), engine, str(CORES), str(shard))[2]["s"])
    rows = [
        {"engine": "local", "images/s": images / statistics.median(seconds["local"]), "times the local time": 1.0},
        {
            "engine": "ray",
            "images/s": images / statistics.median(seconds["ray"]),
            "times the local time": _median_ratio(seconds["ray"], seconds["local"]),
        },
    ]
    return rows, f"shards of {shard} images of {origin}, {CORES} cores, median of {rounds}; target 1.10"


def _build(given: argparse.Namespace, directory: Path) -> tuple[list[dict[str, object]], str]:
    images = min(given.images, 4000) if given.quick else given.images
    _, peak_mb, said = _process("watch", str(directory / "out"), str(images))
    rows = said["rows"]
    note = (
        f"{images:,} synthetic images of 64x48, {CORES} workers; the driver with its index: {peak_mb:,.0f} MB at most"
    )
    return rows, note


def _curation(given: argparse.Namespace, directory: Path) -> tuple[list[dict[str, object]], str]:
    said = _process("curation", str(directory), "2" if given.quick else "9")[2]
    return said["rows"], f"{said['origin']}, one core, CPU time; target 1.0 or less"


PARTS: dict[str, Callable[[argparse.Namespace, Path], tuple[list[dict[str, object]], str]]] = {
    "plan": _plan,
    "cores": _cores,
    "ray": _ray,
    "build": _build,
    "curation": _curation,
}


def _process(what: str, *arguments: str) -> tuple[float, float, dict]:
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
    root, (frames, origin) = directory / "root", frames_1600x900()
    (root / "rgb").mkdir(parents=True)
    for number, data in enumerate(frames):
        (root / "rgb" / f"{number}.jpg").write_bytes(data)
    labels = [[(37 * n) % 1600, (53 * n) % 900] for n in range(100)]
    record = {"intrinsics": [1266.4, 1266.4, 816.3, 491.5, 1600, 900], "pixel_coords": labels, "depth_type": "z_depth"}
    record["depth"] = [round(1 + 0.37 * n, 2) for n in range(100)]
    lines = [orjson.dumps(record | {"image": f"rgb/{number % len(frames)}.jpg"}) for number in range(images)]
    (root / "photos_train.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    return root, origin


def _median_ratio(slow: list[float], fast: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


if __name__ == "__main__":
    main()
