"""The Ray engine: the same function as the local one, as Ray tasks."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from vlm3data.types import UserError

try:
    import ray
except ImportError as error:
    raise UserError("--engine ray needs Ray: pip install 'vlm3[ray]'") from error

Job = TypeVar("Job")
Result = TypeVar("Result")


def run(
    function: Callable[[Job], Result], jobs: Sequence[Job], *, workers: int | None, address: str | None = None
) -> Iterator[tuple[Job, Result]]:
    """Yield `(job, function(job))` as tasks finish.

    `address` joins a running cluster; without one a cluster of `workers` CPUs starts on this machine and
    ends with us. Never more tasks are in flight than can run twice over, so that the driver stays small.
    """
    if not jobs:
        return
    joined = ray.is_initialized()
    if not joined:
        _start(workers, address)
    try:
        task = ray.remote(max_retries=3)(_call).options(num_cpus=1)
        waiting, running = list(reversed(jobs)), {}
        while waiting or running:
            in_flight = 2 * max(1, int(workers or ray.cluster_resources().get("CPU", 1)))
            while waiting and len(running) < in_flight:
                job = waiting.pop()
                running[task.remote(function, job)] = job
            finished, _ = ray.wait(list(running), num_returns=1)
            for reference in finished:
                yield running.pop(reference), ray.get(reference)
    finally:
        if not joined:
            ray.shutdown()


def _call(function: Callable[[Job], Result], job: Job) -> Result:
    import cv2

    cv2.setNumThreads(1)  # one task, one core: Ray does the rest
    return function(job)


def _start(workers: int | None, address: str | None) -> None:
    if address is None:
        # "local": without it Ray would join whatever cluster already runs on this machine
        ray.init(
            address="local", num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
        )
        return
    _check_reachable(address)
    try:
        ray.init(address=address, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(f"--ray-address {address}: cannot join this cluster: {error}") from error


def _check_reachable(address: str) -> None:
    """Fail at once where nothing listens at `host:port`: Ray itself would try for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit()):
        return  # "auto" and the like
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise UserError(f"--ray-address {address}: nothing answers there ({error}); is the cluster up?") from error
