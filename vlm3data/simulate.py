"""Drawing a mixture's schedule without reading a sample: what a run would really be given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from vlm3data.mixture import Mixture
from vlm3data.schedule import BLOCK, Leaf, Schedule
from vlm3data.types import Float64Array, Int64Array, UserError

POINTS = 200
"""Places along the run at which the counts are kept."""


@dataclass(frozen=True)
class Simulation:
    """What was drawn of each dataset up to each of some positions."""

    names: list[str]
    positions: Int64Array
    """(points,)"""
    drawn: Int64Array
    """(points, datasets), before each position."""
    planned: Float64Array
    """(points, datasets): the shares summed up to each position."""
    epochs: Float64Array
    """(datasets,) at the end."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "samples": int(self.positions[-1]),
            "largest_deviation": float(np.abs(self.drawn - self.planned).max()),
            "datasets": {
                name: {"drawn": int(drawn), "planned": float(planned), "epochs": float(epochs)}
                for name, drawn, planned, epochs in zip(
                    self.names, self.drawn[-1], self.planned[-1], self.epochs, strict=True
                )
            },
        }


def simulate(mixture: Mixture, samples: int | None, progress: Callable[[int, int], None]) -> Simulation:
    """Draw every position of a run of `samples` (by default the mixture's own length). Raises UserError without one."""
    total = samples or mixture.samples
    if total is None:
        raise UserError(f"{mixture.where}: how long is the run? give --samples, or `samples` in the file")
    parts = mixture.parts
    leaves = [part.leaf() if part.dataset is not None else Leaf(part.name, "planned", (part.size,)) for part in parts]
    schedule = Schedule(mixture.seed, mixture.course, leaves)
    blocks = -(-total // BLOCK)
    marks = np.unique(np.linspace(0, blocks, POINTS + 1).round().astype(np.int64))
    counts = np.zeros(len(parts), np.int64)
    drawn = [counts.copy()]
    for begin, end in zip(marks[:-1].tolist(), marks[1:].tolist(), strict=True):
        places = np.array([schedule.locate(n).dataset for n in range(begin * BLOCK, min(end * BLOCK, total))])
        counts += np.bincount(places, minlength=len(parts))
        drawn.append(counts.copy())
        progress(min(end * BLOCK, total), total)
    positions = np.minimum(marks * BLOCK, total)
    return Simulation(
        names=[part.name for part in parts],
        positions=positions,
        drawn=np.array(drawn),
        planned=np.array([mixture.course.drawn(n) for n in positions.tolist()]),
        epochs=counts / np.array([part.size for part in parts]),
    )
