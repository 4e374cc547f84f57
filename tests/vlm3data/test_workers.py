"""A worker's end is heard of wherever it comes."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path

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


def test_a_script_that_builds_unguarded_is_told_so_in_each_of_its_workers(tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(
        "from vlm3data.build import BuildConfig, build\n"
        "options = {'width_px': 64, 'height_px': 48}\n"
        "config = BuildConfig(source='synthetic', limit=4, shard_size=2, options=options, focal_px=64)\n"
        f"build(config, {str(tmp_path / 'out')!r}, workers=2)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert 'call build() under `if __name__ == "__main__":`' in done.stderr
    assert "its own last lines above say why" in done.stderr.splitlines()[-1]
    assert "another build writes there now" not in done.stderr
