"""Which test runs which line, and how long each test takes: one run of the tests under coverage.

Run in a copy of the repository: python collect.py '{"tests/test_x.py": "x.json", ...}'
"""

from __future__ import annotations

import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import coverage
import hypothesis
import pytest


class Recorder:
    """A pytest plugin: names what runs to coverage, notes each test's seconds of CPU, fixtures and whether it passed.

    A fixture that tests share runs for the first of them only; it is a context of its own, whose lines then count for
    all. Caches are emptied before each test for the same reason.
    """

    def __init__(self, measured: coverage.Coverage) -> None:
        self.measured = measured
        self.seconds: dict[str, float] = {}
        self.failed: set[str] = set()
        self.fixtures: dict[str, list[str]] = defaultdict(list)
        """The tests that ask for a shared fixture, by its context."""
        self.started = 0.0
        self.context = ""

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        for module in [each for name, each in sys.modules.items() if name.startswith("vlm3data")]:
            for value in list(vars(module).values()):
                if hasattr(value, "cache_clear"):
                    value.cache_clear()
        self.started = _cpu_s()
        self._switch(nodeid)

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        for name, definitions in item._fixtureinfo.name2fixturedefs.items():  # type: ignore[attr-defined]
            if definitions[-1].scope != "function":
                self.fixtures[_context(definitions[-1], name)].append(item.nodeid)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Iterator[None]:
        outer = self.context
        if fixturedef.scope != "function":
            self._switch(_context(fixturedef, fixturedef.argname))
        try:
            return (yield)
        finally:
            self._switch(outer)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.outcome != "passed":
            self.failed.add(report.nodeid)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self.seconds[nodeid] = _cpu_s() - self.started
        self._switch("")

    def _switch(self, context: str) -> None:
        self.context = context
        self.measured.switch_context(context)


def _cpu_s() -> float:
    """Return the CPU time of this process and of those that it has started and waited for."""
    return sum(os.times()[:4])


def _context(definition: Any, name: str) -> str:
    return f"fixture {definition.baseid} {name}"


def main(outs: dict[str, str]) -> None:
    """Write {"seconds": {test: s}, "lines": {file: {line: [test]}}} of each test file to its path in `outs`.

    Tests that fail or are skipped are left out. A line without tests runs when its module is imported.
    """
    measured = coverage.Coverage(data_file=None, source=["vlm3data"])
    recorder = Recorder(measured)
    hypothesis.settings.register_profile("mutants", database=None, deadline=None)  # coverage slows tests down
    hypothesis.settings.load_profile("mutants")
    measured.start()
    pytest.main(["-q", "-p", "no:cacheprovider", "--hypothesis-seed=1", *outs], plugins=[recorder])
    measured.stop()
    data, root = measured.get_data(), Path.cwd()
    by_file = {str(Path(file).relative_to(root)): data.contexts_by_lineno(file) for file in data.measured_files()}
    for test_file, out in outs.items():
        own = {name: s for name, s in recorder.seconds.items() if name.startswith(f"{test_file}::")}
        sound = {name: round(s, 4) for name, s in own.items() if name not in recorder.failed}
        lines: dict[str, dict[int, list[str]]] = {}
        for file, contexts in by_file.items():
            for line, names in contexts.items():
                tests = {test for name in names for test in recorder.fixtures.get(name, [name])} & set(sound)
                if tests or "" in names:
                    lines.setdefault(file, {})[line] = sorted(tests)
        Path(out).write_text(json.dumps({"seconds": sound, "lines": lines}))
    print(f"{len(recorder.seconds) - len(recorder.failed)} tests passed; not: {sorted(recorder.failed)[:20]}")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
