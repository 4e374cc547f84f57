"""Two runs never train into one directory, and a killed one does not stand in the way of the next."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from vlm3data.types import UserError
from vlm3train.lock import alone_in

CONTEXT = multiprocessing.get_context("spawn")


def hold(out: Path, rank: int, connection: Any) -> None:
    """Hold the directory until killed, with a forked child that lives on, as a loader's worker does."""
    with alone_in(out, rank):
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        connection.send(child)
        time.sleep(60)


@pytest.fixture
def held(tmp_path):
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=hold, args=(tmp_path / "run", 0, theirs))
    process.start()
    worker = ours.recv()
    yield tmp_path / "run", process
    process.kill()
    process.join()
    os.kill(worker, signal.SIGKILL)


def test_a_second_run_is_refused_until_the_first_one_ends_however_it_ends(held):
    out, process = held
    with pytest.raises(UserError, match="a run that has not ended trains there"), alone_in(out, 0):
        pass
    process.kill()
    process.join()
    with alone_in(out, 0):  # although what it forked still lives
        pass


def test_the_ranks_of_a_run_do_not_exclude_each_other_and_a_run_may_follow_in_one_process(held):
    out, _ = held
    with alone_in(out, 1):
        pass
    with alone_in(out, 1):
        pass


def test_training_holds_its_directory(held, tmp_path, shards, model_dir):
    from vlm3train.sft import SftConfig, train

    out, _ = held
    mixture = tmp_path / "mixture.yaml"
    mixture.write_text(f"seed: 1\ndatasets:\n  a: {{shards: {shards}, weight: 1, pixels: 2}}\n")
    with pytest.raises(UserError, match="a run that has not ended trains there"):
        train(SftConfig(model=str(model_dir), mixture=str(mixture), out=str(out), steps=1))
    assert not (out / "run.json").exists()
