"""doctor: the machine. What is well is ok; each trap, made on purpose, is found and says what to do."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from vlm3data.cli import app
from vlm3data.command import run_app
from vlm3data.doctor import machine
from vlm3data.doctor.machine import check_machine, cpu_limit, memory_limit


@pytest.fixture
def no_torch(monkeypatch):
    """Leave out what takes seconds, importing torch in a process of its own."""
    monkeypatch.setattr(machine, "_training", lambda: iter(()))


def named(found, what: str):
    return next(check for check in found if check.what == what)


def test_every_line_says_what_was_found_and_what_to_do_where_it_is_not_well(tmp_path, no_torch):
    found = list(check_machine(str(tmp_path)))
    assert {"Python", "JPEG", "cores", "threads", "memory", "shared memory", "open files", "Ray"} <= {
        c.what for c in found
    }
    assert all(check.found for check in found)
    assert all(check.do for check in found if check.status != "ok")
    assert "megapixels/s" in named(found, "JPEG").found


def test_a_slow_codec_is_found(monkeypatch):
    monkeypatch.setattr(machine, "SLOW_DECODE", 1e9)
    assert machine._codec().status == "warn"


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4.0),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_the_containers_cores(files, limit, tmp_path, monkeypatch):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cpu_limit(tmp_path) == limit
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(8)))
    cores = next(machine._cores())
    assert cores.status == ("warn" if limit else "ok")
    if limit:
        assert cores.do.startswith(f"--workers {int(limit)}:")


def test_the_containers_memory(tmp_path, monkeypatch):
    assert memory_limit(tmp_path) is None
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_limit(tmp_path) is None
    (tmp_path / "memory.max").write_text("800000000\n")
    assert memory_limit(tmp_path) == 800_000_000
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    assert machine._memory().status == "fail"


@pytest.mark.parametrize(
    ("threads", "cores", "status"), [("", 2, "warn"), ("1", 2, "ok"), ("16", 2, "warn"), ("", 64, "ok")]
)
def test_threads_of_small_machines(threads, cores, status, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(cores)))
    assert [check for check in machine._cores() if check.what == "threads"][0].status == status  # noqa: RUF015


def test_little_shared_memory_and_disk(tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 64 << 20, "total": 64 << 20})
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: usage)
    assert "--shm-size" in machine._shared_memory().do
    (disk,) = machine._disk(str(tmp_path / "not" / "yet"))
    assert disk.status == "fail"


def test_a_torchvision_of_another_build_fails_with_what_to_do(tmp_path, monkeypatch):
    """As a torchvision linked to CUDA does beside a torch for CPU: its operators are not there."""
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    pair = machine._pair()
    assert pair.status == "fail"
    assert "operator torchvision::nms does not exist" in pair.found
    assert "pip uninstall torchvision" in pair.do


@pytest.mark.parametrize(
    ("said", "status", "part"),
    [
        ('{"cuda": null, "gpus": [], "bf16": false}', "warn", "built for CPU"),
        ('{"cuda": "13.0", "gpus": [], "bf16": false}', "warn", "sees none"),
        ('{"cuda": "13.0", "gpus": [["NVIDIA H200", 150000000000]], "bf16": true}', "ok", "NVIDIA H200 (150 GB)"),
        ('{"cuda": "13.0", "gpus": [["Tesla T4", 16000000000]], "bf16": false}', "warn", "Tesla T4"),
    ],
)
def test_what_is_said_of_gpus(said, status, part, monkeypatch):
    monkeypatch.setattr(machine, "_in_a_process", lambda _: (0, said))
    check = machine._torch()
    assert (check.status, part in check.found) == (status, True)


def test_a_torch_that_does_not_import_fails(monkeypatch):
    monkeypatch.setattr(machine, "_in_a_process", lambda _: (1, "ImportError: libcudart.so.13"))
    assert machine._torch().status == "fail"


def test_versions_outside_the_tested_range(monkeypatch):
    monkeypatch.setattr(machine, "requires", lambda _: ["ray>=2.40; extra == 'ray'", 'trl<2,>=1.0; extra == "train"'])
    assert machine._in_range("trl", "1.16.0", "train") is None
    old = machine._in_range("trl", "0.9", "train")
    assert old is not None
    assert old.do == "pip install 'trl<2,>=1.0'"


def test_the_command_fails_where_a_check_does(tmp_path, monkeypatch, capsys, no_torch):
    assert run_app(app, ["doctor", "--out", str(tmp_path), "--json"]) == 0
    assert {check["status"] for check in json.loads(capsys.readouterr().out)} <= {"ok", "warn"}
    monkeypatch.setattr(machine, "_ray", lambda: machine.Check("fail", "Ray", "broken", "mend it"))
    assert run_app(app, ["doctor", "--out", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "fail  Ray: broken" in printed
    assert "-> mend it" in printed
    assert "1 fail" in printed


def test_a_stuck_import_ends(monkeypatch):
    monkeypatch.setattr(machine, "IMPORTED_S", 1)
    assert machine._in_a_process("import time; time.sleep(30)") == (1, "took over 1 s")


def test_nothing_heavy_is_imported_by_the_doctor_itself():
    code = "import sys, vlm3data.doctor; assert not {'torch', 'ray'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
