"""As uniform as can be while no dataset is repeated more than so often (UniMax, Chung et al., 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from vlm3data.config import Config
from vlm3data.contracts import Member
from vlm3data.errors import UserError


class Unimax(Config):
    """The budget is handed out to the datasets in the order of their size; each takes its equal part of what is left,
    or its size times `epochs` where that is less."""

    epochs: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """No dataset is seen more often than this; where all of them are at it, the run is longer than they allow."""

    def shares(self, members: Sequence[Member], planned: int | None) -> list[float]:
        """Return the shares of a run of `planned` samples. Raises UserError without a planned length."""
        if planned is None:
            raise UserError("scheme 'unimax' needs to know how long the run is: give `samples`")
        left = float(planned)
        shares = [0.0] * len(members)
        order = sorted((i for i, member in enumerate(members) if member.weight != 0), key=lambda i: members[i].samples)
        for place, i in enumerate(order):
            shares[i] = min(left / (len(order) - place), self.epochs * members[i].samples)
            left -= shares[i]
        return shares
