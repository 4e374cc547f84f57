"""Sizes flattened by a temperature: between `size` (T = 1) and `uniform` (T towards infinity)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from vlm3data.config import Config
from vlm3data.contracts import Member


class Temperature(Config):
    """min(scale * n, cap) ** (1 / temperature), in this order (SeqIO's rate function, as T5 was mixed)."""

    temperature: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 2.0
    """1 is in proportion to size; 2 is to the square root of it."""
    cap: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Samples beyond this do not count."""
    scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0

    def shares(self, members: Sequence[Member], planned: int | None) -> list[float]:
        """Return the shares; a member of weight 0 is left out."""
        return [0.0 if member.weight == 0 else self._of(member.samples) for member in members]

    def _of(self, samples: int) -> float:
        counted = self.scale * samples
        return (counted if self.cap is None else min(counted, self.cap)) ** (1 / self.temperature)
