"""How fast the weighted stream hands over samples, against sequential `tarfile` and a bare decode loop.

Two datasets, 70:30, shuffled, with the hash of every sample checked; the peers read the same tars from first
to last, unshuffled and unweighted; the bare loop decodes what the stream hands over, out of a list. One process on one
core, page cache warm.

Run: python -m benchmarks.stream
"""

from __future__ import annotations

import json
import tarfile
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import orjson
import simplejpeg

from benchmarks.bench import alternate, one_core, ratio, report
from benchmarks.inputs import frames_1600x900
from vlm3data.build import BuildConfig, build
from vlm3data.mixture import Mixture
from vlm3data.stream import open_stream

SAMPLES, ROUNDS = 1200, 9


def main() -> None:
    one_core()
    with tempfile.TemporaryDirectory() as directory:
        mixture, tars, origin = _prepare(Path(directory))
        encoded = [sample.images[0] for _, sample in islice(open_stream(mixture), SAMPLES // 6)]
        raw = {
            "tarfile, bytes": lambda: sum(1 for _ in _tarfile(tars)),
            "stream, bytes": lambda: sum(1 for _ in islice(open_stream(mixture), SAMPLES)),
        }
        parsed = {
            "tarfile, JSON parsed": lambda: [json.loads(record) for _, record in _tarfile(tars)],
            "stream, JSON parsed": lambda: [sample.questions for _, sample in islice(open_stream(mixture), SAMPLES)],
        }
        decoded = {
            "bare decode loop": lambda: [simplejpeg.decode_jpeg(image).shape for image in encoded],
            "stream, decoded": lambda: [
                simplejpeg.decode_jpeg(sample.images[0]).shape
                for _, sample in islice(open_stream(mixture), len(encoded))
            ],
        }
        rows = []
        for contenders, target in ((raw, 2.5), (parsed, None), (decoded, 0.95)):
            seconds, walls = alternate(contenders, ROUNDS), alternate(contenders, ROUNDS, time.perf_counter)
            peer = next(iter(contenders))
            count = len(encoded) if contenders is decoded else SAMPLES
            for name, times in seconds.items():
                rows.append(
                    {
                        "what": name,
                        "samples/s": count / sorted(times)[ROUNDS // 2],
                        "times the peer": ratio(seconds[peer], times),
                        "by wall clock": ratio(walls[peer], walls[name]),
                        "target": "-" if name == peer or target is None else f">= {target}",
                    }
                )
    size = np.mean([len(image) for image in encoded])
    report("stream", rows, f"{SAMPLES} samples of {origin}, {size / 1e3:.0f} kB a JPEG")


def _tarfile(tars: list[Path]) -> Iterator[tuple[bytes, ...]]:
    """Yield (image, JSON) of every sample, as a plain reader would."""
    for tar in tars:
        with tarfile.open(tar) as members:
            parts: list[bytes] = []
            for info in members:
                file = members.extractfile(info)
                assert file is not None
                parts.append(file.read())
                if len(parts) == 2:
                    yield tuple(parts)
                    parts = []


def _prepare(directory: Path) -> tuple[Mixture, list[Path], str]:
    frames, origin = frames_1600x900()
    datasets, tars = {}, []
    for name, count, weight in (("a", SAMPLES * 7 // 10, 0.7), ("b", SAMPLES * 3 // 10, 0.3)):
        root = directory / name
        root.mkdir()
        for i, frame in enumerate(frames):
            (root / f"{i}.jpg").write_bytes(frame)
        rng = np.random.default_rng(0)
        lines = [
            orjson.dumps(
                {
                    "image": f"{i % len(frames)}.jpg",
                    "intrinsics": [1266.417203046554, 1266.417203046554, 816.267, 491.507, 1600, 900],
                    "pixel_coords": rng.integers(20, 880, (100, 2)).tolist(),
                    "depth": rng.uniform(2, 80, 100).tolist(),
                    "depth_type": "z",
                }
            )
            for i in range(count)
        ]
        (root / f"{name}_train.jsonl").write_bytes(b"\n".join(lines))
        out = directory / "shards" / name
        build(BuildConfig(source="jsonl", root=str(root), focal_px=800, shard_size=200), str(out), workers=1)
        datasets[name] = {"shards": str(out), "weight": weight}
        tars += sorted(out.glob("*.tar"))
    return Mixture.check({"seed": 1, "datasets": datasets}, "benchmark"), tars, origin


if __name__ == "__main__":
    main()
