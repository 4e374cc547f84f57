"""What `benchmarks.scale` measures, each in a process of its own, whose last line says what came of it as JSON."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import orjson

from vlm3data import registry
from vlm3data.build import BuildConfig, build, build_shard, open_source, plan
from vlm3data.config import Config
from vlm3data.plan import write_plan
from vlm3data.types import Camera, Frame, SceneRef, SourceFacts

FRAMES = 26_000_000
"""The paper's mixture."""
ROWS = "benchmarks.scale_measured:Rows"
TENTHS = 10


class Rows:
    """A dataset that can be listed, and nothing else."""

    class Options(Config):
        """How much of it there is."""

        frames: int = 0
        per_scene: int = 1

    facts = SourceFacts(
        name="rows", licence="none", metric=True, depth_kind="z", depth_range_m=(0, 1), pixel_centre="", splits=("all",)
    )

    def __init__(self, root: str, options: Options, seed: int) -> None:
        self.options = options

    def scenes(self, split: str | None) -> Iterator[SceneRef]:
        each = self.options.per_scene
        for number in range(self.options.frames // each):
            yield SceneRef(f"scene-{number:08d}", each, {"directory": f"scans/{number:08d}"}, "all", f"{number:016x}")

    def frames(self, scene: SceneRef) -> Iterator[Frame]:
        raise NotImplementedError


def measure_plan(path: str, frames: str, per_scene: str) -> dict[str, object]:
    """Plan so many frames, and read all jobs back as a build does."""
    registry.PLUGINS["source"]["rows"] = ROWS
    config = BuildConfig(source="rows", options={"frames": int(frames), "per_scene": int(per_scene)})
    start, cpu = time.perf_counter(), time.process_time()
    made = write_plan(config, path)
    planned, cpu_s = time.perf_counter(), time.process_time() - cpu
    read = sum(shard.candidates for shard in made.shards(made.digests))
    assert read == made.candidates == int(frames)
    size_mb = Path(path).stat().st_size / 1e6
    return {
        "shards": len(made.digests),
        "MB": size_mb,
        "plan s": planned - start,
        "plan CPU s": cpu_s,
        "jobs s": time.perf_counter() - planned,
    }


def measure_build(root: str, out: str, engine: str, workers: str, shard_size: str, core: str) -> dict[str, object]:
    """Build a dataset of photos and say how long that took; a Ray of its own starts before, one worker has one core."""
    if engine == "ray":
        import ray

        ray.init(address="local", num_cpus=int(workers), include_dashboard=False, log_to_driver=False)
    if workers == "1":
        import cv2

        cv2.setNumThreads(1)
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[int(core)]})
    config = BuildConfig(source="jsonl", root=root, shard_size=int(shard_size))
    start = time.perf_counter()
    build(config, out, engine=engine, workers=int(workers))
    return {"s": time.perf_counter() - start}


def measure_watched(out: str, images: str) -> dict[str, object]:
    """Build small synthetic images; look at rate and memory all the while."""
    total, seen = int(images), list[tuple[float, int, float, float]]()
    done, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.5):
            seen.append((time.perf_counter(), done[0], *_memory_mb()))

    def progress(now: int, of: int) -> None:
        done[0] = now

    watcher = threading.Thread(target=watch)
    watcher.start()
    config = BuildConfig(
        source="synthetic", limit=total, focal_px=64, align="none", shard_size=max(50, min(1000, total // 40)),
        options={"width_px": 64, "height_px": 48}, tasks={"depth": {"pixels": 10}}, max_drop_rate=0.2,
    )  # fmt: skip
    try:
        build(config, out, workers=max(2, len(os.sched_getaffinity(0))), progress=progress)
    finally:
        ended.set()
        watcher.join()
    rows = []
    for tenth in range(TENTHS):
        low, high = total * tenth / TENTHS, total * (tenth + 1) / TENTHS
        begun = max((t for t, n, *_ in seen if n <= low), default=seen[0][0])
        inside = [entry for entry in seen if entry[0] > begun and entry[1] <= high] or seen[-1:]
        built = inside[-1][1] - max(n for t, n, *_ in seen if t <= begun)
        rows.append(
            {
                "images": f"{int(low):,} to {int(high):,}",
                "images/s": built / max(inside[-1][0] - begun, 1e-9),
                "driver MB": max(entry[2] for entry in inside),
                "largest worker MB": max(entry[3] for entry in inside),
            }
        )
    return {"rows": rows}


def measure_curation(directory: str, rounds: str) -> dict[str, object]:
    """Convert the same nuScenes frames our way and as the published curation does."""
    import statistics

    import cv2

    from benchmarks.bench import alternate, one_core, ratio
    from benchmarks.nuscenes import FRAMES as IMAGES
    from benchmarks.nuscenes import _frames
    from benchmarks.scale_curation import Curation

    one_core()
    cv2.setNumThreads(1)
    root, origin = _frames(Path(directory) / "frames")
    ours = BuildConfig(source="nuscenes", root=str(root), shard_size=IMAGES, limit=IMAGES)
    same = ours.model_copy(update={"published": True, "options": {"published": True}})
    published = Curation(root, Path(directory) / "published")
    contenders: dict[str, Callable[[], object]] = {"published": lambda: published.convert(IMAGES)}
    floor = partial(_codec, _photos(same))
    for name, config in {"ours, labels as published": same, "ours, hidden points removed": ours}.items():
        out, (job,) = Path(directory) / name, plan(config)
        out.mkdir()
        contenders[name] = partial(build_shard, str(out), job)
    contenders["of ours: decode, resize, encode"] = floor
    contenders["published, and unified by each reader"] = lambda: (published.convert(IMAGES), published.unify(IMAGES))
    seconds = alternate(contenders, int(rounds))
    rows = [
        {
            "what": what,
            "ms a frame": 1000 * statistics.median(taken) / IMAGES,
            "times the published": ratio(taken, seconds["published"]),
        }
        for what, taken in seconds.items()
    ]
    return {"rows": rows, "origin": f"{IMAGES} {origin}"}


def _photos(config: BuildConfig) -> list[tuple[bytes, Camera]]:
    """Return the files that are built, each with its own camera: the one to the rear has another lens."""
    source = open_source(config)
    frames = (frame for scene in source.scenes(None) for frame in source.frames(scene))
    photos = [(frame.image(), frame.camera) for frame in islice(frames, config.limit)]
    return [(data, camera) for data, camera in photos if isinstance(data, bytes) and camera is not None]


def _codec(photos: list[tuple[bytes, Camera]]) -> None:
    """Do to the pixels what a build does, and nothing else."""
    import simplejpeg

    from vlm3data.geometry.warp import unify_image

    for data, camera in photos:
        image = simplejpeg.decode_jpeg(data)
        simplejpeg.encode_jpeg(unify_image(image, camera)[0], 95, colorsubsampling="420")


def _memory_mb() -> tuple[float, float]:
    """Return the resident memory of this process and of its largest child."""
    pid = os.getpid()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return _resident_mb(str(pid)), max(map(_resident_mb, children), default=0.0)


def _resident_mb(pid: str) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6
    except (OSError, IndexError):
        return 0.0  # it has just ended


MEASURES: dict[str, Callable[..., dict[str, object]]] = {
    "plan": measure_plan,
    "build": measure_build,
    "watch": measure_watched,
    "curation": measure_curation,
}


if __name__ == "__main__":
    print(orjson.dumps(MEASURES[sys.argv[1]](*sys.argv[2:])).decode())
