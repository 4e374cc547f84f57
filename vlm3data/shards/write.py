"""Writing one shard: the tar first, then its manifest, which alone commits it."""

from __future__ import annotations

import hashlib
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from typing import Any

import orjson
import xxhash
from fsspec import AbstractFileSystem

from vlm3data.shards.checked import manifest_from
from vlm3data.storage import list_files, open_whole, read_whole, write_whole
from vlm3data.types import Sample

MANIFEST = ".manifest.json"
BLOCK = tarfile.BLOCKSIZE
AT_ONCE = 16
"""Manifests that are read at a time."""
_TASK, _QUESTION, _ANSWER = map(itemgetter, ("task", "question", "answer"))


@dataclass(frozen=True, slots=True)
class ShardTally:
    """What became of a shard's candidates; the three counts of labels are of single labelled pixels."""

    drops: Counter[str] = field(default_factory=Counter)
    """Samples dropped, by reason."""
    cuts: Counter[str] = field(default_factory=Counter)
    """Sound samples that there was nothing to ask about, by reason."""
    unasked: Counter[str] = field(default_factory=Counter)
    """Tasks that had nothing to ask of a sample that others asked about, `task: reason`."""
    label_drops: Counter[str] = field(default_factory=Counter)
    """Labels dropped because they are wrong (NaN, outside the image, ...), by reason."""
    label_cuts: Counter[str] = field(default_factory=Counter)
    """Sound labels that the processing itself removes (cropped away, two in one pixel), by reason."""
    labels: Counter[str] = field(default_factory=Counter)
    """Sound labels, under `kept`."""
    quarantined: list[dict[str, str]] = field(default_factory=list)
    """Scene and key of each sample dropped because making it kills the process; the manifest lists them."""

    def add(self, other: ShardTally) -> None:
        """Count what `other` counted, too."""
        self.drops.update(other.drops)
        self.cuts.update(other.cuts)
        self.unasked.update(other.unasked)
        self.label_drops.update(other.label_drops)
        self.label_cuts.update(other.label_cuts)
        self.labels.update(other.labels)
        self.quarantined.extend(other.quarantined)

    def clear(self) -> None:
        """Forget everything."""
        for counts in (self.drops, self.cuts, self.unasked, self.label_drops, self.label_cuts, self.labels):
            counts.clear()
        self.quarantined.clear()


def write_shard(
    fs: AbstractFileSystem,
    directory: str,
    name: str,
    samples: Iterable[Sample],
    tally: ShardTally,
    config: str,
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write `<name>.tar` and then its manifest, which is returned; `tally` may grow while `samples` runs.

    `about` is what else the manifest is to say.

    The same samples give the same bytes: no clock, owner or host enters the tar.
    """
    # The tar appears under its own name only when whole.
    with open_whole(fs, f"{directory}/{name}.tar") as file:
        tar = _Counted(file)
        members = list(_write_members(tar.write, samples))
    manifest = {
        "version": 1,
        "shard": f"{name}.tar",
        "sha256": tar.sha256.hexdigest(),
        "bytes": tar.bytes,
        "samples": len(members),
        "drops": dict(sorted(tally.drops.items())),
        "cuts": dict(sorted(tally.cuts.items())),
        "unasked": dict(sorted(tally.unasked.items())),
        "labels": {
            "kept": tally.labels["kept"],
            "cut": dict(sorted(tally.label_cuts.items())),
            "dropped": dict(sorted(tally.label_drops.items())),
        },
        "config": config,
        **({"quarantined": tally.quarantined} if tally.quarantined else {}),
        **(about or {}),
        "members": members,
    }
    write_whole(fs, f"{directory}/{name}{MANIFEST}", orjson.dumps(manifest))
    return manifest


def committed(fs: AbstractFileSystem, directory: str) -> dict[str, dict[str, Any]]:
    """Return the manifests found in `directory`, by shard name, in order: the shards that exist."""
    names = _names(fs, directory)
    return dict(zip(names, manifests_of(fs, directory, names), strict=True))


def summaries(fs: AbstractFileSystem, directory: str) -> dict[str, dict[str, Any]]:
    """Return the same without their members: what they count, which is small."""
    names = _names(fs, directory)
    return dict(zip(names, map(summary_of, manifests_of(fs, directory, names)), strict=True))


def keep_only(
    fs: AbstractFileSystem, directory: str, manifests: Mapping[str, dict[str, Any]], digests: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """Delete shards without a sample that are none of `digests`, by name; return what is left of `manifests`."""
    left = dict(manifests)
    for name, manifest in manifests.items():
        if digests.get(name) != manifest["config"] and not manifest["samples"]:
            fs.rm_file(f"{directory}/{name}{MANIFEST}")  # first: a tar without it does not exist
            fs.rm_file(f"{directory}/{name}.tar")
            del left[name]
    return left


def summary_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest without its members."""
    return {key: value for key, value in manifest.items() if key != "members"}


def manifests_of(fs: AbstractFileSystem, directory: str, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the manifests of these shards in order, a few of them read at a time."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for start in range(0, len(names), AT_ONCE):
            yield from pool.map(partial(_manifest, fs, directory), names[start : start + AT_ONCE])


def _manifest(fs: AbstractFileSystem, directory: str, name: str) -> dict[str, Any]:
    path = f"{directory}/{name}{MANIFEST}"
    return manifest_from(read_whole(fs, path), path)


def _names(fs: AbstractFileSystem, directory: str) -> list[str]:
    return [path.rpartition("/")[2].removesuffix(MANIFEST) for path in list_files(fs, directory, MANIFEST)]


def sample_files(sample: Sample) -> list[tuple[str, bytes]]:
    """Return the members of a sample in the order of the tar: the images, then the JSON."""
    many = len(sample.images) > 1
    images = [(f"{sample.key}.{i}.jpg" if many else f"{sample.key}.jpg", d) for i, d in enumerate(sample.images)]
    return [*images, (f"{sample.key}.json", sample.record_json)]


def _write_members(write: Callable[[bytes], object], samples: Iterable[Sample]) -> Iterator[dict[str, Any]]:
    """Write each sample as one block of tar members and yield where it lies and what the index says of it."""
    start = 0
    for sample in samples:
        parts, files, offset = [], [], start
        for name, data in sample_files(sample):
            padding = bytes(-len(data) % BLOCK)
            parts += (_header(name, len(data)), data, padding)
            files.append([name, offset + BLOCK, len(data)])
            offset += BLOCK + len(data) + len(padding)
        block = b"".join(parts)
        write(block)
        yield {
            "key": sample.key,
            "offset": start,
            "length": len(block),
            "xxh3": xxhash.xxh3_64_hexdigest(block),
            "files": files,
            "row": _index_row(sample),
        }
        start = offset
    write(bytes(2 * BLOCK))  # a tar ends with two empty blocks


def _header(name: str, size: int) -> bytes:
    """Return the tar header of a member that belongs to nobody and to no time.

    It is tarfile's own of a file without name and size, with both filled in, which takes a tenth of the time.
    """
    told, octal = name.encode(), b"%011o" % size
    if len(told) > _NAME_BYTES or len(octal) > _SIZE.stop - _SIZE.start:
        return _of_tarfile(name, size)
    header = bytearray(_BLANK)
    header[: len(told)], header[_SIZE] = told, octal
    header[_CHECKSUM] = b"%06o" % (_BLANK_SUM + sum(told) + sum(octal))
    return bytes(header)


def _of_tarfile(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info.tobuf(tarfile.USTAR_FORMAT)


_NAME_BYTES, _SIZE, _CHECKSUM = 100, slice(124, 135), slice(148, 154)
"""Where they stand in a ustar header (POSIX.1-1988)."""
_BLANK = _of_tarfile("", 0)
_BLANK_SUM = int(_BLANK[_CHECKSUM], 8) - sum(_BLANK[_SIZE])


class _Counted:
    """Writes through to a file, counting and hashing what passes."""

    def __init__(self, file: Any) -> None:
        self.file, self.bytes, self.sha256 = file, 0, hashlib.sha256()

    def write(self, data: bytes) -> None:
        self.file.write(data)
        self.sha256.update(data)
        self.bytes += len(data)


def _index_row(sample: Sample) -> dict[str, Any]:
    """Return what the Parquet index says of a sample besides its place."""
    record, questions = sample.record, sample.record["questions"]
    camera = record["views"][0]["camera"]
    return {
        "source": record["source"],
        "scene": record["scene"],
        "split": record["split"],
        "metric": record["metric"],
        "views": len(record["views"]),
        "width_px": camera["width_px"],
        "height_px": camera["height_px"],
        "focal_px": camera["fx_px"],
        "source_focal_px": record["views"][0]["source_camera"]["fx_px"],
        "tasks": sorted(set(map(_TASK, questions))),
        "questions": len(questions),
        "question_chars": sum(map(len, map(_QUESTION, questions))),
        "answer_chars": sum(map(len, map(_ANSWER, questions))),
    }
