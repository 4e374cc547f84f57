"""Runs of pixels that see the same surface: per-surface numbers reach pixels by repeating, not by indexing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vlm3data.types import Int64Array


@dataclass(frozen=True, slots=True)
class Runs:
    """An image row by row; no run goes on into the next row."""

    surface: npt.NDArray[np.int16]
    """Per run."""
    start: Int64Array
    """The number of its first pixel."""
    row: Int64Array
    length: Int64Array
    shape: tuple[int, int]

    def fill(self, per_run: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the (h, w) image of a number per run."""
        return np.repeat(per_run, self.length).reshape(self.shape)

    def spread(self, per_surface: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the image of a number per surface, or (h, w, 4) of four float32, moved as one."""
        if per_surface.ndim == 1:
            return self.fill(per_surface[self.surface])
        return self.fill(per_surface.view(np.complex128)[self.surface, 0]).view(np.float32).reshape(*self.shape, 4)


def runs_of(surface: npt.NDArray[np.int16]) -> Runs:
    """Return the runs of an image of surface numbers."""
    height, width = surface.shape
    starts = np.empty(surface.shape, np.bool_)
    starts[:, 0] = True
    np.not_equal(surface[:, 1:], surface[:, :-1], out=starts[:, 1:])
    start = np.flatnonzero(starts)
    return Runs(surface.ravel()[start], start, start // width, np.diff(start, append=surface.size), (height, width))
