"""Runs the tests of one mutant after the other, each in a fork of this process, which has the libraries loaded.

Run in a copy of the repository: python judge.py. Reads one JSON line {"key", "file", "text", "tests", "limit_s"} per
mutant from standard input, writes one line {"key", "outcome", "by", "seconds"} for each.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import sys
import tempfile
import time
from pathlib import Path

import hypothesis
import pytest

PRELOADED = ("cv2", "numpy", "scipy.spatial.transform", "scipy.optimize", "scipy.ndimage", "scipy.io", "PIL.Image",
             "pydantic", "yaml", "cyclopts", "orjson", "msgspec", "fsspec.implementations.local", "rich.console",
             "xxhash", "simplejpeg", "pycolmap", "filelock", "tenacity")  # fmt: skip
"""What vlm3data and its tests import and what survives a fork: polars and pyarrow start threads, which do not."""
_MEMORY_BYTES = 24 << 30


class FirstFailure:
    """A pytest plugin that writes down which test saw the mutant."""

    def __init__(self, path: str) -> None:
        self.path = path

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.say(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.say(f"import of {report.nodeid}")

    def say(self, what: str) -> None:
        if not Path(self.path).stat().st_size:
            Path(self.path).write_text(what)


def main() -> None:
    for name in PRELOADED:
        importlib.import_module(name)
    for line in sys.stdin:
        order = json.loads(line)
        file = Path(order["file"])
        sound = file.read_text()
        try:
            write(file, order["text"])
            verdict = judged(order["tests"], order["limit_s"])
        finally:
            write(file, sound)
        print(json.dumps({"key": order["key"], **verdict}), flush=True)


def write(file: Path, text: str) -> None:
    """Write a module and remove its bytecode, which Python trusts where time and size agree to the second."""
    file.write_text(text)
    for compiled in (file.parent / "__pycache__").glob(f"{file.stem}.*.pyc"):
        compiled.unlink()


def judged(tests: list[str], limit_s: float) -> dict[str, object]:
    """Return what the tests make of the tree as it stands: killed, timeout or survived."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, Path(folder, "by").open("w+") as by:
        child = os.fork()
        if child == 0:
            _child(tests, folder, int(limit_s))
        status = _waited(child, start + 20 * limit_s)
        seconds, seen = round(time.monotonic() - start, 2), by.read()
    if status is None or os.waitstatus_to_exitcode(status) == -signal.SIGXCPU:
        return {"outcome": "timeout", "by": "", "seconds": seconds}
    code = os.waitstatus_to_exitcode(status)
    return {"outcome": "survived" if code == 0 else "killed", "by": seen or f"exit {code}", "seconds": seconds}


def _child(tests: list[str], folder: str, limit_s: int) -> None:
    os.setpgid(0, 0)
    resource.setrlimit(resource.RLIMIT_CPU, (limit_s, limit_s + 5))  # so that a busy machine kills no mutant
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    # A counterexample is enough; to find the smallest one takes most of the time.
    phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]
    hypothesis.settings.register_profile("mutants", phases=phases, database=None, deadline=None)
    hypothesis.settings.load_profile("mutants")
    plugins = ["-p", "no:cacheprovider", "-p", "no:xdist"]
    plugins.append(f"--basetemp={folder}/tests")
    seen = FirstFailure(f"{folder}/by")
    code = pytest.main(["-x", "--tb=no", *plugins, "--hypothesis-seed=1", *tests], plugins=[seen])
    os._exit(int(code))


def _waited(child: int, until: float) -> int | None:
    """Return the child's status, or None and end it with all it started where it takes too long."""
    pause = 0.005
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        time.sleep(pause)
        pause = min(0.1, pause * 1.5)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


if __name__ == "__main__":
    main()
