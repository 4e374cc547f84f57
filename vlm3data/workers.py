"""Processes that work for us, one call at a time, and whose death we survive."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import Any

from vlm3data.types import UserError

CONTEXT = multiprocessing.get_context("spawn")
"""A fork would copy the locks of threads (Arrow, OpenCV) that do not exist in the child."""
JOIN_S = 5
NAME = "vlm3 worker"


class WorkerDied(Exception):
    """A process ended without having answered; `name` says how, as SIGSEGV or exit code 3."""

    def __init__(self, name: str) -> None:
        super().__init__(f"its process ended: {name}")
        self.name = name


class Worker:
    """A process with a pipe to it; it ends with us, however we end, and when it is closed."""

    def __init__(self, target: Callable[..., object], *arguments: Any) -> None:
        """Start the process, which calls `target(connection, *arguments)`."""
        self.connection, theirs = CONTEXT.Pipe()
        self.process = CONTEXT.Process(target=_begin, name=NAME, args=(target, theirs, *arguments))
        self.process.start()
        theirs.close()

    def receive(self) -> Any:
        """Return what the process says next; raise what it raised, or WorkerDied."""
        try:
            error, value = self.connection.recv()
        except (EOFError, OSError):  # the latter within an answer
            raise WorkerDied(self._end()) from None
        if error is not None:
            raise error
        return value

    def close(self) -> None:
        """End the process at once."""
        self.process.kill()
        self._end()
        self.connection.close()

    def _end(self) -> str:
        self.process.join(JOIN_S)
        if self.process.exitcode is None:  # it closed its pipe, but lives
            self.process.kill()
            self.process.join()
        code = self.process.exitcode or 0
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"exit code {code}"


def refuse_in_worker(what: str) -> None:
    """Raise UserError in a worker: it imports the script that it is started from, which then calls `what` again."""
    if multiprocessing.current_process().name == NAME:
        raise UserError(f'each worker process imports this script: call {what} under `if __name__ == "__main__":`')


def say(connection: Connection, value: Any) -> None:
    """Answer the process that started this one."""
    connection.send((None, value))


def serve(connection: Connection, functions: tuple[Callable[[Any], Any], ...]) -> None:
    """Answer each `(number, job)` that comes with `functions[number](job)`, until nobody asks any more."""
    while True:
        try:
            number, job = connection.recv()
        except EOFError:
            return
        say(connection, functions[number](job))


def _begin(target: Callable[..., object], connection: Connection, *arguments: Any) -> None:
    """Run one thread per worker, and end with the parent however it dies: an orphan must not go on writing."""
    import cv2

    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends us
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent.sentinel,), daemon=True).start()
    try:
        target(connection, *arguments)
    except Exception as error:  # noqa: BLE001  it is raised again where we were started
        connection.send((_portable(error), None))


def _follow(sentinel: Any) -> None:
    wait([sentinel])
    os._exit(1)


def _portable(error: Exception) -> Exception:
    """Return the error with this process's traceback as a note; one that cannot be sent becomes a RuntimeError."""
    text = "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301  our own
    except Exception:  # noqa: BLE001  whatever its class does
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(f"in a worker process:\n{text}")
    return error
