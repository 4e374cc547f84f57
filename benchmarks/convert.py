"""What converting one 1600x900 JPEG frame costs, over its codec floor, on one core.

The floor is one decode of the source's size and one encode of the result's size by the fastest JPEG codec
there is here (libjpeg-turbo, through simplejpeg, OpenCV and Pillow: whichever is fastest is taken). Ours is
the whole of `build_shard`: read, decode, unify, align, labels, questions, JSON, encode, tar, hashes, manifest.

Run: python -m benchmarks.convert
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from benchmarks.bench import alternate, one_core, ratio, report
from benchmarks.inputs import frames_1600x900
from vlm3data.build import BuildConfig, build, build_shard, plan
from vlm3data.images import decode_rgb
from vlm3data.shards import read_samples

FRAMES, ROUNDS, LABELS = 120, 9, 100


def main() -> None:
    one_core()
    cv2.setNumThreads(1)
    frames, origin = frames_1600x900()
    with tempfile.TemporaryDirectory() as directory:
        root = _jsonl_root(Path(directory) / "root", frames)
        config = BuildConfig(source="jsonl", root=str(root), shard_size=FRAMES)
        (job,) = plan(config)
        out = str(Path(directory) / "out")
        build(config, out, workers=1)
        results = [decode_rgb(sample.images[0]) for sample in read_samples(out)]
        sources = [frames[i % len(frames)] for i in range(FRAMES)]
        codecs = {name: codec(sources, results, decode, encode) for name, (decode, encode) in CODECS.items()}
        fresh = (str(Path(directory) / f"out{number}") for number in count())

        def ours() -> None:
            shard_directory = next(fresh)
            Path(shard_directory).mkdir()
            build_shard(shard_directory, job)

        seconds = alternate(codecs | {"build_shard": ours}, ROUNDS)
    floor = min(codecs, key=lambda name: sorted(seconds[name])[ROUNDS // 2])
    height, width = results[0].shape[:2]
    rows = [
        {
            "what": name,
            "ms per frame": sorted(times)[ROUNDS // 2] / FRAMES * 1e3,
            "over the floor": ratio(times, seconds[floor]),
        }
        for name, times in seconds.items()
    ]
    report(
        "convert",
        rows,
        f"{origin}, 1600x900 to {width}x{height}, {LABELS} labels a frame, floor = {floor}, target 1.8",
    )


def codec(
    sources: list[bytes],
    results: list[np.ndarray],
    decode: Callable[[bytes], object],
    encode: Callable[[np.ndarray], object],
) -> Callable[[], None]:
    def run() -> None:
        for source, result in zip(sources, results, strict=True):
            decode(source)
            encode(result)

    return run


def _pillow_encode(image: np.ndarray) -> None:
    Image.fromarray(image).save(io.BytesIO(), "JPEG", quality=95, subsampling="4:2:0")


CODECS: dict[str, tuple[Callable[[bytes], object], Callable[[np.ndarray], object]]] = {
    "simplejpeg": (
        simplejpeg.decode_jpeg,
        lambda image: simplejpeg.encode_jpeg(image, 95, colorsubsampling="420"),
    ),
    "opencv": (
        lambda data: cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR),
        lambda image: cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95]),
    ),
    "pillow": (lambda data: np.asarray(Image.open(io.BytesIO(data))), _pillow_encode),
}


def _jsonl_root(root: Path, frames: list[bytes]) -> Path:
    """Write the frames as a JSON Lines dataset with `LABELS` labelled pixels each."""
    root.mkdir()
    rng = np.random.default_rng(0)
    lines = []
    for i in range(FRAMES):
        (root / f"{i}.jpg").write_bytes(frames[i % len(frames)])
        pixels = np.stack([rng.integers(20, 1580, LABELS), rng.integers(20, 880, LABELS)], axis=1)
        lines.append(
            {
                "image": f"{i}.jpg",
                "intrinsics": [1266.417203046554, 1266.417203046554, 816.267, 491.507, 1600, 900],
                "pixel_coords": pixels.tolist(),
                "depth": rng.uniform(2, 80, LABELS).tolist(),
                "depth_type": "z",
            }
        )
    (root / "frames_train.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return root


if __name__ == "__main__":
    main()
