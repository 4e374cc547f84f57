"""The gauntlet in short: a few cases of every target and a few kills; and that it can fail."""

from __future__ import annotations

import time
import warnings

import numpy as np
import pytest

from tests.gauntlet import __main__ as gauntlet
from tests.gauntlet import configs, kills, sandbox, scenarios, soak, state, targets
from tests.gauntlet.mutations import mutated

CASES = {"reader": 60, "source": 10, "config": 12, "shards": 6}
FIRST = 1000
"""Behind the hostile files, which `test_found` tries one by one."""
KILLED = ("build", "predictions of eval")


@pytest.mark.parametrize("name", [name for name in targets.TARGETS if "build of" not in name])
def test_damaged_files_are_read_dropped_or_refused(name, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    run, found = targets.opened(name, 1, tmp_path / "work"), sandbox.Outcomes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in range(FIRST, FIRST + CASES[name.partition(":")[0]]):
            sandbox.judge(found, case, lambda case=case: run(case))
    assert not found.failures


def test_cases_run_in_a_process_with_limits():
    found = sandbox.in_processes("reader: npz", 1, 0, 30)
    assert found.cases == 30
    assert not found.failures


@pytest.mark.parametrize("name", KILLED)
def test_what_is_killed_loses_nothing(name):
    found = gauntlet.disturb("kills", name, 1, 0, 4, time.time() + 60)
    assert not found.failures
    assert found.cases


@pytest.mark.parametrize("name", ["no room for a file: build", "two at once: build"])
def test_what_is_disturbed_loses_nothing(name):
    found = gauntlet.disturb("faults", name, 1, 0, 2, time.time() + 60)
    assert not found.failures
    assert found.cases


def test_damage_is_damage_and_comes_again():
    data = bytes(range(256)) * 4
    changed = [mutated(np.random.default_rng(case), data, [b"other"]) for case in range(200)]
    assert changed == [mutated(np.random.default_rng(case), data, [b"other"]) for case in range(200)]
    assert sum(one == data for one in changed) < 10
    assert len(set(changed)) > 180


def test_every_way_to_fail_is_seen():
    def fails(case: int) -> str:
        match case:
            case 1:
                raise ZeroDivisionError("x")
            case 2:
                raise sandbox.Wrong("y")
            case 3:
                raise MemoryError
            case 4:
                raise sandbox.UserError("")
        return "read"

    outcomes = sandbox.Outcomes()
    for number in range(6):
        sandbox.judge(outcomes, number, lambda number=number: fails(number))
    assert outcomes.kinds == {"read": 2, "exception": 2, "wrong": 1, "memory": 1}
    assert state.failures_of(outcomes.as_dict()) == 4


def test_a_crash_and_a_hang_are_seen_and_the_other_cases_go_on(monkeypatch, tmp_path):
    monkeypatch.setattr(sandbox, "HANG_S", 5.0)  # a busy machine may well halt a process for one
    code = "import sys; from tests.gauntlet import targets, worker; targets.opened = lambda *_: run; worker.main()"
    script = tmp_path / "script.py"
    script.write_text(
        "import os, signal, sys, time\n"
        "def run(case):\n"
        "    if case == 2: os.kill(os.getpid(), signal.SIGSEGV)\n"
        "    if case == 4: time.sleep(60)\n"
        "    return 'read'\n" + code.replace("; ", "\n") + "\n"
    )
    popen = sandbox.subprocess.Popen
    monkeypatch.setattr(
        sandbox.subprocess, "Popen", lambda command, **more: popen([command[0], str(script), *command[3:]], **more)
    )
    found = sandbox.in_processes("x", 0, 0, 8)
    assert found.cases == 8
    assert found.kinds["crash"] == found.kinds["hang"] == 1
    assert set(found.failures) == {"crash: SIGSEGV", "hang"}


def test_a_half_file_under_its_final_name_is_seen(tmp_path):
    scenario = scenarios.SmallShards(tmp_path)
    scenario.whole = {"a.tar": b"whole"}
    scenario.out.mkdir()
    (scenario.out / "b.tmp").write_bytes(b"wh")
    scenario.check_interrupted()
    (scenario.out / "a.tar").write_bytes(b"wh")
    with pytest.raises(sandbox.Wrong, match=r"a\.tar"):
        scenario.check_interrupted()
    with pytest.raises(sandbox.Wrong, match=r"a\.tar"):
        scenario.check_finished()
    (scenario.out / "c.tar").write_bytes(b"whole")
    with pytest.raises(sandbox.Wrong, match="other files"):
        scenario.check_finished()


def test_every_planned_fault_is_of_a_known_command():
    assert {name for names in kills.PLANNED.values() for name in names} <= set(scenarios.SCENARIOS)
    assert len(configs.HOSTILE) > 40


def test_a_leak_is_told_from_a_pool_that_breathes():
    rng = np.random.default_rng(0)
    pool, more = 2 * rng.integers(1, 6, 300), np.minimum(np.arange(300), 40)  # the first rounds fill caches
    sound = [soak.Held(800.0 + b, 30 + a, 9, 1) for a, b in zip(pool, more, strict=True)]
    assert soak.grown(sound) == []
    leaking = [one._replace(files=one.files + n // 20, threads=one.threads + n // 30) for n, one in enumerate(sound)]
    assert soak.grown(leaking) == ["files", "threads"]
    assert soak.grown([one._replace(rss_mb=one.rss_mb + n / 8) for n, one in enumerate(sound)]) == ["rss_mb"]
    few = [soak.Held(806.0, files, threads, 1) for files, threads in ((29, 12), (17, 6), (23, 9), (29, 12))]
    assert soak.grown(few) == soak.grown(2 * few) == soak.grown(leaking[: 2 * soak.ENOUGH - 2]) == []
