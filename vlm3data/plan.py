"""Which candidates go into which shard: the same plan wherever and whenever it is made of the same dataset."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from vlm3data.build_config import (
    BuildConfig,
    about_config,
    digest_of,
    forget_source,
    open_calibrator,
    open_source,
    open_tasks,
)
from vlm3data.candidates import candidates_per_frame
from vlm3data.types import SceneRef, UserError


@dataclass(frozen=True, slots=True)
class ShardJob:
    """One shard to be written: a pure description that can travel to any process."""

    name: str
    config: BuildConfig
    parts: tuple[tuple[SceneRef, int, int], ...]
    """Scenes, each with its first candidate to take and how many."""
    digest: str
    """Of the config and these parts: a manifest with another one belongs to another build."""

    @property
    def candidates(self) -> int:
        """Return how many samples there will be if none is dropped."""
        return sum(count for _, _, count in self.parts)


def plan(config: BuildConfig) -> list[ShardJob]:
    """Return the jobs of a build: the scenes' candidates in the source's order, `shard_size` of them each."""
    forget_source()
    source, tasks = open_source(config), open_tasks(config)
    open_calibrator(config)  # a package that is missing should show before the work begins
    if config.split is not None and config.split not in source.facts.splits:
        known = ", ".join(source.facts.splits)
        raise UserError(f"--split {config.split}: {config.source} has no such split; known: {known}")
    if source.facts.endless and config.limit is None:
        raise UserError(f"{config.source} never ends: say how many samples with --limit")
    digest = digest_of(about_config(config, tasks))
    groups: list[list[tuple[SceneRef, int, int]]] = []
    left, room = config.limit, 0
    per_frame = candidates_per_frame(config, tasks)
    for scene in source.scenes(config.split):
        candidates = scene.num_frames * per_frame
        candidates = candidates if left is None else min(candidates, left)
        left = None if left is None else left - candidates
        first = 0
        while first < candidates:
            if not room:
                groups.append([])
                room = config.shard_size
            count = min(room, candidates - first)
            groups[-1].append((scene, first, count))
            first, room = first + count, room - count
        if left == 0:
            break
    if not groups:
        raise UserError(f"--root {config.root}: there is nothing to build in it")
    return [
        ShardJob(f"shard-{number:06d}", config, tuple(parts), digest_of([digest, _named(parts)]))
        for number, parts in enumerate(groups)
    ]


def _named(parts: Iterable[tuple[SceneRef, int, int]]) -> list[tuple[str, str, int, int]]:
    return [(scene.scene, scene.stamp, first, count) for scene, first, count in parts]
