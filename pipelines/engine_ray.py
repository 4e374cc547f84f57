"""The Ray engine: the same function as the local one, as Ray tasks."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Generator, Iterable
from typing import Any, TypeVar

from vlm3data.contracts import Needs
from vlm3data.engine_local import first_try, surviving
from vlm3data.types import UserError

try:
    import ray
    from ray import exceptions
except ImportError as error:
    raise UserError("--engine ray needs Ray: pip install 'vlm3[ray]'") from error

Job = TypeVar("Job")
Result = TypeVar("Result")

DEATHS = (
    exceptions.WorkerCrashedError, exceptions.NodeDiedError, exceptions.LocalRayletDiedError,
    exceptions.OutOfMemoryError, exceptions.ObjectLostError,
)  # fmt: skip
"""Ends of a worker, or of the node it ran on, that say nothing of its job."""
AHEAD = 2
"""Tasks in flight for each CPU: one that runs and one that waits, so that the driver stays small and no CPU idle."""
HOLDS = 1e-3
"""Of the custom resource `<source>`, by which a node says that it holds the dataset on a disk of its own."""


def run(
    function: Callable[[Job], Result],
    jobs: Iterable[Job],
    *,
    workers: int | None = None,
    address: str | None = None,
    again: Callable[[Job], Result] | None = None,
    needs: Needs | None = None,
) -> Generator[tuple[Job, Result], None, None]:
    """Yield `(job, function(job))` as tasks finish.

    `address`, or the environment's RAY_ADDRESS, joins a running cluster; without one a cluster of `workers` CPUs starts
    on this machine and ends with us. A job whose worker or node died is done by `again`: never by Ray itself, which
    would not know the difference.
    """
    joined = ray.is_initialized()
    if not joined:
        _start(workers, address or os.environ.get("RAY_ADDRESS"))
    running: dict[Any, tuple[Job, int]] = {}
    try:
        functions = ray.put((function, again or function))
        task = ray.remote(max_retries=0)(_call)
        waiting, deaths = iter(jobs), list[tuple[Job, int]]()
        while True:
            room = AHEAD * max(1, int(workers or ray.cluster_resources().get("CPU", 1))) - len(running)
            while room > 0 and (following := deaths.pop() if deaths else first_try(waiting)) is not None:
                job, died = following
                running[task.options(**_placed(needs or Needs())).remote(functions, died > 0, job)] = following
                room -= 1
            if not running:
                return
            (finished,), _ = ray.wait(list(running), num_returns=1)
            job, died = running.pop(finished)
            try:
                result = ray.get(finished)
            except DEATHS as death:
                deaths.append((job, surviving(job, died, type(death).__name__)))
                continue
            except exceptions.RayTaskError as error:
                raise _cause(error) from None
            yield job, result
    except exceptions.RaySystemError as error:
        raise UserError(f"the Ray cluster is gone ({error}); the same command again goes on where it was") from error
    finally:
        for reference in running:
            ray.cancel(reference, force=True)
        if not joined:
            ray.shutdown()


def _call(functions: tuple[Callable[[Job], Result], ...], again: bool, job: Job) -> Result:
    import cv2

    cv2.setNumThreads(1)  # one task, one core: Ray does the rest
    return functions[again](job)


def _placed(needs: Needs) -> dict[str, Any]:
    """Return where a task may run: beside its data where nodes hold it, and where its memory is free."""
    largest = max((node["Resources"].get("memory", 0) for node in ray.nodes() if node["Alive"]), default=0)
    near = {needs.source: HOLDS} if needs.source in ray.cluster_resources() else {}
    # no more than there is anywhere: a task that fits nowhere would wait for ever
    return {"num_cpus": 1, "memory": int(min(needs.memory_mb * 1e6, largest)), "resources": near}


def _cause(error: exceptions.RayTaskError) -> BaseException:
    """Return what the task raised, with the traceback of the worker as a note."""
    cause = error.cause
    if not isinstance(cause, BaseException):
        return error
    cause.add_note(f"in a worker:\n{error}")
    return cause


def _start(workers: int | None, address: str | None) -> None:
    if address is None:
        # "local": without it Ray would join whatever cluster already runs on this machine
        ray.init(
            address="local", num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
        )
        return
    _check_reachable(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
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
