"""Shards: any tar reader opens them, every tampering is found, keys and blocks survive."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tarfile
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import directory_bytes
from vlm3data.build import BuildConfig, build
from vlm3data.keys import key_for_frame
from vlm3data.shards import (
    CorruptSampleError,
    Dataset,
    ShardTally,
    committed,
    read_samples,
    verify,
    write,
    write_index,
    write_shard,
)
from vlm3data.shards.checked import check_places, manifest_from
from vlm3data.shards.index import PLACE, index_tables
from vlm3data.shards.read import split_block
from vlm3data.shards.verify import _camera_problem
from vlm3data.storage import open_store
from vlm3data.types import Sample, UserError


@pytest.fixture
def built(tmp_path: Path, toy_root: Path) -> Path:
    build(
        BuildConfig(source="jsonl", root=str(toy_root), focal_px=150, shard_size=5),
        str(tmp_path / "out"),
        workers=1,
    )
    return tmp_path / "out"


def test_stock_webdataset_reads_the_same_samples(built):
    urls = [str(path) for path in sorted(built.glob("*.tar"))]
    theirs = list(webdataset.WebDataset(urls, shardshuffle=False))
    ours = list(read_samples(str(built)))
    assert [sample["__key__"] for sample in theirs] == [sample.key for sample in ours]
    assert [sample["jpg"] for sample in theirs] == [sample.images[0] for sample in ours]
    assert [orjson.loads(sample["json"]) for sample in theirs] == [sample.record for sample in ours]
    decoded = next(iter(webdataset.WebDataset(urls, shardshuffle=False).decode("rgb")))
    camera = decoded["json"]["views"][0]["camera"]
    assert decoded["jpg"].shape == (camera["height_px"], camera["width_px"], 3)


def test_the_tar_holds_no_clock_and_no_owner(built):
    with tarfile.open(built / "shard-000000.tar") as tar:
        assert {(info.mtime, info.uid, info.gid, info.uname, info.mode) for info in tar} == {(0, 0, 0, "", 0o644)}


def test_the_manifest_holds_the_offset_of_every_member(built):
    manifest = json.loads((built / "shard-000000.manifest.json").read_bytes())
    data = (built / "shard-000000.tar").read_bytes()
    for member in manifest["members"]:
        (_, offset, size), (name, json_offset, json_size) = member["files"]
        assert data[offset : offset + 2] == b"\xff\xd8"
        assert size
        assert name == member["key"] + ".json"
        assert orjson.loads(data[json_offset : json_offset + json_size])["key"] == member["key"]


def test_sizes_and_hashes_are_those_of_the_files(built):
    tars = [path.read_bytes() for path in sorted(built.glob("*.tar"))]
    manifests = [json.loads(path.read_bytes()) for path in sorted(built.glob("*.manifest.json"))]
    assert [(m["bytes"], m["sha256"]) for m in manifests] == [(len(t), hashlib.sha256(t).hexdigest()) for t in tars]
    assert Dataset(str(built)).about["bytes"] == sum(map(len, tars))


def counted(number: int) -> ShardTally:
    """Return a tally in which every count has `number` of something."""
    quarantined = [{"scene": "s", "key": f"{number}-{i}"} for i in range(number)]
    names = [field.name for field in fields(ShardTally) if field.name != "quarantined"]
    return ShardTally(**{name: Counter({name: number}) for name in names}, quarantined=quarantined)


def test_a_tally_adds_and_forgets_all_that_it_counts():
    tally, three = counted(2), counted(3)
    tally.add(three)
    assert tally == replace(counted(5), quarantined=counted(2).quarantined + three.quarantined)
    tally.clear()
    assert tally == ShardTally()
    assert three == counted(3)


def test_bytes_that_hold_no_sample_are_named_though_their_hash_is_right(built):
    fs, directory = open_store(str(built))
    manifests = list(committed(fs, directory).values())
    data, member = (built / "shard-000001.tar").read_bytes(), manifests[1]["members"][2]
    short = data[member["offset"] :][:700]
    member |= {"length": len(short), "xxh3": xxhash.xxh3_64_hexdigest(short)}
    write_index(fs, directory, manifests, {})
    message = rf"shard-000001\.tar: sample 7 at byte {member['offset']} is no sample of ours \(a block of 700 bytes\)"
    with pytest.raises(CorruptSampleError, match=message):
        Dataset(str(built)).stored(7)


def test_the_parquet_index_has_a_row_a_sample(built):
    rows = pq.read_table(built / "index.parquet").to_pylist()
    assert [row["key"] for row in rows] == [sample.key for sample in read_samples(str(built))]
    assert {row["focal_px"] for row in rows} == {150.0}
    assert all(row["tasks"] == ["depth"] and row["split"] == "train" for row in rows)


def test_the_index_is_what_arrow_makes_of_the_rows_and_needs_no_pandas(built):
    manifests = [orjson.loads(path.read_bytes()) for path in sorted(built.glob("*.manifest.json"))]
    table, _ = index_tables(manifests)
    rows = [
        {**member["row"], **{name: member[name] for name in ("key", "offset", "length")}, "shard": number}
        | {"xxh3": int(member["xxh3"], 16)}
        for number, manifest in enumerate(manifests)
        for member in manifest["members"]
    ]
    assert table.combine_chunks().equals(pa.Table.from_pylist(rows, schema=table.schema))
    code = (
        "import sys, orjson; from vlm3data.shards.index import index_tables\n"
        f"index_tables([orjson.loads(open({str(next(built.glob('*.manifest.json')))!r}, 'rb').read())])\n"
        "sys.exit('pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("rows", [1, 4, 7, 12])
def test_an_index_that_is_written_in_parts_has_each_row_once(built, monkeypatch, rows):
    fs, directory = open_store(str(built))
    before = pq.read_table(built / "index.parquet")
    monkeypatch.setattr("vlm3data.shards.index.ROWS", rows)
    write_index(fs, directory, committed(fs, directory).values(), {})
    assert pq.read_table(built / "index.parquet").equals(before)


def test_a_sound_dataset_verifies(built):
    findings = verify(str(built))
    assert findings.problems == []
    assert (findings.shards, findings.samples) == (3, 12)


def edit_json(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def rewrite(built: Path, change) -> None:
    """Change the list of the first shard's samples and write it again, so that all hashes fit the wrong content."""
    samples = [s for s in read_samples(str(built)) if int(s.key[-2:]) < 5]
    change(samples)
    fs, directory = open_store(str(built))
    write_shard(fs, directory, "shard-000000", samples, ShardTally(), "x")
    write_index(fs, directory, list(committed(fs, directory).values()), {})


def replace_record(built: Path, change) -> None:
    """Change the first sample's record."""

    def changed(samples: list[Sample]) -> None:
        record = orjson.loads(samples[0].record_json)
        change(record)
        samples[0] = replace(samples[0], record_json=orjson.dumps(record))

    rewrite(built, changed)


def images(*data: bytes):
    def change(samples: list[Sample]) -> None:
        samples[0] = replace(samples[0], images=data)

    return lambda built: rewrite(built, change)


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)


def truth(change):
    return lambda built: replace_record(built, lambda record: change(record["questions"][0], record))


def reindex(name: str, change):
    """Return what changes the table of one index file, which no hash covers."""

    def tamper(built: Path) -> None:
        path = built / name
        old = pq.read_table(path) if name.endswith("parquet") else pa.ipc.open_file(path.read_bytes()).read_all()
        new = change(old)
        if name.endswith("parquet"):
            pq.write_table(new, path)
        else:
            with pa.ipc.new_file(str(path), new.schema) as writer:
                writer.write_table(new)

    return tamper


def other(column: str):
    def change(table: pa.Table) -> pa.Table:
        at = table.schema.get_field_index(column)
        return table.set_column(at, table.schema.field(column), table[column].take(list(range(len(table)))[::-1]))

    return change


TAMPERINGS = {
    "keys of others in the index": (reindex("index.parquet", other("key")), "index.parquet: row 0: key is"),
    "places of others in the index": (reindex("index.arrow", other("xxh3")), "index.arrow: row 0: xxh3 is"),
    "an index of fewer samples": (reindex("index.parquet", lambda t: t.slice(0, 7)), "index.parquet has 7 rows"),
    "an index of other shards": (
        reindex("index.arrow", lambda t: t.replace_schema_metadata({"shards": '["shard-000009.tar"]'})),
        "index.arrow lists other shards",
    ),
    "a damaged index": (lambda b: (b / "index.parquet").write_bytes(b"PAR1"), "index.parquet cannot be read"),
    "a byte of an image": (lambda b: flip(b / "shard-000001.tar", 3000), "sha256 differs"),
    "a shorter tar": (lambda b: (b / "shard-000001.tar").write_bytes(b"x" * 700), "not a readable tar|sha256"),
    "a lost tar": (lambda b: (b / "shard-000001.tar").unlink(), "the manifest is there, the tar is not"),
    "a lost manifest": (lambda b: (b / "shard-000002.manifest.json").unlink(), "lists other shards"),
    "another fingerprint": (
        lambda b: edit_json(b / "dataset.json", '"fingerprint": "', '"fingerprint": "0'),
        "fingerprint",
    ),
    "a wrong answer": (truth(lambda q, _: q.update(answer="99.00 meters")), "does not say"),
    "a wrong depth": (truth(lambda q, _: q["truth"].update(depth_m=q["truth"]["depth_m"] + 0.3)), "does not say"),
    "a pixel moved": (
        truth(lambda q, _: q["truth"]["pixel_px"].__setitem__(0, q["truth"]["pixel_px"][0] ^ 1)),
        "grid_xy",
    ),
    "a pixel outside": (truth(lambda q, _: q["truth"].update(pixel_px=[5000, 1])), "outside the image"),
    "an unknown task": (truth(lambda q, _: q.update(task="smell")), "unknown task"),
    "a length without scale": (truth(lambda _, r: r.update(metric=False)), "without metric scale"),
    "another image size": (
        truth(lambda _, r: r["views"][0]["camera"].update(width_px=64)),
        "image_size_mismatch|grid_xy",
    ),
    "a shifted camera": (truth(lambda _, r: r["views"][0]["camera"].update(cx_px=1.0)), "source, scale and crop"),
    "another crop": (truth(lambda _, r: r["views"][0].update(crop_xy_px=[9, 9])), "source, scale and crop"),
    "another question": (truth(lambda q, _: q.update(question="Depth at (1, 2)?")), "does not name grid_xy"),
    "another key": (truth(lambda _, r: r.update(key="other")), "keys differ"),
    "a sample twice": (lambda b: rewrite(b, lambda samples: samples.append(samples[0])), "appears twice"),
    "no image": (images(), "0 images for 1 views"),
    "an image that is none": (images(b"\xff\xd8 and no more"), "image 0: image_unreadable"),
    "other members in the manifest": (
        lambda b: edit_json(b / "shard-000001.manifest.json", '.jpg"', '.png"'),
        "shard-000001.tar: its members are not those of the manifest",
    ),
}


@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_every_tampering_is_found(built, tampering):
    tamper, message = TAMPERINGS[tampering]
    tamper(built)
    problems = verify(str(built)).problems
    assert problems
    assert any(re.search(message, problem) for problem in problems), problems


@pytest.mark.parametrize("name", ["fx_px", "fy_px", "cx_px", "cy_px"])
@pytest.mark.parametrize("off", [-1e-4, 1e-4])
def test_a_camera_that_is_off_by_little_is_found(name, off):
    source = {"fx_px": 700.0, "fy_px": 710.0, "cx_px": 320.5, "cy_px": 241.25}
    camera = {"fx_px": 1400.0, "fy_px": 1065.0, "cx_px": 634.0, "cy_px": 354.875}  # by hand
    view = {"source_camera": source, "camera": camera, "scale": [2.0, 1.5], "crop_xy_px": [7, 7]}
    assert _camera_problem(view) is None
    camera[name] += off
    assert (_camera_problem(view) or "").startswith(f"{name} is")


def test_a_missing_or_half_built_dataset_says_what_to_do(tmp_path, built):
    with pytest.raises(UserError, match="there is no such directory"):
        Dataset(str(tmp_path / "none"))
    (built / "dataset.json").unlink()
    with pytest.raises(UserError, match=r"half built .* run its `vlm3data build` again"):
        Dataset(str(built))


def test_any_fsspec_url_will_do(built):
    import fsspec

    memory = fsspec.filesystem("memory")
    for name, data in directory_bytes(built).items():
        memory.pipe_file(f"/bucket/{name}", data)
    there, here = (list(read_samples(url)) for url in ("memory://bucket", str(built)))
    assert [(s.key, s.images, s.record_json) for s in there] == [(s.key, s.images, s.record_json) for s in here]
    assert verify("memory://bucket").problems == []


keys = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=200)


@given(st.lists(keys, min_size=2, max_size=2, unique=True))
@settings(max_examples=200)
def test_keys_are_unique_short_and_safe_for_every_reader(names):
    first, second = (key_for_frame(name) for name in names)
    assert first != second or names[0] == names[1]
    for key in (first, second):
        assert len(key) <= 80
        assert not set(key) - set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")


@given(st.lists(st.binary(max_size=2000), min_size=1, max_size=3), st.binary(max_size=2000))
@settings(max_examples=50, deadline=None)
def test_blocks_give_back_what_was_written(images, record):
    import fsspec

    from vlm3data.shards.write import _write_members

    class Plain(Sample):
        record = {
            "source": "s", "scene": "s", "split": "x", "metric": True, "questions": [],
            "views": [{"camera": {"width_px": 1, "height_px": 1, "fx_px": 1.0}, "source_camera": {"fx_px": 1.0}}],
        }  # fmt: skip

    fs = fsspec.filesystem("memory")
    with fs.open("/block", "wb") as file:
        (member,) = _write_members(file.write, [Plain(key="k", images=tuple(images), record_json=record)])
    block = fs.cat_file("/block")[member["offset"] : member["offset"] + member["length"]]
    assert split_block(block) == ("k", tuple(images), record)


@pytest.mark.parametrize("name", ["a.jpg", "ä.json", "k" * 95 + ".json", "d/" * 40 + "x" * 40, ""])
@pytest.mark.parametrize("size", [0, 1, 511, 123456789, 8**11 - 1])
def test_headers_are_those_of_tarfile(name, size):
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    assert write._header(name, size) == info.tobuf(tarfile.USTAR_FORMAT)


def test_a_member_that_no_header_can_name_is_refused():
    with pytest.raises(ValueError, match="overflow"):
        write._header("a.jpg", 8**11)
    with pytest.raises(ValueError, match="name is too long"):
        write._header("k" * 101, 1)


def places(many: int = 4, **columns: list) -> pa.Table:
    values = {name: columns.get(name, list(range(many))) for name in PLACE.names}
    return pa.table(values, PLACE).replace_schema_metadata({"shards": orjson.dumps(["a.tar", "b.tar"])})


OTHER_PLACES = {
    "an unknown place": places(offset=[0, None, 2, 3]),
    "two batches": pa.concat_tables([places(2), places(2)]),
    "a sample less": places(3),
    "a column less": places().drop_columns(["xxh3"]),
    "columns in another order": places().select(PLACE.names[::-1]),
    "other shards": places().replace_schema_metadata({"shards": orjson.dumps(["b.tar", "a.tar"])}),
    "no shards": places().replace_schema_metadata(None),
}


@pytest.mark.parametrize("what", OTHER_PLACES)
def test_an_index_of_other_samples_is_not_believed(what):
    about = {"samples": 4, "shards": {"a.tar": "", "b.tar": ""}}
    check_places(places(), PLACE, about)
    with pytest.raises(ValueError, match=r"unknown|samples|other shards"):
        check_places(OTHER_PLACES[what], PLACE, about)


def test_a_manifest_that_is_damaged_says_what_to_do(built):
    data = next(built.glob("*.manifest.json")).read_bytes()
    about = orjson.loads(data)
    assert manifest_from(data, "x") == about
    for damaged in (b"", data[:-5], data.replace(b'"sha256"', b'"sha257"'), orjson.dumps(about | {"samples": 6})):
        with pytest.raises(UserError, match=r"\Ax: is damaged \(.*\); delete it, and its shard is built again\Z"):
            manifest_from(damaged, "x")
