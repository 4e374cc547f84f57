"""Runs cases in a process of their own, with a limit on memory and on time, and goes on behind the one that broke it.

The process writes into a mapped file which case it is at: whoever watches knows what killed it, or hangs.
"""

from __future__ import annotations

import json
import mmap
import os
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlm3data.errors import Drop, UserError

ABOVE_BYTES = 512 << 20
"""What reading a damaged file may need at most, above what the process needs anyway."""
HANG_S = 30.0
"""Real cases take milliseconds; machines that tests share are slow now and then."""
EXAMPLES = 3
"""Kept of every kind of failure."""


class Wrong(Exception):
    """What was read differs from what was written, though nothing said so."""


@dataclass
class Outcomes:
    """What came of cases: `kinds` counts, `failures` holds what must not be, by kind, with the cases to try again."""

    cases: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    failures: dict[str, list[str]] = field(default_factory=dict)

    def fail(self, kind: str, case: int, detail: str) -> None:
        """Note a failure; `kind` begins with what it is: exception, hang, crash, memory, wrong."""
        self.kinds[kind.partition(":")[0]] += 1
        examples = self.failures.setdefault(kind, [])
        if len(examples) < EXAMPLES:
            examples.append(f"case {case}: {detail}")

    def add(self, other: dict[str, Any]) -> None:
        """Count what another process counted."""
        self.cases += other["cases"]
        self.kinds.update(other["kinds"])
        for kind, examples in other["failures"].items():
            self.failures.setdefault(kind, []).extend(examples[: EXAMPLES - len(self.failures.get(kind, []))])

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {"cases": self.cases, "kinds": dict(self.kinds), "failures": self.failures}


def judge(outcomes: Outcomes, case: int, attempt: Callable[[], str]) -> None:
    """Run one case and count what came of it; `attempt` returns the name of a sound outcome."""
    try:
        outcomes.kinds[attempt()] += 1
    except UserError as error:
        if str(error).strip():
            outcomes.kinds["refused"] += 1
        else:
            outcomes.fail("exception: UserError without a word", case, "")
    except Drop:
        outcomes.kinds["dropped"] += 1
    except Wrong as error:
        outcomes.fail("wrong", case, str(error)[:300])
    except MemoryError:
        outcomes.fail(f"memory: {_where()}", case, "")
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - polars' panics are no Exceptions; all of them are findings
        outcomes.fail(f"exception: {type(error).__name__} in {_where()}", case, " ".join(str(error).split())[:200])
    outcomes.cases += 1


def _where() -> str:
    """Return the innermost line of ours that the current exception passed."""
    frames = traceback.extract_tb(sys.exc_info()[2])
    ours = [frame for frame in frames if "/vlm3" in frame.filename or "/pipelines/" in frame.filename]
    last = (ours or frames)[-1]
    return f"{Path(last.filename).name}:{last.lineno} {last.name}"


def limit_memory(above_bytes: int = ABOVE_BYTES) -> None:
    """Let this process have no more than so many bytes beyond those it has."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + above_bytes, resource.RLIM_INFINITY))


def serve(run: Callable[[int], str], first: int, count: int, place: str, until: float) -> dict[str, Any]:
    """In the process that may break: run cases `first` up to `count` more, saying at `place` which one is on."""
    outcomes = Outcomes()
    with Path(place).open("r+b") as file, mmap.mmap(file.fileno(), 16) as at:
        for case in range(first, first + count):
            at[:16] = struct.pack("<qd", case, time.monotonic())
            judge(outcomes, case, lambda case=case: run(case))
            if time.time() > until:
                break
        at[:16] = struct.pack("<qd", -2, time.monotonic())
    return outcomes.as_dict()


def in_processes(target: str, seed: int, first: int, count: int, until: float = float("inf")) -> Outcomes:
    """Run `count` cases of a target from case `first` on in as many processes, one after the other, as it takes."""
    outcomes, end = Outcomes(), first + count
    while first < end and (time.time() < until or not outcomes.cases):
        with tempfile.TemporaryDirectory(prefix="gauntlet-", dir=scratch()) as home:
            place, answer, errors = Path(home, "place"), Path(home, "answer.json"), Path(home, "stderr")
            place.write_bytes(struct.pack("<qd", -1, time.monotonic()))
            arguments = [target, str(seed), str(first), str(end - first), str(until), home]
            with errors.open("wb") as stderr:
                process = subprocess.Popen(
                    [sys.executable, "-m", "tests.gauntlet.worker", *arguments],
                    stdout=subprocess.DEVNULL, stderr=stderr, start_new_session=True,
                )  # fmt: skip
            hung = _watch(process, place)
            case = struct.unpack("<qd", place.read_bytes())[0]
            if process.returncode == 0:
                outcomes.add(json.loads(answer.read_text()))
                first = first + count if until == float("inf") else end
                continue
            told = errors.read_text(errors="replace").strip().splitlines()[-1:] or [""]
            if case < 0:
                raise RuntimeError(f"{target}: its process ended with {process.returncode}: {errors.read_text()}")
            # What it had counted before is lost with it: those cases were sound, or it would have come here earlier.
            sound = case - first
            outcomes.cases += sound + 1
            outcomes.kinds["survived"] += sound
            if hung:
                outcomes.fail("hang", case, f"more than {HANG_S:g} s")
            else:
                outcomes.fail(f"crash: {_signal(process.returncode)}", case, told[0][:200])
            first = case + 1
    return outcomes


def scratch() -> str | None:
    """Return a directory in memory where there is one."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _watch(process: subprocess.Popen[bytes], place: Path) -> bool:
    """Wait for the process; kill it, and return True, where it stays at one case for too long."""
    while True:
        try:
            process.wait(0.2)
            return False
        except subprocess.TimeoutExpired:
            case, since = struct.unpack("<qd", place.read_bytes())
            if case >= 0 and time.monotonic() - since > HANG_S:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return True


def _signal(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
