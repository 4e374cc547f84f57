"""A worker's end is heard of wherever it comes."""

from __future__ import annotations

import os
import struct
from multiprocessing.connection import Connection

import pytest

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
