"""The same share for every member, whatever its size."""

from __future__ import annotations

from collections.abc import Sequence

from vlm3data.config import Config
from vlm3data.contracts import Member


class Uniform(Config):
    """No options."""

    def shares(self, members: Sequence[Member], planned: int | None) -> list[float]:
        """Return equal shares; a member of weight 0 is left out."""
        return [0.0 if member.weight == 0 else 1.0 for member in members]
