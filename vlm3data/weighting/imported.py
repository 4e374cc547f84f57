"""Weights from a file, as a search over mixtures writes it: a YAML or JSON mapping from name to weight."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vlm3data.config import Config, read_yaml
from vlm3data.contracts import Member
from vlm3data.errors import UserError


class Imported(Config):
    """Where the weights stand."""

    file: str
    """Path of the file, relative to the working directory; every dataset has a weight in it, and nothing else has."""

    def shares(self, members: Sequence[Member], planned: int | None) -> list[float]:
        """Return the file's weights. Raises UserError where it is not a mapping of these names to weights."""
        weights = read_yaml(self.file)
        if not isinstance(weights, dict):
            raise UserError(f"{self.file}: must map names to weights")
        names = {member.name for member in members}
        for name in sorted(names ^ set(map(str, weights))):
            raise UserError(
                f"{self.file}: {name}: " + ("has no weight there" if name in names else "is no dataset here")
            )
        for name, weight in weights.items():
            if not isinstance(weight, int | float) or isinstance(weight, bool) or not 0 <= weight < math.inf:
                raise UserError(f"{self.file}: {name}: weight must be a number of at least 0, not {weight!r}")
        return [float(weights[member.name]) for member in members]
