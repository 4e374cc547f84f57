"""The engine without a cluster: processes on this machine."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from multiprocessing.connection import wait
from typing import TypeVar

from vlm3data.contracts import Needs
from vlm3data.types import UserError
from vlm3data.workers import Worker, WorkerDied, serve

Job = TypeVar("Job")
Result = TypeVar("Result")

DEATHS = 5
"""A job whose worker died as often is given up."""


def run(
    function: Callable[[Job], Result],
    jobs: Iterable[Job],
    *,
    workers: int | None = None,
    address: str | None = None,
    again: Callable[[Job], Result] | None = None,
    needs: Needs | None = None,
) -> Generator[tuple[Job, Result], None, None]:
    """Yield `(job, function(job))` as jobs finish; `workers` defaults to the cores this process may use.

    A job whose worker died, whatever killed it, is done by `again` in a fresh process. With one worker all is done
    in this process, where a debugger sees it, and nothing survives a crash. Jobs are taken one by one as workers are
    free. Raises what a job raises.
    """
    if workers == 1:
        yield from ((job, function(job)) for job in jobs)
        return
    functions = (function, again or function)
    waiting = iter(jobs)
    deaths: list[tuple[Job, int]] = []
    busy: dict[Worker, tuple[Job, int]] = {}
    idle: list[Worker] = []
    limit = workers or len(os.sched_getaffinity(0))
    try:
        while True:
            while len(busy) < limit and (task := deaths.pop() if deaths else first_try(waiting)) is not None:
                job, died = task
                worker = idle.pop() if idle and not died else Worker(serve, functions)
                busy[worker] = task
                with contextlib.suppress(BrokenPipeError):  # it died: that is heard of below
                    worker.connection.send((min(died, 1), job))
            if not busy:
                return
            ready = wait([worker.connection for worker in busy])
            for worker in [worker for worker in busy if worker.connection in ready]:
                job, died = busy.pop(worker)
                try:
                    result = worker.receive()
                except WorkerDied as death:
                    worker.close()
                    deaths.append((job, surviving(job, died, death.name)))
                    continue
                idle.append(worker)
                yield job, result
    finally:
        for worker in (*busy, *idle):
            worker.close()


def surviving(job: object, died: int, how: str) -> int:
    """Return how often the workers of `job` have died now; raise UserError where that is too often."""
    if died + 1 < DEATHS:
        return died + 1
    raise UserError(
        f"{job}: its worker died {DEATHS} times, at last by {how}; where that is SIGKILL, memory ran out: fewer "
        "--workers help; where it is an exit code, its own last lines above say why"
    )


def first_try(waiting: Iterator[Job]) -> tuple[Job, int] | None:
    """Return the next job with how often its workers have died, never yet; None behind the last."""
    job = next(waiting, None)
    return None if job is None else (job, 0)
