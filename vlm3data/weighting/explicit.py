"""The weights as written: p_d = w_d / sum(w), which is what the paper's mixture table means."""

from __future__ import annotations

from collections.abc import Sequence

from vlm3data.config import Config
from vlm3data.contracts import Member
from vlm3data.errors import UserError


class Explicit(Config):
    """No options."""

    def shares(self, members: Sequence[Member], planned: int | None) -> list[float]:
        """Return a share in proportion to each weight. Raises UserError where one has none."""
        missing = [member.name for member in members if member.weight is None]
        if missing:
            raise UserError(f"scheme 'explicit' needs a weight for: {', '.join(missing)}")
        return [member.weight or 0.0 for member in members]
