"""How fast a run is: samples, arithmetic and waiting, over the time since the last line of its log."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch

from vlm3train.flops import Arithmetic, peak_flops


class Meter:
    """Counts the work of this process."""

    def __init__(self, model: Any) -> None:
        # What is frozen needs less than is counted.
        counted = Arithmetic.knows(model.config) and all(weight.requires_grad for weight in model.parameters())
        self._arithmetic = Arithmetic(model.config) if counted else None
        self._peak = peak_flops(torch.cuda.get_device_name()) if torch.cuda.is_available() else None
        self._began, self._waited_s, self._flops = time.monotonic(), 0.0, 0.0

    def count(self, tokens: Sequence[int], grids: Sequence[tuple[int, int]]) -> None:
        """Count a batch with rows of `tokens` and images of `grids` patches."""
        if self._arithmetic is not None:
            self._flops += self._arithmetic.training_step(tokens, grids)

    def leave_out(self, seconds: float) -> None:
        """Leave out time in which the run did something else, such as saving."""
        self._began += seconds

    def take(self, waited_s: float) -> dict[str, float]:
        """Return seconds, share of them spent waiting for data, and MFU; `waited_s` is what was waited in all."""
        now = time.monotonic()
        seconds = max(now - self._began, 1e-9)
        taken = {"seconds": seconds, "data_wait": (waited_s - self._waited_s) / seconds}
        if self._peak and self._arithmetic is not None:
            taken["mfu"] = self._flops / seconds / self._peak
        if torch.cuda.is_available():
            taken["memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
        self._began, self._waited_s, self._flops = now, waited_s, 0.0
        return taken
