"""Which test runs which line, and how long each test takes: one run of the tests under coverage.

Run in a copy of the repository: python collect.py '{"tests/test_x.py": "x.json", ...}'
"""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from pathlib import Path

import coverage
import pytest


class Recorder:
    """A pytest plugin: names the running test to coverage and notes its seconds and whether it passed."""

    def __init__(self, measured: coverage.Coverage) -> None:
        self.measured = measured
        self.seconds: dict[str, float] = defaultdict(float)
        self.failed: set[str] = set()
        self.started = 0.0

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.measured.switch_context(nodeid)
        self.started = time.monotonic()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.outcome != "passed":
            self.failed.add(report.nodeid)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self.seconds[nodeid] = time.monotonic() - self.started
        self.measured.switch_context("")


def main(outs: dict[str, str]) -> None:
    """Write {"seconds": {test: s}, "lines": {file: {line: [test]}}} of each test file to its path in `outs`.

    Tests that fail or are skipped are left out. A line without tests runs when its module is imported.
    """
    measured = coverage.Coverage(data_file=None, source=["vlm3data"])
    recorder = Recorder(measured)
    measured.start()
    pytest.main(["-q", "-p", "no:cacheprovider", "--hypothesis-seed=1", *outs], plugins=[recorder])
    measured.stop()
    data, root = measured.get_data(), Path.cwd()
    by_file = {str(Path(file).relative_to(root)): data.contexts_by_lineno(file) for file in data.measured_files()}
    for test_file, out in outs.items():
        own = {name: s for name, s in recorder.seconds.items() if name.startswith(f"{test_file}::")}
        sound = {name: round(s, 4) for name, s in own.items() if name not in recorder.failed}
        lines = {
            file: {line: [name for name in names if name in sound] for line, names in contexts.items()
                   if "" in names or any(name in sound for name in names)}
            for file, contexts in by_file.items()
        }  # fmt: skip
        Path(out).write_text(json.dumps({"seconds": sound, "lines": lines}))
    print(f"{len(recorder.seconds) - len(recorder.failed)} tests passed; not: {sorted(recorder.failed)[:20]}")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
