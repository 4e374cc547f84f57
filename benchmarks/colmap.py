"""What opening a large COLMAP model costs, in time and memory, beside pycolmap.

Opening means for both that afterwards every image's pose and observations, every point's place, error and track
length can be asked for; ours then reads all observations once as well, because it keeps none of them in memory. Each
runs in a process of its own, in turns; peak memory is that process's, as the kernel reports it.

Run: python -m benchmarks.colmap [--images 10000] [--points 5000000]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import fsspec
import numpy as np

from benchmarks.bench import report
from vlm3data.formats.colmap.cameras import StoredCamera
from vlm3data.formats.colmap.images import Observations, StoredImage
from vlm3data.formats.colmap.writing import WrittenPoints, write_model

ROUNDS = 3
TRACK = 4.0
"""Mean number of images that observe a point."""
LOOSE = 0.5
"""Observations of no point, for each of one."""

_OURS = """
from vlm3data.formats.colmap.model import Model
from vlm3data.storage import open_store
model = Model(*open_store(sys.argv[1]), "binary")
counts = [len(model.cameras), len(model.images.images), len(model.points.point_id)]
opened = spent()
observed = sum(map(len, model.images.all_observations()))
"""
_PYCOLMAP = """
import pycolmap
model = pycolmap.Reconstruction(sys.argv[1])
counts = [len(model.cameras), len(model.images), len(model.points3D)]
opened = spent()
observed = model.compute_num_observations()
"""
_WRITE = "import sys; from benchmarks.colmap import write; write(sys.argv[1], *map(int, sys.argv[2:]))"
_FRAME = """
import json, re, sys, time
start = time.perf_counter()
def spent():
    return [time.perf_counter() - start, time.process_time()]
{body}
peak_kb = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
print(json.dumps([*opened, *spent(), peak_kb / 1024, counts, observed]))
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--points", type=int, default=5_000_000)
    parser.add_argument("--tmp", help="where to put the model, about 1.2 GB by default")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.tmp) as directory:
        # in a process of its own: the memory this takes must not be counted as anybody's
        subprocess.run([sys.executable, "-c", _WRITE, directory, str(args.images), str(args.points)], check=True)
        size_mb = sum(path.stat().st_size for path in Path(directory).iterdir()) / 2**20
        bodies = {"vlm3": _OURS, "pycolmap": _PYCOLMAP}
        runs = {name: [] for name in bodies}
        for _ in range(ROUNDS):
            for name, body in bodies.items():
                runs[name].append(measured(body, directory))
    ((_, observed),) = {(json.dumps(run[5]), run[6]) for results in runs.values() for run in results}
    columns = ("open, s", "of CPU", "and all observations, s", "of CPU ", "peak memory, MB")
    rows = [
        {"what": name} | {column: median(run[number] for run in results) for number, column in enumerate(columns)}
        for name, results in runs.items()
    ]
    report("colmap", rows, f"{args.images} images, {args.points} points, {observed} observations, {size_mb:.0f} MB")


def measured(body: str, directory: str) -> list:
    command = [sys.executable, "-c", _FRAME.format(body=body), directory]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def write(directory: str, num_images: int, num_points: int) -> None:
    """Write a model in which every point has a track of different images, of random length."""
    rng = np.random.default_rng(0)
    length = np.minimum(2 + rng.geometric(1 / (TRACK - 1), num_points) - 1, num_images // 2)
    first = np.concatenate([[0], np.cumsum(length)])
    begin = rng.integers(num_images, size=num_points)
    place = np.arange(first[-1]) - np.repeat(first[:-1], length)
    image = (np.repeat(begin, length) + place) % num_images
    point = np.repeat(np.arange(1, num_points + 1), length)
    by_image = np.argsort(image, kind="stable")
    per_image = np.bincount(image, minlength=num_images)
    starts = np.concatenate([[0], np.cumsum(per_image)])
    index = np.empty(len(image), np.int64)
    index[by_image] = np.arange(len(image)) - np.repeat(starts[:-1], per_image)
    stored = {1: StoredCamera("SIMPLE_RADIAL", 1600, 1200, (1500.0, 800.0, 600.0, -0.03))}
    images = []
    for number in range(num_images):
        seen = point[by_image[starts[number] : starts[number + 1]]]
        total = len(seen) + int(LOOSE * len(seen))
        ids = np.full(total, -1)
        ids[: len(seen)] = seen
        pose = StoredImage(number + 1, (1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 1, f"sequence/frame_{number:06d}.jpg")
        images.append((pose, Observations(rng.uniform(0, 1200, (total, 2)), ids)))
    track = np.stack([image + 1, index], axis=1)
    rgb = np.zeros((num_points, 3), np.uint8)
    written = WrittenPoints(
        np.arange(1, num_points + 1), rng.normal(size=(num_points, 3)), rgb, rng.uniform(0, 2, num_points), first, track
    )
    write_model(fsspec.filesystem("file"), directory, "binary", stored, images, written)


if __name__ == "__main__":
    main()
