"""A worker's end is heard of wherever it comes."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import ClassVar

import pytest

from vlm3data import engine_local
from vlm3data.types import UserError
from vlm3data.workers import Worker, WorkerDied, say


def _ends_within_an_answer(connection: Connection) -> None:
    say(connection, "whole")
    os.write(connection.fileno(), struct.pack("!i", 1000) + b"half")
    os._exit(3)


def test_an_end_within_an_answer_is_an_end():
    worker = Worker(_ends_within_an_answer)
    assert worker.receive() == "whole"
    with pytest.raises(WorkerDied, match="exit code 3"):
        worker.receive()
    worker.close()


class InThread:
    """Stands for a worker process; it dies of jobs below zero, of -1 the first time only."""

    made: ClassVar[list[InThread]] = []

    def __init__(self, target: Callable[..., object], *arguments: object) -> None:
        self.connection, theirs = Pipe()
        self.closed = False
        threading.Thread(target=target, args=(theirs, *arguments), daemon=True).start()
        InThread.made.append(self)

    def receive(self) -> object:
        _, (number, job) = self.connection.recv()
        if job < 0 and (job, number) != (-1, 1):
            raise WorkerDied("SIGKILL")
        return number, job

    def close(self) -> None:
        self.connection.close()
        self.closed = True


def first(job: int) -> tuple[int, int]:
    return 0, job


def again(job: int) -> tuple[int, int]:
    return 1, job


@pytest.fixture
def in_threads(monkeypatch) -> list[InThread]:
    monkeypatch.setattr(InThread, "made", [])
    monkeypatch.setattr(engine_local, "Worker", InThread)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(4))
    return InThread.made


@pytest.mark.parametrize(("workers", "expected"), [(2, 2), (7, 7), (None, 4)])
def test_there_are_as_many_workers_as_were_said(in_threads, workers, expected):
    jobs = list(range(20))
    done = dict(engine_local.run(first, iter(jobs), workers=workers, again=again))
    assert done == {job: (0, job) for job in jobs}
    assert len(in_threads) == expected
    assert all(worker.closed for worker in in_threads)


def test_a_job_whose_worker_died_is_done_the_careful_way_by_a_fresh_one(in_threads):
    assert dict(engine_local.run(first, [-1, 3], workers=2, again=again)) == {-1: (1, -1), 3: (0, 3)}
    assert len(in_threads) == 3


def test_a_job_whose_workers_die_is_given_up_and_not_before(in_threads):
    with pytest.raises(UserError, match=rf"\A-7: its worker died {engine_local.DEATHS} times, at last by SIGKILL"):
        list(engine_local.run(first, [-7, 3], workers=2, again=again))
    assert len(in_threads) == engine_local.DEATHS + 1  # one of them for the other job
    assert all(worker.closed for worker in in_threads)


def test_a_script_that_builds_unguarded_is_told_so_in_each_of_its_workers(tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(
        "from vlm3data.build import BuildConfig, build\n"
        "options = {'width_px': 64, 'height_px': 48}\n"
        "config = BuildConfig(source='synthetic', limit=2, shard_size=2, options=options, focal_px=64)\n"
        f"build(config, {str(tmp_path / 'out')!r}, workers=2)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert 'call build() under `if __name__ == "__main__":`' in done.stderr
    assert "its own last lines above say why" in done.stderr.splitlines()[-1]
    assert "another build writes there now" not in done.stderr
