"""The weights as shares of what is learnt from: answer text rather than samples.

Loss is on answers alone, so a dataset with long answers weighs more than its share of the samples says. How much text
the answers of a sample hold is known from the index; that all answers have as many characters a token is an
approximation, good because they are all numbers and short words.
"""

from __future__ import annotations

from collections.abc import Sequence

from vlm3data.config import Config
from vlm3data.contracts import Member
from vlm3data.errors import UserError


class Tokens(Config):
    """No options."""

    def shares(self, members: Sequence[Member], planned: int | None) -> list[float]:
        """Return weight over answer text a sample. Raises UserError where one of them is unknown."""
        missing = [member.name for member in members if member.weight is None]
        if missing:
            raise UserError(f"scheme 'tokens' needs a weight for: {', '.join(missing)}")
        chars = [member.answer_chars() for member in members]
        unknown = [member.name for member, known in zip(members, chars, strict=True) if member.weight and not known]
        if unknown:
            raise UserError(
                f"scheme 'tokens' needs the shards of: {', '.join(unknown)}; their index says how long answers are"
            )
        return [(member.weight or 0.0) / (known or 1.0) for member, known in zip(members, chars, strict=True)]
