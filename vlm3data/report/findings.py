"""What a verification found, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from vlm3data.terminal import open_console

if TYPE_CHECKING:
    from vlm3data.deep import DeepFindings
    from vlm3data.shards.verify import Findings

SHOWN_PROBLEMS = 20


def print_findings(findings: Findings, url: str) -> None:
    """Print what a verification found."""
    shards = f"{findings.shards} shard{'s' * (findings.shards != 1)}"
    seen = f"{shards}, {findings.samples:,} samples, {findings.questions:,} questions"
    _print_verdict("sound", findings.problems, f"{url}: {seen}")


def print_deep(findings: DeepFindings, root: str) -> None:
    """Print what came of building samples again, a row a task."""
    from vlm3data.deep.witness import UNITS

    _print_verdict("as the source says", findings.problems, f"{root}: {findings.samples:,} samples built again")
    table = Table()
    for name in ("task", "questions", "worst difference", "against raw truth", "farthest off"):
        table.add_column(name, justify="left" if name == "task" else "right")
    for task, check in sorted(findings.tasks.items()):
        off = f"{check.worst_witnessed:.1e} {UNITS[task]}" if check.witnessed else "-"
        raw = f"{check.witnessed:,}" if check.witnessed else "has none"
        table.add_row(task, f"{check.questions:,}", f"{check.worst_rebuilt:.1e}", raw, off)
    open_console().print(table)


def _print_verdict(good: str, problems: Sequence[str], about: str) -> None:
    console = open_console()
    verdict = f"[red]{len(problems)} problems[/]" if problems else f"[green]{good}[/]"
    console.print(f"{verdict}: {escape(about)}", markup=True, soft_wrap=True, highlight=False)
    for problem in problems[:SHOWN_PROBLEMS]:
        console.print(f"  {problem}", markup=False, soft_wrap=True, highlight=False)
    if len(problems) > SHOWN_PROBLEMS:
        console.print(f"  ... and {len(problems) - SHOWN_PROBLEMS} more (--json lists all)")
