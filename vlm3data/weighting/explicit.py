"""The weights as written: p_d = w_d / sum(w), which is what the paper's table means (FACTS A.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vlm3data.types import UserError


def explicit(datasets: Mapping[str, Any], sizes: Mapping[str, int]) -> Sequence[float]:
    """Return one share per dataset of `datasets`, in order, adding up to 1."""
    missing = [name for name, entry in datasets.items() if entry.weight is None]
    if missing:
        raise UserError(f"weighting scheme 'explicit' needs a weight for: {', '.join(missing)}")
    total = sum(entry.weight for entry in datasets.values())
    if total <= 0:
        raise UserError("the weights of a mixture must not all be zero")
    return [entry.weight / total for entry in datasets.values()]
