"""How many random cases a comparison takes, and a line of docs/reliability.md for each."""

from __future__ import annotations

import importlib.metadata
import json
import os
from pathlib import Path

import numpy as np


def cases(number: int) -> int:
    """Return how many to try: `number` in the normal suite, DIFFERENTIAL_TIMES as many in the long form."""
    return number * int(os.environ.get("DIFFERENTIAL_TIMES", "1"))


def agree(what: str, against: str, number: int, deviations: object, limit: float, unit: str) -> None:
    """Assert that no deviation exceeds `limit` and note the worst, where DIFFERENTIAL_OUT names a file for it.

    `against` is a package's name, or a word for something without a version.
    """
    worst = float(np.max(np.abs(np.asarray(deviations, float)), initial=0.0))
    assert worst <= limit, f"{what} against {against}: {worst} {unit}, at most {limit}"
    assert number > 0
    out = os.environ.get("DIFFERENTIAL_OUT")
    if out:
        row = {"what": what, "against": _with_version(against), "cases": number, "worst": worst, "unit": unit}
        with Path(out).open("a") as file:
            file.write(json.dumps(row | {"limit": limit}) + "\n")


def _with_version(name: str) -> str:
    try:
        return f"{name} {importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:
        return name
