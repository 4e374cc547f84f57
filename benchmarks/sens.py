"""What reading a ScanNet `.sens` costs, over decoding its JPEGs and unpacking its zlib blobs, on one core.

Ours is everything from the path: header, walk, each frame's blobs, colour decoded to RGB, depth checked and in the
sensor's units. The floor is the two decoders alone on blobs that lie in memory. Memory is the peak of what reading
allocates, for a short file and one four times as long: it must not grow with the file.

Run: python -m benchmarks.sens
"""

from __future__ import annotations

import tempfile
import tracemalloc
import zlib
from pathlib import Path

import simplejpeg

from benchmarks.bench import alternate, one_core, ratio, report
from vlm3data.formats.sens import SensHeader, read_color, read_depth, read_header, walk, write_sens
from vlm3data.images import decode_rgb
from vlm3data.layouts.scannet import ScannetLayout
from vlm3data.storage import open_store

DRAWN, FRAMES, ROUNDS = 24, 96, 9


def main() -> None:
    one_core()
    with tempfile.TemporaryDirectory() as directory:
        layout = ScannetLayout(ScannetLayout.Options(scans=1, frames=DRAWN, lost=0.0), seed=0)
        layout.write(directory, lambda done, total: None)
        (drawn,) = Path(directory).glob("scans/*/*.sens")
        short, long = Path(directory) / "short.sens", Path(directory) / "long.sens"
        _repeat(drawn, short, FRAMES)
        _repeat(drawn, long, 4 * FRAMES)
        blobs = _blobs(short)

        def floor() -> None:
            for jpeg, deflated in blobs:
                simplejpeg.decode_jpeg(jpeg)
                zlib.decompress(deflated)

        seconds = alternate({"decoders alone": floor, "read .sens": lambda: _read(short)}, ROUNDS)
        megabytes = {path.stem: _peak_mb(path) for path in (short, long)}
        size_mb = {path.stem: path.stat().st_size / 1e6 for path in (short, long)}
    rows = [
        {
            "what": name,
            "ms per frame": sorted(times)[ROUNDS // 2] / FRAMES * 1e3,
            "over the floor": ratio(times, seconds["decoders alone"]),
        }
        for name, times in seconds.items()
    ]
    memory = ", ".join(f"{megabytes[name]:.1f} MB for {size_mb[name]:.0f} MB" for name in megabytes)
    report("sens", rows, f"{FRAMES} frames, 1296x968 JPEG and 640x480 zlib depth, target 1.15; peak memory {memory}")


def _read(path: Path) -> None:
    fs, name = open_store(str(path))
    header = read_header(fs, name)
    for frame in walk(fs, name, header):
        color = read_color(fs, name, header, frame)
        assert isinstance(color, bytes)
        decode_rgb(color, header.color_size_px)
        read_depth(fs, name, header, frame)


def _blobs(path: Path) -> list[tuple[bytes, bytes]]:
    fs, name = open_store(str(path))
    data = path.read_bytes()
    spans = [(frame.color_at, frame.depth_at) for frame in walk(fs, name, read_header(fs, name))]
    return [(data[a : a + n], data[b : b + m]) for (a, n), (b, m) in spans]


def _repeat(drawn: Path, out: Path, count: int) -> None:
    """Write a file of `count` frames from the few that were drawn."""
    fs, name = open_store(str(drawn))
    header = read_header(fs, name)
    frames = walk(fs, name, header)
    longer = SensHeader(**{key: getattr(header, key) for key in header.__slots__} | {"num_frames": count})
    with out.open("wb") as file:
        write_sens(
            file,
            longer,
            (
                (f.world_from_cam, read_color(fs, name, header, f), read_depth(fs, name, header, f))
                for f in (frames[i % len(frames)] for i in range(count))
            ),
        )


def _peak_mb(path: Path) -> float:
    tracemalloc.start()
    _read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


if __name__ == "__main__":
    main()
