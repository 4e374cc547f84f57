"""Asking again from shards against copying them and against the build that it replaces; and what it costs to unify
images as they are read rather than once.

The floor of the first table copies the same tars and hashes what passes as shards must be: xxh3 of every sample, sha256
of the whole. Beside it stands the plainest copy, member by member with Python's tarfile, which hashes nothing. One
process on one core, CPU time, page cache warm.

Run: python -m benchmarks.rerender [--quick] [--results DIR]
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import orjson
import xxhash

from benchmarks.bench import RESULTS, alternate, one_core, ratio, report
from benchmarks.inputs import frames_1600x900
from vlm3data.build import BuildConfig, build
from vlm3data.mixture import Mixture
from vlm3data.rerender import rerender
from vlm3data.stream import open_stream

CHANGED = {"depth": {"grid": 1000, "pixels": 32}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    quick, results = given.quick, given.results
    samples, rounds = (40, 3) if quick else (600, 5)
    one_core()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        origin = _write_frames(directory / "root", samples)
        unified, original = (_built(directory, store) for store in ("unified", "original"))
        rows, said = _again(directory, unified, rounds, samples)
        report("rerender" + "_quick" * quick, rows, f"{samples} samples of {origin}, {said}", results)
        rows, said = _read(unified, original, rounds, samples)
        report("stream_original" + "_quick" * quick, rows, f"{samples} samples of {origin}, {said}", results)


def _again(directory: Path, shards: Path, rounds: int, samples: int) -> tuple[list[dict[str, str | float]], str]:
    size_mb = sum(path.stat().st_size for path in shards.glob("*.tar")) / 1e6
    fresh = directory / "fresh"

    def asked_again() -> None:
        shutil.rmtree(fresh, ignore_errors=True)
        rerender(str(shards), str(fresh), tasks=CHANGED, workers=1)

    def built_again() -> None:
        shutil.rmtree(fresh, ignore_errors=True)
        build(_config(directory / "root", "unified", CHANGED), str(fresh), workers=1)

    def copied(copy: Callable[[Path, Path], None]) -> None:
        shutil.rmtree(fresh, ignore_errors=True)
        copy(shards, fresh)

    contenders = {
        "tar copy, hashed": partial(copied, _copy),
        "rerender": asked_again,
        "tar copy, Python's tarfile": partial(copied, _copy_members),
    }
    seconds = alternate(contenders, rounds)
    seconds |= alternate({"build": built_again}, max(1, rounds // 2))
    rows = [
        {
            "what": name,
            "MB/s": size_mb / sorted(times)[len(times) // 2],
            "samples/s": samples / sorted(times)[len(times) // 2],
            "times the copy": ratio(times, seconds["tar copy, hashed"][: len(times)]),
        }
        for name, times in seconds.items()
    ]
    return rows, f"64 labels stored, 32 asked again, {1e3 * size_mb / samples:.0f} kB a sample"


def _read(unified: Path, original: Path, rounds: int, samples: int) -> tuple[list[dict[str, str | float]], str]:
    def read(shards: Path, **seen: object) -> None:
        spec = {"datasets": {"frames": {"shards": str(shards), "weight": 1} | seen}}
        for _, sample in islice(open_stream(Mixture.check(spec, "benchmark")), samples):
            assert sample.image_arrays()
            assert sample.questions

    seconds = alternate(
        {
            "unified shards": lambda: read(unified),
            "original, as built": lambda: read(original),
            "original, 750 px": lambda: read(original, focal_px=750),
        },
        rounds,
    )
    rows = [
        {
            "what": name,
            "samples/s": samples / sorted(times)[rounds // 2],
            "times the time of unified shards": ratio(times, seconds["unified shards"]),
        }
        for name, times in seconds.items()
    ]
    return rows, "decoded, questions drawn"


def _copy(shards: Path, out: Path) -> None:
    """Copy the tars sample by sample, hashing each sample and the whole, as reading and writing shards does."""
    out.mkdir()
    for tar in sorted(shards.glob("*.tar")):
        members = orjson.loads(tar.with_suffix(".manifest.json").read_bytes())["members"]
        whole = hashlib.sha256()
        with tar.open("rb") as source, (out / tar.name).open("wb") as target:
            for length in [member["length"] for member in members] + [1024]:
                block = source.read(length)
                xxhash.xxh3_64_intdigest(block)
                whole.update(block)
                target.write(block)


def _copy_members(shards: Path, out: Path) -> None:
    """Copy the tars member by member with the standard library, unhashed."""
    out.mkdir()
    for tar in sorted(shards.glob("*.tar")):
        with tarfile.open(tar) as source, tarfile.open(out / tar.name, "w") as target:
            for member in source:
                target.addfile(member, source.extractfile(member))


def _write_frames(root: Path, samples: int) -> str:
    frames, origin = frames_1600x900()
    root.mkdir()
    for i, frame in enumerate(frames):
        (root / f"{i}.jpg").write_bytes(frame)
    rng = np.random.default_rng(0)
    lines = [
        {
            "image": f"{i % len(frames)}.jpg",
            "intrinsics": [1266.417203046554, 1266.417203046554, 816.267, 491.507, 1600, 900],
            "pixel_coords": rng.integers(20, 880, (100, 2)).tolist(),
            "depth": np.round(rng.uniform(2, 80, 100), 3).tolist(),
            "depth_type": "z",
        }
        for i in range(samples)
    ]
    (root / "frames_train.jsonl").write_bytes(b"\n".join(map(orjson.dumps, lines)))
    return origin


def _built(directory: Path, store: str) -> Path:
    build(_config(directory / "root", store, {"depth": {}}), str(directory / store), workers=1)
    return directory / store


def _config(root: Path, store: str, tasks: dict[str, dict[str, int]]) -> BuildConfig:
    values = {"source": "jsonl", "root": str(root), "tasks": tasks, "store": store, "shard_size": 100}
    return BuildConfig.check(values, "benchmark")


if __name__ == "__main__":
    main()
