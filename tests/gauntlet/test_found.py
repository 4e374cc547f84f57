"""What the gauntlet found, one small case each: none of it may come back."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import orjson
import pyarrow as pa
import pytest
from PIL import Image

from tests import tiny_shards
from tests.gauntlet import configs, hostile_tars
from tests.gauntlet.commands import cli
from tests.gauntlet.formats import _plans
from vlm3data import growth
from vlm3data.config import read_yaml
from vlm3data.exif import read_exif
from vlm3data.images import decode_rgb
from vlm3data.shards import CorruptSampleError, Dataset
from vlm3data.storage import path_below
from vlm3data.terminal import shown
from vlm3data.types import MAX_IMAGE_PX, Drop, UserError
from vlm3train.predictions import PredictionFile, read_predictions


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    samples = [tiny_shards.sample(number, [tiny_shards.depth_question((40, 30), 2.0)]) for number in range(4)]
    tiny_shards.write_dataset(tmp_path / "s", [samples[:2], samples[2:]])
    return tmp_path / "s"


@pytest.mark.parametrize("name", configs.HOSTILE)
def test_hostile_yaml_is_read_or_refused_at_once(name, tmp_path):
    text = configs.HOSTILE[name]
    path = tmp_path / "file.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    began, told = time.process_time(), ""
    try:
        read_yaml(path)
    except UserError as error:
        told = str(error)
    assert time.process_time() - began < 20
    assert not told or told.startswith(str(path))
    assert "\n" not in told
    assert len(told) < 1000


def test_a_file_without_end_is_no_yaml():
    with pytest.raises(UserError, match="longer than"):
        read_yaml("/dev/zero")


@pytest.mark.parametrize("form", ["png", "jpeg"])
def test_a_bomb_is_not_decoded(form):
    bomb = hostile_tars._bomb(form)
    with pytest.raises(Drop, match="image_too_large"):
        decode_rgb(bomb)
    with pytest.raises(Drop, match="image_too_large"):
        decode_rgb(bomb, (hostile_tars.BOMB_PX, hostile_tars.BOMB_PX))
    sample = tiny_shards.sample(0, [])
    if form == "jpeg":
        with pytest.raises(ValueError, match="pixels"):
            type(sample)(key="x", images=[bomb], record_json=b"{}").image_arrays()
    else:
        with pytest.raises(Drop, match="image_too_large"):
            read_exif(bomb)


def test_the_largest_camera_is_not_a_bomb():
    assert MAX_IMAGE_PX > 100e6
    file = io.BytesIO()
    Image.new("L", (4000, 3000)).save(file, "PNG")
    assert decode_rgb(file.getvalue()).shape == (3000, 4000, 3)


def _index(shards: Path, change) -> None:
    with pa.memory_map(str(shards / "index.arrow")) as source:
        table = change(pa.ipc.open_file(source).read_all())
    (shards / "index.arrow").unlink()
    with pa.OSFile(str(shards / "index.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def _column(name: str, value: int):
    def change(table: pa.Table) -> pa.Table:
        values = table[name].to_numpy().copy()
        values[1] = value
        return table.set_column(table.schema.get_field_index(name), table.schema.field(name), pa.array(values))

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.slice(0, 3),
        lambda table: table.select(["shard", "offset", "length"]),
        lambda table: table.replace_schema_metadata({"shards": '["../other.tar"]'}),
        lambda table: table.replace_schema_metadata({}),
        _column("shard", 2**32 - 1),
    ],
)
def test_an_index_that_is_not_this_datasets_is_refused_by_name(shards, change):
    _index(shards, change)
    with pytest.raises(UserError, match=r"index\.arrow: is damaged"):
        _ = Dataset(str(shards)).shard_sizes


@pytest.mark.parametrize("size", [0, 3, 100, 700])
def test_an_index_that_is_cut_off_is_refused_by_name(shards, size):
    (shards / "index.arrow").write_bytes((shards / "index.arrow").read_bytes()[:size])
    with pytest.raises(UserError, match=r"index\.arrow: is damaged"):
        _ = Dataset(str(shards))[0]
    assert cli("verify", shards) == "refused"
    assert cli("stats", shards) == "refused"


@pytest.mark.parametrize("changes", [{"offset": 2**61}, {"length": 2**31}, {"shard": 9}])
def test_a_place_that_is_none_is_a_damaged_sample(shards, changes):
    for name, value in changes.items():
        _index(shards, _column(name, value))
    with pytest.raises(CorruptSampleError, match="sample 1"):
        Dataset(str(shards)).stored(1)


@pytest.mark.parametrize(
    "changes",
    [{"samples": 1.5}, {"samples": None}, {"shards": {"../x.tar": "a"}}, {"shards": ["a"]}, {"fingerprint": "a/../b"}],
)
def test_a_dataset_json_of_other_types_is_refused_by_name(shards, changes):
    about = orjson.loads((shards / "dataset.json").read_bytes())
    (shards / "dataset.json").write_bytes(orjson.dumps(about | changes))
    with pytest.raises(UserError, match=r"dataset\.json is damaged"):
        Dataset(str(shards))


@pytest.mark.parametrize("craft", hostile_tars.SHARDS)
def test_a_manifest_that_points_elsewhere_is_refused(craft, tmp_path):
    hostile_tars.write(craft, tmp_path / "s")
    if craft not in ("members of any length", "a key with escapes", "a reason with escapes"):
        assert cli("verify", tmp_path / "s") == "refused"
    cli("stats", tmp_path / "s")


@pytest.mark.parametrize(
    "craft", ["a negative size", "a size of 8 GB", "a size in base 256", "zeros", "nothing", "a record that is a list"]
)
def test_a_hostile_sample_with_the_right_hash_is_none_of_ours(craft, tmp_path):
    hostile_tars.write(craft, tmp_path / "s")
    with pytest.raises(CorruptSampleError, match="is no sample of ours"):
        _ = Dataset(str(tmp_path / "s"))[0]


@pytest.mark.parametrize("craft", ["an absolute path", "a path upwards", "a null byte in a name"])
def test_an_export_stays_in_its_directory(craft, tmp_path):
    home = tmp_path / "a" / "b" / "c"
    home.mkdir(parents=True)
    hostile_tars.write(craft, home / "s")
    cli("export", home / "s", "--format", "llava", "--out", home / "out")
    outside = {path for path in tmp_path.rglob("*") if path.is_file() and home not in path.parents}
    assert not outside
    assert not hostile_tars.elsewhere()


def test_a_name_with_a_null_byte_leaves_the_root():
    with pytest.raises(Drop, match="path_leaves_root"):
        path_below("/data", "a\0b")


def test_no_name_controls_the_terminal(tmp_path):
    hostile_tars.write("a reason with escapes", tmp_path / "s")
    assert cli("stats", tmp_path / "s") in ("read", "refused")  # `cli` fails where an escape is printed
    assert cli("verify", tmp_path / "s\x1b[2J") == "refused"
    assert shown("a\x1b[2J\u202eb\n") == "a\\x1b[2J\\u202eb\n"
    assert shown("Straße 世界") == "Straße 世界"


@pytest.mark.parametrize("at", [-20, -200])
def test_a_damaged_plan_is_refused_by_name(tmp_path, at):
    data = bytearray(_plans()[0])
    end = at + 8 if at + 8 < 0 or at >= 0 else None
    data[at:end] = b"\xff" * len(data[at:end])
    with pytest.raises(UserError, match=r"plan\.parquet: is damaged"):
        _ = growth.built_by("out", bytes(data)).generations


def test_predictions_that_never_began_can_be_gone_on_with(tmp_path):
    """The schema was only written with the first answer: a file without one was refused for ever."""
    file = PredictionFile(tmp_path / "p.arrow", {"model": "m"})
    assert read_predictions(tmp_path / "p.arrow") == ({"model": "m"}, [])
    del file  # never closed, as after a kill
    with PredictionFile(tmp_path / "p.arrow", {"model": "m"}) as again:
        assert len(again) == 0


def test_an_export_that_goes_on_leaves_nothing_that_was_begun(shards, tmp_path):
    out = tmp_path / "out"
    assert cli("export", shards, "--format", "llava", "--out", out) == "read"
    whole = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    about = orjson.loads((out / "export.json").read_bytes())
    (out / "export.json").unlink()
    (out / "export.unfinished.json").write_bytes(orjson.dumps(about["request"]))
    (out / "images" / "x.jpg.0123.tmp").write_bytes(b"begun")
    assert cli("export", shards, "--format", "llava", "--out", out) == "read"
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == whole


def test_a_layout_leaves_no_half_file_where_there_is_no_room(tmp_path):
    code = (
        "import resource, sys\nresource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))\n"
        "from vlm3data.cli import app\nfrom vlm3data.command import run_app\nsys.exit(run_app(app, sys.argv[1:]))"
    )
    told = ["synth", "--layout", "wai", "--out", str(tmp_path / "out"), "--scenes", "1", "--frames", "2"]
    told += ["--width-px", "64", "--height-px", "64"]
    done = subprocess.run([sys.executable, "-c", code, *told], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_an_interrupted_command_says_that_it_goes_on(tmp_path):
    code = (
        "import os, signal, sys\nfrom cyclopts import App\nfrom vlm3data.command import run_app\n"
        "app = App(name='x')\n@app.default\ndef run(): os.kill(os.getpid(), signal.SIGINT)\nsys.exit(run_app(app, []))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 128 + signal.SIGINT
    assert "goes on where it was" in done.stderr
    assert "Traceback" not in done.stderr
