"""What the covisibility of all pairs of a large scene costs, both ways, on one core.

The hard case for leaving pairs out: every frame stands in the same room, half of all pairs share something.
Beside it the same question answered pair by pair, one projection of a whole small depth map at a time. Every
20th anchor is measured and the rest reckoned from them.

Run: python -m benchmarks.covisibility
"""

from __future__ import annotations

import resource
import statistics
import time

import numpy as np

from benchmarks.bench import one_core, report
from vlm3data.geometry import invert_pose, project, unproject
from vlm3data.geometry.overlap import Covisibility, Lowres, lowres
from vlm3data.randomness import rng_for
from vlm3data.synth.indoors import room
from vlm3data.synth.packed import pack
from vlm3data.synth.trace import trace
from vlm3data.synth.views import CLEARANCE_M, clear_of, depth_of, first_pose
from vlm3data.types import Camera

FRAMES, EVERY, ROUNDS = 2000, 20, 5
CAMERA = Camera(140.0, 140.0, 80.0, 60.0, 160, 120)
FAR_M = 120.0
NOISE = (0.0, 0.01)


def main() -> None:
    one_core()
    frames = _frames()
    start = time.process_time()
    scene = Covisibility(frames, NOISE)
    stack_s = time.process_time() - start
    anchors = range(0, FRAMES, EVERY)
    shares = [scene.of(anchor) for anchor in anchors]
    seconds, by_pair_seconds = [], []
    for turn in range(ROUNDS):
        start = time.process_time()
        for anchor in anchors[turn::ROUNDS]:
            scene.of(anchor)
        seconds.append((time.process_time() - start) / len(anchors[turn::ROUNDS]))
        start = time.process_time()
        for other in frames[:100]:
            _seen(frames[turn], other)
            _seen(other, frames[turn])
        by_pair_seconds.append((time.process_time() - start) / 100 * FRAMES)
    middle = statistics.median(seconds)
    row = {
        "frames": FRAMES,
        "ms per anchor": 1e3 * middle,
        "all pairs, s": stack_s + FRAMES * middle,
        "pair by pair, s": FRAMES * statistics.median(by_pair_seconds),
        "ratio": statistics.median(slow / fast for slow, fast in zip(by_pair_seconds, seconds, strict=True)),
        "pairs that share anything": float(np.mean([forward > 0 for forward, _ in shares])),
        "pairs over 25 %": float(np.mean([np.minimum(*both) > 0.25 for both in shares])),
        "peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    report("covisibility", [row], "one room, one core, target 60 s on two cores")


def _frames() -> list[Lowres]:
    rng = rng_for(0, "covisibility")
    packed = pack(room(rng))
    frames: list[Lowres] = []
    while len(frames) < FRAMES:
        pose = first_pose(packed.world, rng)
        if clear_of(packed, pose.position_m) > CLEARANCE_M:
            world_from_cam = pose.world_from_cam()
            depth_m = depth_of(trace(packed, CAMERA, world_from_cam, FAR_M), FAR_M)
            frames.append(lowres(depth_m, CAMERA, world_from_cam))
    return frames


def _seen(anchor: Lowres, other: Lowres) -> float:
    """Return the share of one small depth map that another sees, the plain way."""
    height, width = anchor.near_m.shape
    centres = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), axis=-1).reshape(-1, 2)
    points = unproject(anchor.camera, centres, anchor.near_m.ravel())
    other_from_anchor = invert_pose(other.world_from_cam) @ anchor.world_from_cam
    points = points @ other_from_anchor[:3, :3].T + other_from_anchor[:3, 3]
    at_px = np.nan_to_num(project(other.camera, points), nan=-1.0)
    column, row = np.floor(at_px).astype(int).T
    inside = (column >= 0) & (column < other.camera.width_px) & (row >= 0) & (row < other.camera.height_px)
    cell = row[inside], column[inside]
    depth_m = points[inside, 2]
    noise_m = 2 * (NOISE[0] + NOISE[1] * depth_m)
    return float(np.sum((other.near_m[cell] - noise_m < depth_m) & (depth_m < other.far_m[cell] + noise_m))) / len(
        points
    )


if __name__ == "__main__":
    main()
