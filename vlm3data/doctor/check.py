"""What a check says."""

from __future__ import annotations

from typing import Literal, NamedTuple

Status = Literal["ok", "warn", "fail"]


class Check(NamedTuple):
    """One line: what was looked at, what was found, and, where that is not well, what to do."""

    status: Status
    what: str
    found: str
    do: str = ""
