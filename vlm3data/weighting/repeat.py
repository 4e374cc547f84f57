"""Repeat counts: each dataset is seen `repeat` times in the time in which one with 1 is seen once."""

from __future__ import annotations

from collections.abc import Sequence

from vlm3data.config import Config
from vlm3data.contracts import Member
from vlm3data.errors import UserError


class Repeat(Config):
    """No options: the counts stand with the datasets, `repeat: 2.5`."""

    def shares(self, members: Sequence[Member], planned: int | None) -> list[float]:
        """Return size times repeat. Raises UserError where a count is missing."""
        missing = [member.name for member in members if member.repeat is None]
        if missing:
            raise UserError(f"scheme 'repeat' needs a repeat for: {', '.join(missing)}")
        return [member.samples * (member.repeat or 0.0) for member in members]
