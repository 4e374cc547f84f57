"""Shares in proportion to the number of samples, as if all datasets were one: everything is seen equally often."""

from __future__ import annotations

from collections.abc import Sequence

from vlm3data.config import Config
from vlm3data.contracts import Member


class Size(Config):
    """No options."""

    def shares(self, members: Sequence[Member], planned: int | None) -> list[float]:
        """Return a share in proportion to each size; a member of weight 0 is left out."""
        return [0.0 if member.weight == 0 else float(member.samples) for member in members]
