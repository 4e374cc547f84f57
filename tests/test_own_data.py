"""docs/own_data.md: every command on the page does what it says, in order, for somebody who copies them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import types
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import photo
from tests.test_contracts import write_layout
from vlm3data.build import BuildConfig, samples
from vlm3data.cli import app
from vlm3data.command import run_app

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "own_data.md").read_text()


def commands(section: str) -> list[str]:
    """Return the lines of a section's bash blocks."""
    text = PAGE if not section else PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return [line for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL) for line in block.splitlines() if line]


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Run a line in a directory that has `docs`, with our commands on the path."""
    (tmp_path / "docs").symlink_to(DOCS)
    (tmp_path / "bin").mkdir()
    for name in ("vlm3data", "vlm3train"):
        script = tmp_path / "bin" / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {name}.cli "$@"\n')
        script.chmod(0o755)
    env = os.environ | {"PYTHONPATH": str(DOCS.parent), "OMP_NUM_THREADS": "1"}
    env["PATH"] = f"{tmp_path / 'bin'}:{env['PATH']}"
    monkeypatch.chdir(tmp_path)

    def run(line: str) -> str:
        done = subprocess.run(["bash", "-ec", line], capture_output=True, text=True, env=env)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout

    return run


def test_the_rgbd_recording_from_nothing_to_a_step_of_training(shell, tmp_path):
    said = {line: shell(line) for line in commands("An RGB-D recording")}
    assert any("as the source says" in text for text in said.values())
    assert any("image and labels can be read" in text for text in said.values())
    assert (tmp_path / "out" / "run").is_dir()
    assert "<html" in (tmp_path / "out" / "mine.html").read_text()[:2000].lower()


def test_the_photos(shell, tmp_path):
    (tmp_path / "data" / "photos").mkdir(parents=True)
    (tmp_path / "data" / "photos" / "kitchen.jpg").write_bytes(photo(0, 800, 640))
    (line,) = re.findall(r"```json[^\n]*\n(.*?)\n```", PAGE)
    (tmp_path / "data" / "photos" / "mine.jsonl").write_text(line + "\n")
    for line in commands("Photos with measured distances"):
        shell(line)


def test_the_doctor_and_the_new_source(shell, tmp_path):
    for line in commands("Anything else"):
        assert "pip install -e" in shell(line)
    assert commands("")[0] == "vlm3data doctor"


def test_every_block_is_run_by_a_test():
    tested = [*commands("An RGB-D recording"), *commands("Photos with measured distances"), *commands("Anything else")]
    assert {*commands("")} == {"vlm3data doctor", *tested}


def test_the_script_for_record3d(tmp_path, monkeypatch):
    """An archive as Record3D writes it, but for the compression, which is made zlib's here."""
    room = write_layout("rgbd", tmp_path / "room", form="record3d", scenes=1, frames=2) / "data"
    (scene,) = room.iterdir()
    about = json.loads((scene / "metadata.json").read_bytes())
    with zipfile.ZipFile(tmp_path / "scan.r3d", "w") as archive:
        for path in (scene / "depth").iterdir():
            depth_m = np.load(path)
            archive.writestr(f"rgbd/{path.stem}.depth", zlib.compress(depth_m.tobytes()))
            levels = np.load(scene / "confidence" / path.name)
            archive.writestr(f"rgbd/{path.stem}.conf", zlib.compress(levels.tobytes()))
            archive.writestr(f"rgbd/{path.stem}.jpg", (scene / "rgb" / f"{path.stem}.jpg").read_bytes())
        archive.writestr("metadata", json.dumps(about | {"dh": depth_m.shape[0], "dw": depth_m.shape[1]}))
    (script,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    monkeypatch.setitem(sys.modules, "liblzfse", types.SimpleNamespace(decompress=zlib.decompress))
    monkeypatch.setattr(sys, "argv", ["unpack_r3d.py", str(tmp_path / "scan.r3d"), str(tmp_path / "out" / scene.name)])
    exec(compile(script, "unpack_r3d.py", "exec"), {})
    options = {"patterns": str(DOCS / "rgbd" / "record3d.yaml")}
    made, expected = (
        [sample.record for sample in samples(BuildConfig(source="rgbd", root=str(root), options=options))]
        for root in (tmp_path / "out", room)
    )
    assert made == expected


def test_what_record3d_leaves_unconverted_is_told(tmp_path, capsys):
    (tmp_path / "scan" / "depth").mkdir(parents=True)
    (tmp_path / "scan" / "depth" / "0.depth").touch()
    patterns = str(DOCS / "rgbd" / "record3d.yaml")
    assert run_app(app, ["doctor", "rgbd", "--root", str(tmp_path), "--patterns", patterns]) == 1
    assert "convert it as docs/own_data.md says" in " ".join(capsys.readouterr().out.split())
