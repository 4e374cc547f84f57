"""What was tried so far, in one file that every run adds to, and the tables made of it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from tests.gauntlet.sandbox import Outcomes

REPOSITORY = Path(__file__).parents[2]
STATE = REPOSITORY / "benchmarks" / "results" / "gauntlet.json"
PAGE = REPOSITORY / "docs" / "reliability.md"


class State:
    """Outcomes by part (`files`, `kills`, ...) and name; saved after every addition."""

    def __init__(self, path: Path = STATE) -> None:
        self.path = path
        self.parts: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}

    def next_case(self, part: str, name: str) -> int:
        """Return the first case that was not tried."""
        return self.parts.get(part, {}).get(name, {}).get("cases", 0)

    def add(self, part: str, name: str, found: Outcomes) -> None:
        """Add what a run found, and save."""
        known = Outcomes()
        if before := self.parts.setdefault(part, {}).get(name):
            known.add(before)
        known.add(found.as_dict())
        self.parts[part][name] = known.as_dict()
        self.save()

    def put(self, part: str, name: str, value: Any) -> None:
        """Set a value that does not add up, and save."""
        self.parts.setdefault(part, {})[name] = value
        self.save()

    def forget(self, part: str, names: list[str]) -> None:
        """Begin anew with these."""
        for name in names:
            self.parts.get(part, {}).pop(name, None)

    def save(self) -> None:
        """Write the file, whole or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps(self.parts, indent=1, sort_keys=True) + "\n")
        temporary.replace(self.path)


def failures_of(entry: dict[str, Any]) -> int:
    """Return how many cases of an entry ended as none may."""
    return sum(
        count for kind, count in entry["kinds"].items() if kind in ("exception", "crash", "hang", "memory", "wrong")
    )


def tables(state: State) -> dict[str, str]:
    """Return the table of each part in Markdown."""
    made = {"files": _files, "kills": _kills, "faults": _kills, "soak": _soak}
    return {part: table(state.parts.get(part, {})) for part, table in made.items()}


def write_page(state: State) -> None:
    """Put the tables between the markers of the page."""
    text = PAGE.read_text()
    for part, made in tables(state).items():
        pattern = re.compile(rf"(<!-- {part} -->\n).*?(<!-- /{part} -->)", re.S)
        text, count = pattern.subn(lambda found, made=made: f"{found[1]}\n{made}\n{found[2]}", text)
        if count != 1:
            raise SystemExit(f"{PAGE}: needs the markers <!-- {part} --> and <!-- /{part} -->")
    PAGE.write_text(text)


def _files(part: dict[str, Any]) -> str:
    rows = [["what is given damaged files", "cases", "read", "dropped by name", "refused in a line", "failures"]]
    total = [0] * 5
    for name in sorted(
        part, key=lambda name: (("reader", "source", "config", "shards").index(name.split(":")[0]), name)
    ):
        entry = part[name]
        kinds = entry["kinds"]
        numbers = [
            entry["cases"], kinds.get("read", 0) + kinds.get("survived", 0), kinds.get("dropped", 0),
            kinds.get("refused", 0), failures_of(entry),
        ]  # fmt: skip
        total = [a + b for a, b in zip(total, numbers, strict=True)]
        rows.append([name, *(f"{number:,}" for number in numbers)])
    return _table([*rows, ["**all**", *(f"**{number:,}**" for number in total)]])


def _kills(part: dict[str, Any]) -> str:
    rows = [["what was disturbed", "times", "what came of it", "lost or wrong"]]
    times = failures = 0
    for name, entry in sorted(part.items()):
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in sorted(entry["kinds"].items()))
        rows.append([name, f"{entry['cases']:,}", kinds, f"{failures_of(entry):,}"])
        times, failures = times + entry["cases"], failures + failures_of(entry)
    return _table([*rows, ["**all**", f"**{times:,}**", "", f"**{failures:,}**"]])


def _soak(part: dict[str, Any]) -> str:
    rows = [["", "value"]]
    rows += [[name, str(value)] for name, value in part.items()]
    return _table(rows)


def _table(rows: list[list[str]]) -> str:
    head, *body = rows
    rule = ["---", *("---:" if len(head) > 2 else "---" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, rule, *body]) + "\n"
