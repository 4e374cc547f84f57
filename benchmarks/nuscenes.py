"""nuScenes: how long its tables take to open, against nuscenes-devkit 1.2.0, and frames with LiDAR labels to convert.

Opening is measured on generated tables of trainval's size, in processes of their own: wall time from start to end of
the process, its CPU time and its peak memory; ours without a cache, and again with it. All tables are in the page
cache before. The devkit runs in a virtual environment that is made for it, as it needs numpy < 2.

Converting is the whole of `build_shard` on one core, over one decode and one encode by simplejpeg.

Run: python -m benchmarks.nuscenes [--scenes 850] [--rounds 3] [--tables DIR] [--no-devkit]
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
from itertools import count
from pathlib import Path

import cv2
import orjson
import simplejpeg

from benchmarks.bench import alternate, one_core, ratio, report
from benchmarks.inputs import REALDATA
from benchmarks.nuscenes_tables import write_tables
from vlm3data.build import BuildConfig, build, build_shard, plan
from vlm3data.images import decode_rgb
from vlm3data.layouts.nuscenes import NuscenesLayout
from vlm3data.shards import read_samples

DEVKIT = "nuscenes-devkit==1.2.0"
FRAMES, ROUNDS = 60, 9

_OURS = """
import sys
import fsspec
from vlm3data.formats.nuscenes import open_tables
tables = open_tables(fsspec.filesystem("file"), sys.argv[1] + "/v1.0-trainval", sweeps=False)
assert len(tables.sample_us) == int(sys.argv[2])
"""
_THEIRS = """
import sys
from nuscenes.nuscenes import NuScenes
tables = NuScenes("v1.0-trainval", sys.argv[1], verbose=False)
assert len(tables.sample) == int(sys.argv[2])
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=850)
    parser.add_argument("--rounds", type=int, default=3, help="of ours; the devkit runs once")
    parser.add_argument("--tables", type=Path, help="where to keep the tables, or where they are")
    parser.add_argument("--no-devkit", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        tables = given.tables or Path(directory) / "tables"
        if not tables.exists():
            write_tables(tables, given.scenes)
        rows = _opening(tables, given.rounds, Path(directory), with_devkit=not given.no_devkit)
        size_gb = sum(path.stat().st_size for path in (tables / "v1.0-trainval").iterdir()) / 1e9
        floor, ours, origin = _converting(Path(directory))
    over = ratio(ours, floor)
    rows += [
        {"what": "convert: decode + encode", "seconds": statistics.median(floor) / FRAMES, "times": 1.0},
        {"what": "convert: build_shard", "seconds": statistics.median(ours) / FRAMES, "times": over},
    ]
    for row in rows:
        row.setdefault("CPU seconds", row["seconds"])
        row.setdefault("peak MB", "-")
    note = (
        f"tables of {size_gb:.2f} GB (targets: first open 3x, later opens 20x faster than the devkit, half its memory);"
        f" {origin} (target 1.9)"
    )
    columns = ("what", "seconds", "CPU seconds", "peak MB", "times")
    report("nuscenes", [{column: row.get(column, "-") for column in columns} for row in rows], note)


def _opening(tables: Path, rounds: int, directory: Path, *, with_devkit: bool) -> list[dict[str, object]]:
    """Return rows with medians; `times` says how much faster than the devkit, by wall time."""
    samples = len(orjson.loads((tables / "v1.0-trainval" / "sample.json").read_bytes()))
    time.sleep(3)  # younger tables are not cached
    python, arguments = sys.executable, [str(tables), str(samples)]
    runs: dict[str, list[tuple[float, float, float]]] = {"open: ours, first": [], "open: ours, later": []}
    for number in range(rounds):
        home = str(directory / f"cache{number}")
        for each in runs.values():
            each.append(_process([python, "-c", _OURS, *arguments], XDG_CACHE_HOME=home))
    if with_devkit:
        runs["open: devkit"] = [_process([_devkit_python(), "-c", _THEIRS, *arguments], PYTHONPATH="")]
    rows: list[dict[str, object]] = []
    for what, measured in runs.items():
        wall, cpu, peak = (statistics.median(values) for values in zip(*measured, strict=True))
        rows.append({"what": what, "seconds": wall, "CPU seconds": cpu, "peak MB": peak})
        if with_devkit:
            rows[-1]["times"] = runs["open: devkit"][0][0] / wall
    return rows


def _process(command: list[str], **environment: str) -> tuple[float, float, float]:
    """Run a command and return its wall seconds, CPU seconds and peak memory in MB."""
    start = time.perf_counter()
    process = subprocess.Popen(command, env=os.environ | environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command[:2]} ended with {process.returncode}")
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def _devkit_python() -> str:
    """Return the Python of an environment that has the devkit, made on first use."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vlm3" / "benchmarks" / "nuscenes-devkit"
    python, ready = home / "bin" / "python", home / "ready"
    if not ready.exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", DEVKIT], check=True)
        ready.touch()
    return str(python)


def _converting(directory: Path) -> tuple[list[float], list[float], str]:
    """Return CPU seconds of the floor and of ours per round over `FRAMES` frames, and what the frames are."""
    one_core()
    cv2.setNumThreads(1)
    root, origin = _frames(directory / "frames")
    (job,) = plan(BuildConfig(source="nuscenes", root=str(root), shard_size=FRAMES, limit=FRAMES))
    out = str(directory / "out")
    build(job.config, out, workers=1)
    results = [decode_rgb(sample.images[0]) for sample in read_samples(out)]
    sources = [path.read_bytes() for path in sorted((root / "samples").glob("CAM_*/*.jpg"))]
    sources = [sources[number % len(sources)] for number in range(FRAMES)]
    fresh = (directory / f"out{number}" for number in count())

    def floor() -> None:
        for source, result in zip(sources, results, strict=True):
            simplejpeg.decode_jpeg(source)
            simplejpeg.encode_jpeg(result, 95, colorsubsampling="420")

    def ours() -> None:
        target = next(fresh)
        target.mkdir()
        build_shard(str(target), job)

    contenders: dict[str, Callable[[], object]] = {"floor": floor, "ours": ours}
    seconds = alternate(contenders, ROUNDS)
    return seconds["floor"], seconds["ours"], origin


def _frames(root: Path) -> tuple[Path, str]:
    """Return a root with `FRAMES` frames: the real sample over and over, or synthetic streets."""
    real = REALDATA / "nuscenes"
    if not real.exists():
        options = NuscenesLayout.Options(scenes=1, samples=FRAMES // 6, sweeps=0, truth=False)
        NuscenesLayout(options, 0).write(str(root), lambda done, total: None)
        return root, "synthetic frames"
    (root / "v1.0-mini").mkdir(parents=True)
    (root / "samples").symlink_to(real / "samples")
    copies = range(FRAMES // 6)
    for path in (real / "v1.0-mini").glob("*.json"):
        records = orjson.loads(path.read_bytes())
        if path.stem in ("sample", "sample_data", "ego_pose", "sample_annotation"):
            records = [_renamed(record, number) for number in copies for record in records]
        if path.stem == "scene":
            records[0]["nbr_samples"] = len(copies)
        (root / "v1.0-mini" / path.name).write_bytes(orjson.dumps(records))
    return root, "real frames"


def _renamed(record: dict[str, object], number: int) -> dict[str, object]:
    """Return a record of the sample's copy of this number."""
    tokens = ("token", "sample_token", "ego_pose_token")
    moved = {key: f"{record[key]}-{number}" for key in tokens if key in record}
    if "timestamp" in record:
        moved["timestamp"] = int(str(record["timestamp"])) + number * 500_000
    return record | moved


if __name__ == "__main__":
    main()
