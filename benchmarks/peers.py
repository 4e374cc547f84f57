"""One reader of the benchmark `mixture`, alone in its process: read the tars of two datasets, 70:30, shuffled.

Each is used as its own documentation advises for a weighted mixture; all hand over JPEG and JSON bytes (datasets has
parsed the JSON by then), and decode with simplejpeg where decoding is asked for. MosaicML Streaming and litdata read no
tars: they read the same samples in their own format, converted before the clock starts.

Run: python benchmarks/peers.py READER bytes|decoded SAMPLES SPEC TAR...
"""

from __future__ import annotations

import json
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any

WEIGHTS = [0.7, 0.3]
BUFFER = 100


def tarfile_sequential(spec: Any, by_dataset: list[list[str]]) -> Iterator[tuple[bytes, Any]]:
    """The anchor: neither mixed nor shuffled."""
    for path in chain.from_iterable(chain.from_iterable(repeat(by_dataset))):
        with tarfile.open(path) as tar:
            parts: list[bytes] = []
            for info in tar:
                file = tar.extractfile(info)
                assert file is not None
                parts.append(file.read())
                if len(parts) == 2:
                    yield parts[0], parts[1]
                    parts = []


def vlm3(spec: Any, by_dataset: list[list[str]]) -> Iterator[tuple[bytes, Any]]:
    """Ours."""
    from vlm3data.mixture import Mixture
    from vlm3data.stream import open_stream

    for _, sample in open_stream(Mixture.check(spec, "benchmark")):
        yield sample.images[0], sample.record_json


def webdataset(spec: Any, by_dataset: list[list[str]]) -> Iterator[tuple[bytes, Any]]:
    """RandomMix of endlessly resampled shards, with shuffle buffers."""
    import webdataset as wds

    parts = [wds.WebDataset(tars, resampled=True, shardshuffle=False).shuffle(BUFFER) for tars in by_dataset]
    for sample in wds.RandomMix(parts, WEIGHTS):
        yield sample["jpg"], sample["json"]


def datasets(spec: Any, by_dataset: list[list[str]]) -> Iterator[tuple[bytes, Any]]:
    """interleave_datasets of streaming datasets, with shuffle buffers."""
    import datasets as hf

    parts = [
        hf.load_dataset("webdataset", data_files={"train": tars}, split="train", streaming=True)
        .cast_column("jpg", hf.Image(decode=False))
        .shuffle(seed=1, buffer_size=BUFFER)
        for tars in by_dataset
    ]
    mixed = hf.interleave_datasets(parts, probabilities=WEIGHTS, seed=1, stopping_strategy="all_exhausted")
    for sample in chain.from_iterable(repeat(mixed)):
        yield sample["jpg"]["bytes"], sample["json"]


class TarSource:
    """A random-access source of tars for grain, which has none: the members' offsets, found once."""

    def __init__(self, tars: list[str]) -> None:
        self.places: list[tuple[str, int, int, int, int]] = []
        for path in tars:
            with tarfile.open(path) as tar:
                members = tar.getmembers()
            for image, record in zip(members[::2], members[1::2], strict=True):
                self.places.append((path, image.offset_data, image.size, record.offset_data, record.size))

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, i: int) -> tuple[bytes, bytes]:
        path, image, image_size, record, record_size = self.places[i]
        with Path(path).open("rb") as file:
            file.seek(image)
            data = file.read(image_size)
            file.seek(record)
            return data, file.read(record_size)


def grain(spec: Any, by_dataset: list[list[str]]) -> Iterator[tuple[bytes, Any]]:
    """MapDataset.mix of shuffled, repeated random-access sources, with grain's own prefetching threads."""
    import grain as g

    parts = [g.MapDataset.source(TarSource(tars)).shuffle(seed=1).repeat() for tars in by_dataset]
    yield from g.MapDataset.mix(parts, WEIGHTS).to_iter_dataset()


def energon(spec: Any, by_dataset: list[list[str]]) -> Iterator[tuple[bytes, Any]]:
    """A blend of crude WebDatasets, prepared beforehand, with shuffle buffers."""
    import megatron.energon as en
    from megatron.energon.flavors.webdataset.prepare import WebdatasetPreparator

    @en.stateless
    def bare(sample: dict[str, Any]) -> Any:
        return Bare(**en.basic_sample_keys(sample), image=sample["jpg"], record=sample["json"])

    class Encoder(en.DefaultTaskEncoder):
        decoder = None
        cookers = [en.Cooker(bare)]

    @dataclass
    class Bare(en.Sample):
        image: bytes
        record: Any

    folders = [Path(tars[0]).parent for tars in by_dataset]
    for folder, tars in zip(folders, by_dataset, strict=True):
        if not (folder / ".nv-meta").exists():
            names = [Path(tar).name for tar in tars]
            WebdatasetPreparator.prepare_dataset(folder, names, split_parts_ratio=[("train", 1.0)], workers=2)
            crude = "__module__: megatron.energon\n__class__: CrudeWebdataset\n"
            (folder / ".nv-meta" / "dataset.yaml").write_text(crude)
    blend = [{"weight": weight, "path": str(folder)} for weight, folder in zip(WEIGHTS, folders, strict=True)]
    mixture = folders[0].parent / "energon.yaml"  # JSON is YAML
    mixture.write_text(
        json.dumps(
            {"__module__": "megatron.energon", "__class__": "MetadatasetV2", "splits": {"train": {"blend": blend}}}
        )
    )
    dataset = en.get_train_dataset(
        mixture,
        batch_size=None,
        shuffle_buffer_size=BUFFER,
        max_samples_per_sequence=BUFFER,
        worker_config=en.WorkerConfig(rank=0, world_size=1, num_workers=0),
        task_encoder=Encoder(),
    )
    for sample in en.get_savable_loader(dataset):
        yield sample.image, sample.record


def mosaic(spec: Any, by_dataset: list[list[str]]) -> Iterator[tuple[bytes, Any]]:
    """Two streams of MDS with their proportions, shuffled, epoch after epoch."""
    from streaming import MDSWriter, Stream, StreamingDataset

    streams = []
    for weight, tars in zip(WEIGHTS, by_dataset, strict=True):
        out = Path(tars[0]).parent / "mds"
        if not (out / "index.json").exists():
            with MDSWriter(out=str(out), columns={"image": "bytes", "record": "bytes"}) as writer:
                for place in range(len(source := TarSource(tars))):
                    writer.write(dict(zip(("image", "record"), source[place], strict=True)))
        streams.append(Stream(local=str(out), proportion=weight))
    dataset = StreamingDataset(streams=streams, shuffle=True, batch_size=1)
    for sample in chain.from_iterable(repeat(dataset)):
        yield sample["image"], sample["record"]


def litdata(spec: Any, by_dataset: list[list[str]]) -> Iterator[tuple[bytes, Any]]:
    """A weighted combination of optimised, shuffled datasets."""
    import litdata as ld

    parts = []
    for tars in by_dataset:
        out = Path(tars[0]).parent / "litdata"
        if not (out / "index.json").exists():
            source = TarSource(tars)
            ld.optimize(source.__getitem__, list(range(len(source))), str(out), chunk_bytes="64MB", num_workers=1)
        parts.append(ld.StreamingDataset(str(out), shuffle=True))
    mixed = ld.CombinedStreamingDataset(parts, weights=WEIGHTS, iterate_over_all=False)
    yield from chain.from_iterable(repeat(mixed))


READERS = {
    "tarfile": tarfile_sequential,
    "vlm3": vlm3,
    "webdataset": webdataset,
    "datasets": datasets,
    "grain": grain,
    "energon": energon,
    "mosaic": mosaic,
    "litdata": litdata,
}


def main() -> None:
    """Print the seconds that reading took, the first hundred samples not counted: shuffle buffers fill meanwhile."""
    name, what, samples, spec, *tars = sys.argv[1:]
    folders = sorted({str(Path(tar).parent) for tar in tars})
    by_dataset = [[tar for tar in tars if str(Path(tar).parent) == folder] for folder in folders]
    stream = iter(READERS[name](json.loads(spec), by_dataset))
    if what == "decoded":
        import simplejpeg
    for _ in islice(stream, BUFFER):
        pass
    begin, cpu = time.perf_counter(), time.process_time()
    total = 0
    for image, _ in islice(stream, int(samples)):
        total += simplejpeg.decode_jpeg(image).shape[0] if what == "decoded" else len(image)
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    assert total
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu, "samples": int(samples)}))


if __name__ == "__main__":
    main()
