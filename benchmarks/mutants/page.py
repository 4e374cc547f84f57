"""The results of the mutation test as a table in docs/reliability.md, between markers of its own."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path

import yaml

from benchmarks.bench import RESULTS, machine
from benchmarks.mutants.operators import Mutant

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
EXPLAINED = Path(__file__).parent / "explained.yaml"
BEGIN, END = "<!-- mutants: written by `python -m benchmarks.mutants` -->", "<!-- end of mutants -->"


def explained() -> dict[str, str]:
    """Return why some mutants live, by key; raises where YAML reads a key of digits as a number."""
    why: dict[str, str] = yaml.safe_load(EXPLAINED.read_text()) or {}
    if numbers := [key for key in why if not isinstance(key, str)]:
        raise SystemExit(f"{EXPLAINED}: needs quotes around {numbers}")
    return why


def write_page(mutants: list[Mutant], outcomes: dict[str, dict], possible: int, seed: int) -> None:
    """Print the kill rate, write it with the survivors to the results and to the page."""
    known = explained()
    waiting = len(mutants)
    mutants = [mutant for mutant in mutants if mutant.key in outcomes]
    waiting -= len(mutants)
    by_part: dict[str, Counter[str]] = defaultdict(Counter)
    for mutant in mutants:
        by_part[_part(mutant.file)][outcomes[mutant.key]["outcome"]] += 1
    total = sum(by_part.values(), Counter())
    survivors = sorted((m for m in mutants if outcomes[m.key]["outcome"] == "survived"), key=lambda m: (m.file, m.line))
    sampled, killed = len(mutants) + waiting, total["killed"] + total["timeout"]
    rate = killed / sampled
    more = ""
    if waiting:
        more = (
            f" {waiting} are not judged to the end: their quickest tests pass, the others have not been run yet; they"
            f" count as alive here. Of those judged to the end {killed / len(mutants):.1%} are killed."
        )
    lines = [f"{sampled} of {possible:,} possible mutants (seed {seed}): {rate:.1%} killed.{more}", "",
             "| Part | Mutants | Killed | of these by time limit | Survived |", "|:--|--:|--:|--:|--:|"]  # fmt: skip
    for part, counts in [*sorted(by_part.items()), ("all", total)]:
        killed = counts["killed"] + counts["timeout"]
        lines.append(f"| {part} | {counts.total()} | {killed} | {counts['timeout']} | {counts['survived']} |")
    lines += ["", "| Survivor | Change | Why it lives |", "|:--|:--|:--|"]
    for m in survivors:
        place = f"`{m.file.removeprefix('vlm3data/')}`, `{m.function or 'module'}`"
        why = known.get(m.key, "not explained: a gap in the tests")
        lines.append(f"| {place} | {_code(m.before)} → {_code(m.after)} | {why} |")
    replace_between(BEGIN, END, "\n".join(lines))
    rows = [{"key": m.key, "file": m.file, "line": m.line, "operator": m.operator} | outcomes[m.key] for m in mutants]
    result = {"benchmark": "mutants", "possible": possible, "seed": seed, "killed": rate, "machine": machine()}
    (RESULTS / "mutants.json").write_text(json.dumps(result | {"rows": rows}, indent=1) + "\n")
    print(f"{sampled} mutants, {rate:.1%} killed, {len(survivors)} survived, {waiting} not judged to the end")
    for m in survivors:
        if m.key not in known:
            print(f"  {m.key} {m.file}:{m.line} {m.function}: {m.before!r} -> {m.after!r} ({outcomes[m.key]['by']})")


def _part(file: str) -> str:
    folder = Path(file).relative_to("vlm3data").parts[0]
    return folder if "." not in folder else ("labels and views" if folder[:-3] in _LABELS else "metrics and schedule")


_LABELS = ("labels", "answers", "views", "candidates")


def _code(text: str) -> str:
    short = " ".join(text.split())
    short = short if len(short) <= 70 else short[:67] + "..."
    return "`` " + short.replace("|", "\\|") + " ``"


def replace_between(begin: str, end: str, text: str) -> None:
    """Put `text` between two markers of docs/reliability.md, which must be there."""
    before, rest = PAGE.read_text().split(begin)
    PAGE.write_text(f"{before}{begin}\n\n{text}\n\n{end}{rest.split(end)[1]}")
