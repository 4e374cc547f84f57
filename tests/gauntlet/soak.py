"""Builds, streams and trains in one process, round after round, under random faults, and watches what grows."""

from __future__ import annotations

import contextlib
import io
import math
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from botocore.exceptions import BotoCoreError

from tests.faulty_store import Proxy, s3_server, upload
from tests.gauntlet.sandbox import Outcomes, Wrong, judge, scratch
from tests.gauntlet.scenarios import Build, Training
from tests.gauntlet.state import State

MOST = {"rss_mb": 0.1, "files": 0.02, "threads": 0.02, "children": 0.02}
"""A round, in the second half of the run: what grows faster, and beyond its own scatter, is called a leak."""
SCATTER = 3.0
"""Standard errors. The client of the store keeps up to ten connections, now two, now six of them."""
ENOUGH = 10
"""Rounds in the second half: from fewer, neither a growth nor its scatter is to be told."""
SAVED = 10
"""Rounds after which the result is saved."""


class Held(NamedTuple):
    """What the process, and those it started, hold."""

    rss_mb: float
    files: int
    threads: int
    children: int


def held() -> Held:
    """Look at this process now; the memory is that of its children, too."""
    children = _children(os.getpid())
    pages = sum(_resident(pid) for pid in (os.getpid(), *children))
    files = len(list(Path("/proc/self/fd").iterdir()))
    return Held(pages * resource.getpagesize() / 1e6, files, threading.active_count(), len(children))


def soak(minutes: float, seed: int, known: State) -> int:
    """Go round for so long; put what was seen into `known`, and return how many things grew or were wrong."""
    began, rng = time.time(), random.Random(seed)
    seen, done, found = list[Held](), Counter[str](), Outcomes()
    with tempfile.TemporaryDirectory(prefix="soak-", dir=scratch()) as home, _store() as store:
        rounds = _Rounds(Path(home), rng, store, done)
        while (passed := time.time() - began) < 60 * minutes:
            judge(found, len(seen), lambda: rounds.go(len(seen)))
            seen.append(held())
            print(f"{passed:.0f} s, round {len(seen)}:", seen[-1], dict(done), found.failures or "", flush=True)
            if len(seen) % SAVED == 0:
                _tell(seen, done, found, passed / 60, known)
    _tell(seen, done, found, (time.time() - began) / 60, known)
    return found.cases - found.kinds["sound"] + len(grown(seen))


def growth(seen: list[Held], name: str) -> tuple[float, float]:
    """Return how much more is held with each round of the second half, by least squares, and its standard error."""
    values = np.array([getattr(one, name) for one in seen[len(seen) // 2 :]], dtype=float)
    if len(values) < ENOUGH:
        return 0.0, math.inf
    rounds = np.arange(len(values)) - (len(values) - 1) / 2
    slope = float(rounds @ values / (rounds @ rounds))
    rest = values - values.mean() - slope * rounds
    return slope, float(np.sqrt(rest @ rest / (len(values) - 2) / (rounds @ rounds)))


def grown(seen: list[Held]) -> list[str]:
    """Return what leaks."""
    slopes = {name: growth(seen, name) for name in MOST}
    return [name for name, (slope, error) in slopes.items() if slope > max(MOST[name], SCATTER * error)]


@contextlib.contextmanager
def _store() -> Iterator[Proxy]:
    """Yield a store; on a busy machine its first request may take longer than its clients wait."""
    with contextlib.ExitStack() as stack:
        for last in (False, False, False, True):
            try:
                store = stack.enter_context(s3_server())
                break
            except (OSError, BotoCoreError):
                if last:
                    raise
        yield store


class _Rounds:
    def __init__(self, home: Path, rng: random.Random, store: Proxy, done: Counter[str]) -> None:
        self.home, self.rng, self.store, self.done = home, rng, store, done
        self.build = Build(home / "build")
        self.build.home.mkdir()
        self.build.prepare()
        self._quietly(self.build.run)
        self.build.whole = self.build.left()
        self.shards = home / "shards"
        shutil.copytree(self.build.out, self.shards)
        self.url = upload(self.shards, "s3://data/soak")
        self.training = Training(home / "training")
        self.training.home.mkdir()
        self._quietly(self.training.prepare)
        self.training.steps = 2

    def go(self, number: int) -> str:
        """Do one round of everything."""
        self._build()
        self._full()
        self._stream()
        self._remote()
        self._train()
        if number % 5 == 1:
            self._killed_worker()
        if number % 10 == 3:
            self._ray()
        return "sound"

    def _quietly(self, run: Callable[[], Any]) -> Any:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return run()

    def _build(self) -> None:
        self.build.begin()
        if self._quietly(self.build.run):
            raise Wrong("a build fails")
        self.build.check_finished()
        self.done["builds"] += 1

    def _full(self) -> None:
        """Let no file grow beyond a random size, then build on."""
        self.build.begin()
        limit = self.rng.randrange(20_000)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            code = self._quietly(self.build.run)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        if code:
            self.done["disks full"] += 1
            self.build.check_interrupted()
            self._quietly(self.build.run)
        self.build.check_finished()

    def _killed_worker(self) -> None:
        """Kill processes of a build while it goes on; it survives them."""
        self.build.begin()
        self.build.more = ("--workers", 2)
        stop = threading.Event()

        def kill() -> None:
            left = 2  # more than a few, and a build rightly gives up
            while left and not stop.wait(0.7):
                workers = [pid for pid in _children(os.getpid()) if b"spawn_main" in _command(pid)]
                if workers and not stop.is_set():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(self.rng.choice(workers), signal.SIGKILL)
                        self.done["workers killed"] += 1
                        left -= 1
                    stop.wait(1.5)

        thread = threading.Thread(target=kill)
        thread.start()
        try:
            if self._quietly(self.build.run):
                raise Wrong("a build with killed workers fails")
        finally:
            stop.set()
            thread.join()
            self.build.more = ("--workers", 1)
        self.build.check_finished()
        self.done["builds of killed workers"] += 1

    def _ray(self) -> None:
        """Build on a Ray of its own, as a command: Ray itself keeps a dead socket in the process of each session."""
        self.build.begin()
        home = self.home / "r"  # short, as it is part of the names of sockets
        self.build.more = ("--engine", "ray", "--workers", 2)
        command = [sys.executable, "-c", "from vlm3data.cli import main; main()", *map(str, self.build.command())]
        self.build.more = ("--workers", 1)
        done = subprocess.run(command, env={**os.environ, "RAY_TMPDIR": str(home)}, capture_output=True, check=False)
        if done.returncode:
            raise Wrong(f"a build on Ray fails: {done.stderr[-200:]!r}")
        self.build.check_finished()
        for _ in range(100):
            stay = [pid for pid in _listed(Path("/proc")) if str(home).encode() in _command(pid.name)]
            if not stay:
                break
            time.sleep(0.1)
        else:
            raise Wrong(f"processes of Ray stay: {[_command(pid.name)[:60] for pid in stay]}")
        shutil.rmtree(home)
        self.done["builds on Ray"] += 1

    def _stream(self) -> None:
        """Read shards of which one is damaged: another sample stands in, and what is read is as it was written."""
        damaged = self.home / "damaged"
        shutil.rmtree(damaged, ignore_errors=True)
        shutil.copytree(self.shards, damaged)
        path = sorted(damaged.glob("*.tar"))[self.rng.randrange(3)]
        data = bytearray(path.read_bytes())
        data[self.rng.randrange(len(data) - 1024)] ^= 1 << self.rng.randrange(8)
        path.write_bytes(data)
        self._read(str(damaged), 60, None)
        self.done["shards damaged"] += 1

    def _remote(self) -> None:
        """Read from an S3 store that fails, through a cache with too little room."""
        faults = ("500", "503", "reset", "cut", "short", "flip")
        with self.store.lock:
            self.store.faults.extend(self.rng.choices(faults, k=4))
        self._read(self.url, 24, {"directory": str(self.home / "cache"), "limit_gb": 3e-5})
        self.done["store errors"] += 4 - len(self.store.faults)
        self.store.faults.clear()

    def _read(self, url: str, many: int, cache: dict[str, Any] | None) -> None:
        from vlm3data.mixture import Mixture
        from vlm3data.shards import Dataset
        from vlm3data.stream import open_stream

        spec: dict[str, Any] = {"datasets": {"d": {"shards": url, "weight": 1}}, "max_bad": 5}
        right = {sample.key: sample for sample in map(Dataset(str(self.shards)).stored, range(12))}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open_stream(Mixture.check(spec | ({"cache": cache} if cache else {}), "soak")) as stream:
                for _, sample in islice(stream, many):
                    other = right[sample.key]
                    if (sample.images, sample.record_json) != (other.images, other.record_json):
                        raise Wrong(f"{sample.key} is not as it was written")
                    self.done["samples read"] += 1

    def _train(self) -> None:
        shutil.rmtree(self.training.out, ignore_errors=True)
        if self._quietly(self.training.run):
            raise Wrong("training fails")
        weights = (self.training.out / "model.safetensors").read_bytes()
        if self.training.whole.setdefault("weights", weights) != weights:
            raise Wrong("other weights than in the first round")
        self.done["trainings"] += 1


def _tell(seen: list[Held], done: Counter[str], found: Outcomes, minutes: float, known: State) -> None:
    """Put the rows of the table into `known`."""
    rows: dict[str, Any] = {"minutes": f"{minutes:.1f}", "rounds": f"{len(seen):,}"} | {
        name: f"{count:,}" for name, count in sorted(done.items())
    }
    middle, leaks = seen[len(seen) // 2], grown(seen)
    for name in MOST:
        unit = " MB" if name == "rss_mb" else ""
        label = {"rss_mb": "memory of all processes"}.get(name, f"{name} held")
        slope, error = growth(seen, name)
        rows[label] = (
            f"{getattr(seen[0], name):.0f}{unit} after the first round, {getattr(middle, name):.0f}{unit} at half time,"
            f" {getattr(seen[-1], name):.0f}{unit} at last; second half {slope:+.4f} ± {error:.4f}{unit} a round"
            + (" **grows**" if name in leaks else "")
        )
    examples = [f"{kind}: {each}" for kind, some in found.failures.items() for each in some]
    rows["lost or wrong"] = "; ".join([str(found.cases - found.kinds["sound"]), *examples[:3]])
    known.parts["soak"] = {}
    for name, value in rows.items():
        known.put("soak", name, value)
    print(rows, flush=True)


def _children(pid: int) -> list[int]:
    """Return the processes that this one started, and theirs."""
    found: list[int] = []
    for task in _listed(Path(f"/proc/{pid}/task")):
        with contextlib.suppress(OSError):
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *_children(child)]
    return found


def _listed(directory: Path) -> Iterator[Path]:
    with contextlib.suppress(OSError):
        yield from list(directory.iterdir())


def _resident(pid: int) -> int:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return 0


def _command(pid: int | str) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""
