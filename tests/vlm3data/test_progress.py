"""Progress: a bar on a terminal; in a log few lines, with what is done, how fast, and how long the rest takes."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path

import pytest

from vlm3data import progress

SLOW = """
import sys, time
from types import SimpleNamespace
from vlm3data import progress
progress.LOG_EVERY_S = 0.2
now_s = [0.0]                             # a clock that no busy machine slows down
progress.time = SimpleNamespace(monotonic=lambda: now_s[0])
with progress.progress_bar("building") as show:
    show(1000, 2200)                      # what an earlier run had done
    for done in range(1000, 2201):
        time.sleep(0.001)
        now_s[0] += 0.001
        show(done, 2200)
print("result")
"""


def test_a_log_gets_few_lines_and_no_control_characters():
    done = subprocess.run([sys.executable, "-c", SLOW], capture_output=True, text=True, check=True)
    lines = done.stderr.splitlines()
    assert 2 <= len(lines) <= 15
    for line in lines:
        found = re.fullmatch(r"building: ([\d,]+)/2,200 \(\d+%\)  ([\d,]+)/s, \d+ s left", line)
        assert found, line
        assert 50 < int(found[2].replace(",", "")) < 1001  # what was done before is not this run's speed
    assert done.stdout == "result\n"


@pytest.mark.parametrize("no_color", [False, True])
def test_a_terminal_gets_a_bar_that_goes_away(no_color):
    mine, its = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80"} | ({"NO_COLOR": "1"} if no_color else {})
    if not no_color:
        env.pop("NO_COLOR", None)
    process = subprocess.Popen([sys.executable, "-c", SLOW], stdout=subprocess.PIPE, stderr=its, env=env)
    os.close(its)
    seen = b""
    while select.select([mine], [], [], 120)[0]:
        try:
            some = os.read(mine, 65536)
        except OSError:
            break
        if not some:
            break
        seen += some
    assert process.communicate()[0] == b"result\n"
    text = seen.decode()
    assert re.search(r"building .*\d+/2200 .*\d+/s, \d+ s left", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text))
    assert bool(re.search(r"\x1b\[[0-9;]*3[0-9]", text)) is not no_color
    assert "building: " not in text
    plain = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in re.split(r"[\r\n]+", text)]
    assert max(map(len, plain)) <= 80


def test_what_is_soon_done_leaves_no_line(capsys):
    with progress.progress_bar("writing") as show:
        for done in range(1000):
            show(done, 1000)
    assert capsys.readouterr().err == ""


def test_times_and_rates_are_said_as_people_do():
    now = 0.0
    speed = progress._Speed(lambda: now)
    assert speed.text(0, 100) == ""
    now = 100.0
    assert speed.text(1, 100) == "0.6/min, 2 h 45 min left"
    assert speed.text(50, 100) == "0.5/s, 1 min 40 s left"
    assert speed.text(100, 100) == "1.0/s, 0 s left"


def test_no_colour_where_it_is_not_wanted(tmp_path: Path):
    command = [sys.executable, "-m", "vlm3data.cli", "sources", "depth"]
    env = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": "80", "NO_COLOR": ""}
    coloured = subprocess.run(command, capture_output=True, text=True, env=env, check=True).stdout
    plain = subprocess.run(command, capture_output=True, text=True, env=env | {"NO_COLOR": "1"}, check=True).stdout
    assert re.search(r"\x1b\[[0-9;]*3[0-9]", plain) is None
    assert "\x1b[1m" in coloured
