"""The weighted stream: any rank, any worker, any start; what it yields at position n depends on nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from vlm3data.mixture import Mixture
from vlm3data.randomness import permutation
from vlm3data.schedule import Schedule
from vlm3data.types import Sample, UserError


def open_stream(
    spec: str | Path | Mixture, *, rank: int = 0, world_size: int = 1, start: int = 0
) -> Iterator[tuple[int, Sample]]:
    """Return an endless iterator over `(n, sample)` for the n >= `start` with n mod `world_size` = `rank`.

    `spec` is a mixture or the path of its YAML. Mistakes in it are raised here, not at the first sample.
    Nothing is decoded: a sample holds JPEG bytes, and its JSON is parsed when first asked for.
    """
    if not 0 <= rank < world_size or start < 0:
        raise UserError(f"need 0 <= rank < world_size and start >= 0, not {rank}, {world_size}, {start}")
    mixture = spec if isinstance(spec, Mixture) else Mixture.load(spec)
    return _stream(mixture, mixture.schedule(), start + (rank - start) % world_size, world_size)


def _stream(mixture: Mixture, schedule: Schedule, first: int, step: int) -> Iterator[tuple[int, Sample]]:
    parts = mixture.parts
    selected = [part.selected for part in parts]
    n = first
    while True:
        number, epoch, index = schedule.locate(n)
        part, chosen = parts[number], selected[number]
        index = index if chosen is None else int(chosen[index])
        draw = partial(draw_questions, part.entry.pixels, part.selection.task, (mixture.seed, part.name, index, epoch))
        assert part.dataset is not None
        yield n, part.dataset.read(index, epoch, draw)
        n += step


def draw_questions(
    count: int, task: str | None, position: tuple[int, str, int, int], stored: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return `count` of the stored questions (of `task`) in random order: another draw for every (sample, epoch)."""
    seed, *sample = position
    asked = stored if task is None else [question for question in stored if question["task"] == task]
    return [asked[i] for i in permutation(len(asked), seed, "draw", *sample)[:count]]
