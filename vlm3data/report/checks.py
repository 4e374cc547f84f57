"""The doctor's lines, printed as they come."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

if TYPE_CHECKING:
    from vlm3data.doctor import Check

COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


def print_checks(checks: Iterable[Check]) -> list[Check]:
    """Print a line for each check, what to do below it, and a summary; return the checks."""
    console = Console(highlight=False)
    seen: list[Check] = []
    for check in checks:
        seen.append(check)
        line = Text(f"{check.status:<4}", style=COLOURS[check.status])
        console.print(line.append(f"  {check.what}: {check.found}", style="default"), soft_wrap=False)
        if check.do:
            console.print(Padding(Text(f"-> {check.do}"), (0, 0, 0, 6)))
    bad = {status: sum(check.status == status for check in seen) for status in ("fail", "warn")}
    counted = [f"{count} {status}" for status, count in bad.items() if count]
    console.print(f"\n{', '.join(counted) if counted else 'everything is fine'}")
    return seen
