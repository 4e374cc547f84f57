"""What generating one scene's images and depths costs, per domain, on one core.

All of it counts: building the world, drawing poses, the views that are thrown away, boxes, depth and image.
Processor time is taken, not wall time, and the domains take turns.

Run: python -m benchmarks.synthetic
"""

from __future__ import annotations

import statistics
import time

import cv2

from benchmarks.bench import one_core, report
from vlm3data.sources.synthetic import DOMAINS, SyntheticSource
from vlm3data.types import SceneRef

WIDTH_PX, HEIGHT_PX, VIEWS = 256, 192, 2
SCENES, ROUNDS = 20, 9


def main() -> None:
    one_core()
    cv2.setNumThreads(1)
    rates: dict[str, list[float]] = {domain: [] for domain in DOMAINS}
    for number in range(ROUNDS + 1):
        for domain, rate in rates.items():
            source, scenes = _scenes(domain, number)
            start = time.process_time()
            for scene in scenes:
                _render(source, scene)
            rate.append(SCENES * VIEWS / (time.process_time() - start))
    rows = []
    for domain, (_, *rate) in rates.items():  # the first round painted the materials
        middle = statistics.median(rate)
        rows.append({"domain": domain, "images/s": middle, "slowest": min(rate), "ms per image": 1e3 / middle})
    report("synthetic", rows, f"{WIDTH_PX}x{HEIGHT_PX}, image and depth, {VIEWS} views a scene, one core, target 100")


def _scenes(domain: str, number: int) -> tuple[SyntheticSource, list[SceneRef]]:
    """Return a source and scenes that no other round renders, all of exactly the nominal size."""
    size = {"width_px": WIDTH_PX, "height_px": HEIGHT_PX, "size_jitter": 0.0}
    wanted = {"domains": (domain,), "scenes": SCENES, "views": VIEWS}
    options = SyntheticSource.Options.model_validate(size | wanted)
    source = SyntheticSource("", options, seed=number)
    return source, list(source.scenes("train"))


def _render(source: SyntheticSource, scene: SceneRef) -> None:
    for frame in source.frames(scene):
        frame.image()
        assert frame.depth_m is not None
        frame.depth_m()


if __name__ == "__main__":
    main()
