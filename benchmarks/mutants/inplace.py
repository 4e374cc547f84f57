"""Judges mutants of function bodies fast: one pytest has collected all tests, each mutant is a fork of it.

In the fork the function's code is replaced, so every name that it was imported under sees the mutant; nothing is
imported again. What this does not reach (defaults, constants of modules, what an import computes) is `judge`'s.

Run in a copy of the repository: python inplace.py PROCESSES TEST_FILE... . Reads a JSON line {"key", "file",
"function", "text", "tests", "quick", "limit_s"} per mutant from standard input up to its end, writes one line {"key",
"outcome", "by", "seconds"} for each as it comes; the outcome is "elsewhere" where there is no function to change. Last
come controls: each test that saw a mutant, without one, as {"key": "control TEST", ...}.
"""

from __future__ import annotations

import functools
import gc
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import hypothesis
import pytest
from _pytest.main import pytest_runtestloop

SURVIVED, KILLED, ELSEWHERE = 0, 1, 2
"""Exit statuses of a fork."""


@dataclass(frozen=True, slots=True)
class Running:
    order: dict[str, Any]
    until: float
    started: float
    folder: Path


class Server:
    """A pytest plugin that forks for each order instead of running what was collected."""

    def __init__(self, processes: int, orders: int, answers: int) -> None:
        self.processes, self.orders, self.answers = processes, orders, answers
        self.seen_by = Path()
        self.later: list[dict[str, Any]] = []
        self.killers: set[str] = set()
        """Tests that saw a mutant: in the end each must pass in a fork without one."""

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        with os.fdopen(self.orders) as lines:
            waiting = [json.loads(line) for line in lines]
        waiting.reverse()
        items = {item.nodeid: item for item in session.items}
        gc.collect()
        gc.freeze()  # else every fork's collector copies all of it
        running: dict[int, Running] = {}
        while waiting or running or self.later:
            if not waiting:
                waiting, self.later = self.later, []
            while waiting and len(running) < self.processes:
                order, folder = waiting.pop(), Path(tempfile.mkdtemp(prefix="mutant-"))
                child = os.fork()
                if child == 0:
                    self._child(session, items, order, folder)
                now = time.monotonic()
                running[child] = Running(order, now + 20 * order["limit_s"], now, folder)
            time.sleep(0.005)
            for child in list(running):
                self._look_at(child, running)
            if not waiting and not running and not self.later and self.killers:
                waiting = [
                    {"key": f"control {name}", "text": "", "tests": [name], "limit_s": 300} for name in self.killers
                ]
                self.killers = set()
        return True

    def _look_at(self, child: int, running: dict[int, Running]) -> None:
        it = running[child]
        done, status = os.waitpid(child, os.WNOHANG)
        if not done and time.monotonic() < it.until:
            return
        if done:
            code = os.waitstatus_to_exitcode(status)
            outcome = {SURVIVED: "survived", ELSEWHERE: "elsewhere", -signal.SIGXCPU: "timeout"}.get(code, "killed")
        else:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            outcome, code = "timeout", -9
        quick = it.order.get("quick")
        if outcome == "survived" and quick and quick < len(it.order["tests"]):
            # All others first: what lives takes the longest.
            self.later.append(it.order | {"tests": it.order["tests"][quick:], "quick": None})
            outcome = "elsewhere"
        seen = it.folder / "by"
        by = seen.read_text() if seen.exists() else f"exit {code}"
        if outcome == "killed" and not it.order["key"].startswith("control "):
            self.killers |= {by} if "::" in by else set()
        shutil.rmtree(it.folder, ignore_errors=True)
        seconds = round(time.monotonic() - it.started, 2)
        answer = {"key": it.order["key"], "outcome": outcome, "by": by, "seconds": seconds}
        os.write(self.answers, (json.dumps(answer) + "\n").encode())
        del running[child]

    def _child(self, session: pytest.Session, items: dict[str, pytest.Item], order: dict, folder: Path) -> None:
        try:
            os.setpgid(0, 0)
            limit_s = int(order["limit_s"])  # of CPU, so that a busy machine kills no mutant
            resource.setrlimit(resource.RLIMIT_CPU, (limit_s, limit_s + 5))
            nothing = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(nothing, stream)
            if order["text"] and not replaced(order["file"], order["function"], order["text"]):
                os._exit(ELSEWHERE)
            self.seen_by = folder / "by"
            session.config._tmp_path_factory._basetemp = folder  # type: ignore[attr-defined]
            session.items = [items[name] for name in order["tests"][: order.get("quick")]]
            pytest_runtestloop(session)
            os._exit(KILLED if session.testsfailed else SURVIVED)
        except session.Failed:  # the first failure ends it
            os._exit(KILLED)
        except BaseException as error:  # noqa: BLE001 - it must never come back into the server's loop
            (folder / "by").write_text(f"{type(error).__name__}: {error}")
            os._exit(KILLED)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.seen_by.exists():
            self.seen_by.write_text(report.nodeid)


def replaced(file: str, function: str, text: str) -> bool:
    """Give the outermost function that holds the mutant the code it has in `text`; False where nothing changes."""
    name = file.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
    module = sys.modules[name]
    new = {code.co_qualname: code for code in _codes(compile(text, str(module.__file__), "exec"))}
    parts = function.split(".")
    for end in range(1, len(parts) + 1):
        qualname = ".".join(parts[:end])
        live = [each for each in _functions(module) if each.__code__.co_qualname == qualname]
        if live and qualname in new:
            changed = not _same(live[0].__code__, new[qualname])
            for each in live:
                each.__code__ = new[qualname]
            _forget()
            return changed
    return False


def _codes(code: CodeType) -> Iterator[CodeType]:
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield const
            yield from _codes(const)


def _same(one: CodeType, other: CodeType) -> bool:
    """Tell whether two codes do the same, wherever their lines stand."""
    if (one.co_code, one.co_names, one.co_varnames) != (other.co_code, other.co_names, other.co_varnames):
        return False
    pairs = zip(one.co_consts, other.co_consts, strict=False)
    alike = (
        _same(a, b) if isinstance(a, CodeType) and isinstance(b, CodeType) else repr(a) == repr(b) for a, b in pairs
    )
    return len(one.co_consts) == len(other.co_consts) and all(alike)


def _functions(module: ModuleType) -> Iterator[FunctionType]:
    """Yield the module's own functions and methods, out of whatever wraps them."""
    waiting: list[Any] = list(vars(module).values())
    while waiting:
        value = waiting.pop()
        if isinstance(value, type) and value.__module__ == module.__name__:
            waiting.extend(vars(value).values())
        elif isinstance(value, property):
            waiting.append(value.fget)
        elif isinstance(value, functools.cached_property):
            waiting.append(value.func)
        elif isinstance(value, staticmethod | classmethod):
            waiting.append(value.__func__)
        elif hasattr(value, "cache_clear"):
            waiting.append(value.__wrapped__)
        elif isinstance(value, FunctionType) and value.__module__ == module.__name__:
            yield value
            if hasattr(value, "__wrapped__"):
                waiting.append(value.__wrapped__)


def _forget() -> None:
    for name, module in list(sys.modules.items()):
        if name.startswith("vlm3data"):
            for value in list(vars(module).values()):
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


def main(processes: int, files: list[str]) -> None:
    server = Server(processes, os.dup(0), os.dup(1))
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    # A counterexample is enough; to find the smallest one takes most of the time.
    phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]
    hypothesis.settings.register_profile("mutants", phases=phases, database=None, deadline=None)
    hypothesis.settings.load_profile("mutants")
    plugins = ["-p", "no:cacheprovider", "-p", "no:xdist", "-s", "-x"]
    raise SystemExit(int(pytest.main([*plugins, "--tb=no", "--hypothesis-seed=1", *files], plugins=[server])))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
