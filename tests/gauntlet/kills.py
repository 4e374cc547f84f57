"""Signals at random moments, full and read-only disks, clocks that jump, two at once; run by `disturber`.

A process that has everything imported forks one child a try. Whatever becomes of the child, what it leaves under a
final name is whole, and the same command again ends with the bytes of a run that nobody disturbed.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.gauntlet.sandbox import Outcomes, Wrong
from tests.gauntlet.scenarios import Scenario
from vlm3data.randomness import rng_for

GIVE_UP_S = 240.0
UNTIL_IT_IS_LEFT_ALONE = 6
"""Signals in a row; then a run may come to its end, and is compared."""
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


class Child:
    """A forked process that runs a scenario; what it prints goes to a file."""

    def __init__(self, scenario: Scenario, before: Callable[[], object] = lambda: None) -> None:
        self.told = scenario.home / f"told-{time.monotonic_ns()}"
        self.pid = os.fork()
        if self.pid == 0:
            self._be(scenario, before)

    def _be(self, scenario: Scenario, before: Callable[[], object]) -> None:
        code = 70
        try:
            descriptor = os.open(self.told, os.O_WRONLY | os.O_CREAT)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            os.setpgid(0, 0)
            before()
            code = scenario.run()
        except KeyboardInterrupt:
            code = 130
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:  # noqa: BLE001 - told to the parent
            import traceback

            with contextlib.suppress(OSError):
                traceback.print_exc()
        finally:
            os._exit(code)

    def signal(self, number: int) -> None:
        """Send a signal to the process itself, as `kill` does; its own children see it die."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def poll(self) -> int | None:
        """Return the exit code (minus the signal) where it has ended."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if pid else None

    def wait(self, limit_s: float = GIVE_UP_S) -> int | None:
        """Return the exit code; None, and it is killed, where it takes too long."""
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            if (code := self.poll()) is not None:
                return code
            time.sleep(0.002)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        return None

    def words(self) -> str:
        """Return what it printed, and forget it."""
        text = self.told.read_text(errors="replace") if self.told.exists() else ""
        self.told.unlink(missing_ok=True)
        return text


def prepared(scenario: Scenario) -> float:
    """Make the input and an undisturbed run; return how long that one took, in seconds."""
    child = Child(scenario, before=lambda: (scenario.prepare(), os._exit(0)))
    if child.wait() != 0:
        raise AssertionError(f"no input: {child.words()[-2000:]}")
    scenario.begin()
    began = time.monotonic()
    child = Child(scenario)
    if child.wait() != 0:
        raise AssertionError(f"an undisturbed run fails: {child.words()[-2000:]}")
    took_s = time.monotonic() - began
    child.words()
    scenario.whole = scenario.left()
    scenario.begin()
    return took_s


def killed(scenario: Scenario, name: str, seed: int, first: int, kills: int, until: float) -> Outcomes:
    """Signal runs of a scenario at random moments, until `kills` of them hit."""
    outcomes, took_s = Outcomes(), prepared(scenario)
    in_a_row, tries = 0, 0
    while outcomes.cases < kills and (time.time() < until or not outcomes.cases):
        rng, tries = rng_for(seed, "kill", name, first, tries), tries + 1
        number = SIGNALS[rng.integers(len(SIGNALS))]
        child = Child(scenario)
        alone = in_a_row >= UNTIL_IT_IS_LEFT_ALONE
        code = None if alone else _signalled(child, number, float(rng.uniform(0, 1.15 * took_s)))
        code = child.wait() if code is None else code
        words = child.words()
        try:
            in_a_row = _judged(scenario, outcomes, code, number, words, in_a_row)
        except Wrong as error:
            outcomes.fail("wrong", first + outcomes.cases, f"after {signal.Signals(number).name}: {error}")
            in_a_row = 0
            scenario.begin()
    return outcomes


def _signalled(child: Child, number: int, after_s: float) -> int | None:
    """Signal the child after so many seconds; return its exit code where it had ended before."""
    end = time.monotonic() + after_s
    while time.monotonic() < end:
        if (code := child.poll()) is not None:
            return code
        time.sleep(0.001)
    child.signal(number)
    return None


def _judged(scenario: Scenario, outcomes: Outcomes, code: int | None, number: int, words: str, in_a_row: int) -> int:
    """Count what became of one try; return how many signals in a row now hit."""
    if code is None:
        outcomes.cases += 1
        outcomes.fail(f"hang: {signal.Signals(number).name}", outcomes.cases, words[-200:])
        scenario.begin()
        return 0
    if code == 0:
        scenario.check_finished()
        outcomes.kinds["equal ends"] += 1
        scenario.begin()
        return 0
    if code in (-number, number, 130):  # Ray has a handler of its own for SIGTERM
        outcomes.cases += 1
        outcomes.kinds[signal.Signals(number).name] += 1
        if code == 130 and "Traceback" in words:
            outcomes.fail("exception: a traceback after SIGINT", outcomes.cases, words.strip().splitlines()[-1][:200])
        scenario.check_interrupted()
        return in_a_row + 1
    outcomes.cases += 1
    outcomes.fail(f"exception: exit code {code}", outcomes.cases, " ".join(words.split())[-300:])
    scenario.begin()
    return 0


def disturbed(scenario: Scenario, name: str, kind: str, seed: int, first: int, tries: int, until: float) -> Outcomes:
    """Run a scenario under one kind of fault, and again without; compare."""
    outcomes = Outcomes()
    prepared(scenario)
    for case in range(first, first + tries):
        if time.time() > until and outcomes.cases:
            break
        rng = rng_for(seed, kind, name, case)
        outcomes.cases += 1
        scenario.begin()
        try:
            outcomes.kinds[FAULTS[kind](scenario, rng)] += 1
        except Wrong as error:
            outcomes.fail("wrong", case, str(error)[:300])
    return outcomes


def _again(scenario: Scenario) -> None:
    child = Child(scenario)
    code = child.wait()
    words = child.words()
    if code != 0:
        raise Wrong(f"the command again ends with {code}: {' '.join(words.split())[-300:]}")
    scenario.check_finished()


def _ended(child: Child, scenario: Scenario) -> str:
    """Return what a disturbed run came to; Wrong where it is neither an end nor a refusal."""
    code, words = child.wait(), child.words()
    if code == 0:
        scenario.check_finished()
        return "ended equal"
    if code is None:
        raise Wrong("hangs")
    if "Traceback" in words or code not in (1, 2):
        raise Wrong(f"exit code {code}: {' '.join(words.split())[-300:]}")
    return "refused, then equal"


def _full(scenario: Scenario, rng: np.random.Generator) -> str:
    most = max(map(len, scenario.whole.values()))
    limit = int(rng.integers(0, most + 1))
    child = Child(scenario, before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    found = _ended(child, scenario)
    scenario.check_interrupted()
    if found != "ended equal":
        _again(scenario)
    return found


def _full_disk(scenario: Scenario, rng: np.random.Generator) -> str:
    total = sum(map(len, scenario.whole.values()))
    with _disk(scenario, int(rng.integers(4096, max(8192, int(1.2 * total))))) as remount:
        found = _ended(Child(scenario), scenario)
        scenario.check_interrupted()
        remount("size=64m")
        if found != "ended equal":
            _again(scenario)
    return found


def _read_only(scenario: Scenario, rng: np.random.Generator) -> str:
    with _disk(scenario, 64 << 20) as remount:
        remount("ro")
        found = _ended(Child(scenario), scenario)
        remount("rw")
        if found == "ended equal":
            raise Wrong("ends well on a disk that cannot be written")
        _again(scenario)
    return found


@contextlib.contextmanager
def _disk(scenario: Scenario, size_bytes: int) -> Any:
    """Mount a disk of so many bytes where the output goes; what is there already is kept."""
    before = scenario.left() if scenario.out.exists() else None
    scenario.out.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "none", str(scenario.out)], check=True, capture_output=True
    )
    try:
        for name, data in (before or {}).items():
            (scenario.out / name).parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(OSError):
                (scenario.out / name).write_bytes(data)
        yield lambda options: subprocess.run(
            ["mount", "-o", f"remount,{options}", str(scenario.out)], check=True, capture_output=True
        )
    finally:
        subprocess.run(["umount", "-l", str(scenario.out)], check=True, capture_output=True)
        shutil.rmtree(scenario.out, ignore_errors=True)


def can_mount() -> bool:
    """Tell whether this process may mount disks."""
    place = Path(tempfile.mkdtemp(prefix="gauntlet-mount-"))
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4096", "none", str(place)], capture_output=True)
    if done.returncode == 0:
        subprocess.run(["umount", "-l", str(place)], check=False)
    place.rmdir()
    return done.returncode == 0


def _clock(scenario: Scenario, rng: np.random.Generator) -> str:
    jumps = rng.uniform(-40 * 365.25 * 86400, 40 * 365.25 * 86400, 1000)

    def jumping() -> None:
        """Every look at the clock of the calendar finds another year."""
        real, looks = time.time, iter(range(10**9))
        time.time = lambda: real() + jumps[next(looks) % len(jumps)]
        time.time_ns = lambda: int(time.time() * 1e9)
        now = max(1.0, time.time())
        for path in scenario.home.rglob("*"):
            with contextlib.suppress(OSError):
                os.utime(path, (now, now))

    found = _ended(Child(scenario, before=jumping), scenario)
    if found != "ended equal":
        raise Wrong("is refused when the clock jumps")
    return found


def _two(scenario: Scenario, rng: np.random.Generator) -> str:
    later_s = float(rng.uniform(0, 0.3))
    children = [Child(scenario), Child(scenario, before=lambda: time.sleep(later_s))]
    codes, words = [child.wait() for child in children], [child.words() for child in children]
    if 0 not in codes or None in codes or any("Traceback" in text for text in words):
        raise Wrong(f"exit codes {codes}: {' '.join(' '.join(words).split())[-300:]}")
    scenario.check_finished()
    return "both ended equal" if codes == [0, 0] else "one refused, one equal"


FAULTS: dict[str, Callable[[Scenario, np.random.Generator], str]] = {
    "no room for a file": _full,
    "a full disk": _full_disk,
    "a read-only disk": _read_only,
    "a clock that jumps": _clock,
    "two at once": _two,
}
NEED_MOUNT = ("a full disk", "a read-only disk")
PLANNED: dict[str, dict[str, int]] = {
    "no room for a file": {"build": 60, "rerender": 40, "export llava": 30, "export parquet": 30,
                           "preview": 10, "synth": 20},
    "a full disk": {"build": 60, "build --append": 30, "rerender": 40, "export llava": 30, "export parquet": 30},
    "a read-only disk": {"build": 5, "rerender": 5, "export llava": 5, "card": 3},
    "a clock that jumps": {"build": 10, "build --append": 5, "rerender": 5, "export parquet": 5, "preview": 3,
                           "synth": 3},
    "two at once": {"build": 40, "rerender": 30, "cache of several processes": 20},
}  # fmt: skip
"""Tries in a whole run, by fault and scenario."""
