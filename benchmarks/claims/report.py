"""docs/claims.md from the results of the runs, and its plots.

Run: python -m benchmarks.claims.report
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.bench import RESULTS
from benchmarks.claims.claims import CLAIMS
from benchmarks.claims.plots import plot_claims, plot_course
from benchmarks.claims.runner import finished
from benchmarks.claims.tables import claim_table, main_table, task_table

BEGIN, END = "<!-- results: written by `make claims` -->", "<!-- end of results -->"

LONGEST = ("main", "every", "every-4-pixels")
"""The arm of the part `main`, and the recipes of the sweep."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS / "claims")
    parser.add_argument("--page", type=Path, default=Path("docs/claims.md"))
    told = parser.parse_args()
    write(told.page, finished([told.results]))


def write(page: Path, results: Sequence[dict[str, Any]]) -> None:
    """Put the tables of `results` between the marks of `page`, and the plots beside it."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    lines = [BEGIN, "", *_longest(results, page)]
    for claim in CLAIMS:
        lines += [f"### {claim.number}. {claim.title}", "", claim.what, *([claim.unequal] if claim.unequal else []), ""]
        lines += [*(task_table(results) if claim.number == 7 else claim_table(claim, results)), ""]
        if claim.number == 4:
            lines += _shares(results)
    if plot_claims(results, page.with_name("claims.png")):
        lines += ["![every run of every claim](claims.png)", ""]
    page.write_text(before + "\n".join([*lines, END]) + after, encoding="utf-8")


def _longest(results: Sequence[dict[str, Any]], page: Path) -> list[str]:
    lines = ["### The longest runs", ""]
    longest = {result["run"]: result for result in results if result["arm"] in LONGEST}
    if not longest:
        return [*lines, "Not run yet.", ""]
    for result in longest.values():
        minutes = result["train_s"] * result["gpus_used"] / 60
        lines += [
            f"**{result['arm']}**: {result['steps']:,} steps, {result['samples']:,} samples, "
            f"{minutes:.1f} GPU-minutes, start-up included. `{result['settings']}`",
            "",
            *main_table(result),
            "",
        ]
    plot_course(list(longest.values()), page.with_name("claims_course.png"))
    return [*lines, "![loss over samples](claims_course.png)", ""]


def _shares(results: Sequence[dict[str, Any]]) -> list[str]:
    found = {result["arm"]: result["shares"] for result in results if "shares" in result and result["arm"] != "drawn"}
    drawn = sum(result["arm"] == "drawn" for result in results)
    lines = [
        f"- {arm}: {', '.join(f'{name} {share:.3f}' for name, share in shares.items())}"
        for arm, shares in found.items()
    ]
    return [f"Shares (the tuned ones from {drawn} short runs):", "", *lines, ""] if found else []


if __name__ == "__main__":
    main()
