"""`python -m tests.gauntlet`: run it all, in pieces if need be; `soak` and `table` are its other words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from tests.gauntlet import kills, sandbox, scenarios, state, targets

app = App(name="gauntlet", help="Damaged files, killed commands, full disks: what comes of it, in docs/reliability.md.")
PIECE = 2000
"""Cases that one process runs, at most; then the state is saved."""


@app.default
def run(
    *,
    minutes: float = 60.0,
    cases: int = 100_000,
    kills: Annotated[int, Parameter(name="--kills")] = 1_250,
    seed: int = 0,
    only: str = "",
    fresh: Annotated[bool, Parameter(negative=())] = False,
    path: Path = state.STATE,
) -> int:
    """Go on where the last run stopped, until all is done or the time is up; then write the tables.

    Example: python -m tests.gauntlet --minutes 10 --only shards

    Parameters
    ----------
    minutes
        At most, about.
    cases
        Damaged files over all readers; each has its share.
    kills
        Over all commands; the other faults have their share, too.
    seed
        Of all damage and all moments; another one tries others.
    only
        Parts of names, separated by commas: readers, commands or faults.
    fresh
        Forget what was tried of these before.
    path
        The file that all runs add to.
    """
    known, until = state.State(path), time.time() + 60 * minutes
    wanted = [word for word in only.split(",") if word]

    def chosen(name: str) -> bool:
        return not wanted or any(word in name for word in wanted)

    parts = {"files": _file_work(cases), "kills": _kill_work(kills), "faults": _fault_work(kills)}
    for part, work in parts.items():
        work = {name: count for name, count in work.items() if chosen(f"{part}: {name}")}
        if fresh:
            known.forget(part, list(work))
        share = {"files": 0.5, "kills": 0.7, "faults": 1.0}[part]
        _do(known, part, work, seed, min(until, time.time() + share * (until - time.time())))
    failures = sum(state.failures_of(entry) for part in parts for entry in known.parts.get(part, {}).values())
    if path == state.STATE:
        state.write_page(known)
    print(f"{failures} failures" if failures else "no failure", flush=True)
    return 1 if failures else 0


@app.command
def table(*, path: Path = state.STATE) -> None:
    """Write the tables of docs/reliability.md from what was tried so far.

    Parameters
    ----------
    path
        The file that runs add to; the tables of another than the usual one are printed.
    """
    known = state.State(path)
    if path == state.STATE:
        state.write_page(known)
    else:
        print("\n".join(state.tables(known).values()))


@app.command
def soak(*, minutes: float = 60.0, seed: int = 0, path: Path = state.STATE) -> int:
    """Build, stream and train in cycles under random faults, and watch memory, files, threads and processes.

    Example: python -m tests.gauntlet soak --minutes 60

    Parameters
    ----------
    minutes
        How long.
    seed
        Of the faults.
    path
        The file that the result goes to.
    """
    from tests.gauntlet import soak as soaking

    known = state.State(path)
    leaks = soaking.soak(minutes, seed, known)
    if path == state.STATE:
        state.write_page(known)
    return 1 if leaks else 0


def _file_work(cases: int) -> dict[str, int]:
    whole = sum(share.cases for share in targets.TARGETS.values())
    return {name: -(-share.cases * cases // whole) for name, share in targets.TARGETS.items()}


def _kill_work(kills_wanted: int) -> dict[str, int]:
    whole = sum(count for _, count in scenarios.SCENARIOS.values())
    return {name: -(-count * kills_wanted // whole) for name, (_, count) in scenarios.SCENARIOS.items()}


def _fault_work(kills_wanted: int) -> dict[str, int]:
    planned = kills.PLANNED
    whole = sum(count for _, count in scenarios.SCENARIOS.values())
    mounts = kills.can_mount()
    return {
        f"{fault}: {name}": -(-count * kills_wanted // whole)
        for fault, names in planned.items()
        for name, count in names.items()
        if mounts or fault not in kills.NEED_MOUNT
    }


def _do(known: state.State, part: str, work: dict[str, int], seed: int, until: float) -> None:
    """Do a part's work in pieces, those first that have least done."""
    while time.time() < until:
        left = {name: count - known.next_case(part, name) for name, count in work.items()}
        name = max(left, key=lambda name: left[name] / work[name], default=None)
        if name is None or left[name] <= 0:
            return
        first, began = known.next_case(part, name), time.monotonic()
        count = min(left[name], PIECE if part == "files" else 40)
        if part == "files":
            found = sandbox.in_processes(name, seed, first, count, until)
        else:
            found = disturb(part, name, seed, first, count, until)
        known.add(part, name, found)
        told = ", ".join(f"{kind} {number}" for kind, number in sorted(found.kinds.items()))
        print(f"{part}: {name}: {found.cases} in {time.monotonic() - began:.0f} s: {told}", flush=True)
        for kind, examples in found.failures.items():
            print(f"    {kind}: {examples[0]}", flush=True)
        if not found.cases:
            return


def disturb(part: str, name: str, seed: int, first: int, count: int, until: float) -> sandbox.Outcomes:
    """Run `disturber` for one scenario."""
    kind, _, scenario = ("kill", "", name) if part == "kills" else name.partition(": ")
    with tempfile.TemporaryDirectory(prefix="gauntlet-", dir=sandbox.scratch()) as home:
        arguments = [kind, scenario, str(seed), str(first), str(count), str(until), home]
        done = subprocess.run(
            [sys.executable, "-m", "tests.gauntlet.disturber", *arguments],
            env={**os.environ, "COLUMNS": "100"}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{name}: {done.stderr[-3000:]}")
        found = sandbox.Outcomes()
        found.add(json.loads(Path(home, "answer.json").read_text()))
    return found


if __name__ == "__main__":
    sys.exit(app())
