"""Shards as others read them: webdataset, Python's tarfile, and the index by pyarrow and by polars."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import orjson
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset

from tests.differential.record import agree, cases
from tests.tiny_shards import CAMERA, depth_question, sample, write_dataset
from vlm3data.shards import Dataset, read_samples
from vlm3data.types import Sample

SHARDS, IN_EACH = 4, cases(500)


def sample_of(rng: np.random.Generator, number: int) -> Sample:
    """Return a sample of one to three images (any bytes will do) and a record that holds odd text and numbers."""
    images = tuple(rng.bytes(int(rng.choice([0, 1, 511, 512, 513, 3000]))) for _ in range(rng.integers(1, 4)))
    text = "".join(chr(code) for code in rng.choice([*range(32, 127), 0xE9, 0x4E2D, 0x1F600, 10, 34, 92], 40))
    size_px = rng.integers(32, 2000, 2).tolist()
    camera = CAMERA | {"width_px": size_px[0], "height_px": size_px[1], "fx_px": float(rng.uniform(100, 2000))}
    key = f"{number:06d}-" + "".join(rng.choice(list("abcXYZ_-019"), rng.integers(1, 70)))
    question = depth_question((1, 2), 3.0, question=text, answer=str(rng.normal()))
    record = sample(0, [question], len(images), key=key, scene=text[:8]).record
    views = [view | {"camera": camera} for view in record["views"]]
    return Sample.of(record | {"views": views}, images)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[Path, list[Sample]]:
    path, rng = tmp_path_factory.mktemp("shards"), np.random.default_rng(0)
    samples = [sample_of(rng, number) for number in range(SHARDS * IN_EACH)]
    write_dataset(path, [samples[first : first + IN_EACH] for first in range(0, len(samples), IN_EACH)])
    return path, samples


def test_webdataset_and_tarfile_read_what_was_written_and_what_we_read(written):
    path, samples = written
    tars = sorted(path.glob("*.tar"))
    theirs = list(webdataset.WebDataset([str(tar) for tar in tars], shardshuffle=False))
    ours = list(read_samples(str(path)))
    members = []
    for tar_path in tars:
        with tarfile.open(tar_path) as tar:
            members += [(member.name, tar.extractfile(member).read()) for member in tar]
    by_name = dict(members)
    assert len(by_name) == len(members)
    wrong = 0
    for wanted, read, other in zip(samples, ours, theirs, strict=True):
        images = [other[name] for name in sorted(other) if name.endswith("jpg")]
        stored = [by_name[name] for name in sorted(by_name) if name.startswith(f"{wanted.key}.") and "jpg" in name]
        wrong += not (
            (wanted.key, list(wanted.images)) == (read.key, list(read.images)) == (other["__key__"], images)
            and stored == images
            and wanted.record_json == read.record_json == other["json"] == by_name[f"{wanted.key}.json"]
        )
    agree("samples read", "webdataset", len(samples), wrong, 0, "wrong")
    agree("samples read", "Python's tarfile", len(samples), wrong, 0, "wrong")


def test_the_index_says_the_same_to_pyarrow_and_polars_and_finds_every_sample(written):
    path, samples = written
    with pa.memory_map(str(path / "index.arrow")) as file:
        places = pa.ipc.open_file(file).read_all().to_pydict()
    arrow, frame = pq.read_table(path / "index.parquet").to_pylist(), pl.read_parquet(path / "index.parquet")
    dataset, tars = Dataset(str(path)), [tar.read_bytes() for tar in sorted(path.glob("*.tar"))]
    wrong = 0
    for number in np.random.default_rng(1).permutation(len(samples)).tolist():
        found, where, row = dataset[number], dataset.where(number), arrow[number]
        camera = orjson.loads(samples[number].record_json)["views"][0]["camera"]
        block = tars[where.shard][where.offset : where.offset + where.length]
        wrong += not (
            (found.key, found.images) == (samples[number].key, samples[number].images)
            and row == frame.row(number, named=True)
            and (row["key"], row["width_px"], row["height_px"]) == (found.key, camera["width_px"], camera["height_px"])
            and all(places[name][number] == row[name] == getattr(where, name) for name in ("shard", "offset", "length"))
            and block.startswith(f"{found.key}.".encode())
        )
    agree("rows of the index", "polars", len(samples), wrong, 0, "wrong")
    agree("rows of the index", "pyarrow", len(samples), wrong, 0, "wrong")
