"""The engine without a cluster: processes on this machine."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing.connection import wait
from typing import Any, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


def run(
    function: Callable[[Job], Result], jobs: Sequence[Job], *, workers: int | None, address: str | None = None
) -> Iterator[tuple[Job, Result]]:
    """Yield `(job, function(job))` as jobs finish; `workers` defaults to the cores this process may use."""
    workers = min(workers or len(os.sched_getaffinity(0)), len(jobs))
    if workers <= 1:
        yield from ((job, function(job)) for job in jobs)
        return
    # spawn: a fork would copy the locks of threads (Arrow, OpenCV) that do not exist in the child
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker) as pool:
        futures = {pool.submit(function, job): job for job in jobs}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """Run one thread per worker, and end with the parent however it dies: an orphan must not go on writing."""
    import cv2

    cv2.setNumThreads(1)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent.sentinel,), daemon=True).start()


def _follow(sentinel: Any) -> None:
    wait([sentinel])
    os._exit(1)
