"""Which candidates go into which shard: the same plan wherever and whenever it is made of the same dataset.

The plan lies beside the shards as `plan.parquet`, one row for each part of a scene, in order. What is appended later is
a generation of its own behind the shards that are there, which do not change. A plan is made scene by scene and read
back a few shards at a time, so that its size costs no memory.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any

import orjson
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from vlm3data.budget import ANOTHER_BUILD
from vlm3data.build_config import (
    BuildConfig,
    about_config,
    digest_of,
    forget_source,
    open_calibrator,
    open_source,
    open_tasks,
)
from vlm3data.candidates import Part, candidates_per_frame
from vlm3data.errors import UsageError
from vlm3data.growth import Built, scenes_of
from vlm3data.types import SceneRef, UserError

PLAN = "plan.parquet"
AT_ONCE = 16
"""Neighbouring shards of a plan are read back together."""
ROWS = 1 << 16
"""In a row group: what is written, and skipped when reading, at once."""
SCHEMA = pa.schema(
    {
        "shard": pa.uint32(),
        "generation": pa.uint16(),
        "scene": pa.string(),
        "split": pa.string(),
        "stamp": pa.string(),
        "payload": pa.string(),
        "num_frames": pa.uint32(),
        "first": pa.uint32(),
        "count": pa.uint32(),
    }
)


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard to be written, but for the config: a pure description that can travel to any process."""

    name: str
    parts: tuple[Part, ...]
    """Scenes, each with its first candidate to take and how many."""
    digest: str
    """Of the config and these parts: a manifest with another one belongs to another build."""

    def __str__(self) -> str:
        (first, begin, _), (last, start, count) = self.parts[0], self.parts[-1]
        return f"{self.name} (scene {first.scene}, candidate {begin}, to scene {last.scene}, {start + count - 1})"

    @property
    def candidates(self) -> int:
        """Return how many samples there will be if none is dropped."""
        return sum(count for _, _, count in self.parts)


@dataclass(frozen=True, slots=True)
class ShardJob(Shard):
    """One shard to be written, and how."""

    config: BuildConfig


@dataclass(frozen=True, slots=True)
class Plan:
    """All shards of a build, in a file on this machine."""

    path: str
    digests: dict[str, str]
    """Of each shard by name, in order."""
    candidates: int

    def shards(self, names: Iterable[str]) -> Iterator[Shard]:
        """Yield the shards of these names, in the plan's order, a few of them read at a time."""
        for _, near in groupby(sorted(map(number_of, names)), lambda number: number // AT_ONCE):
            some = list(near)
            wanted = pl.col("shard").is_between(some[0], some[-1]) & pl.col("shard").is_in(some)
            rows = pl.scan_parquet(self.path, glob=False).filter(wanted).collect()
            for (number,), parts in rows.group_by("shard", maintain_order=True):
                name = name_of(int(str(number)))
                yield Shard(name, tuple(map(_part, parts.iter_rows(named=True))), self.digests[name])


def name_of(number: int) -> str:
    """Return the name of the shard of this number."""
    return f"shard-{number:06d}"


def number_of(name: str) -> int:
    """Return the number of the shard of this name."""
    return int(name.removeprefix("shard-"))


def plan(config: BuildConfig, built: Built | None = None) -> list[ShardJob]:
    """Return the jobs of a build: the scenes' candidates in the source's order, `shard_size` of them each.

    `built` is the plan of a dataset that was appended to (`growth.built_at`), which is then followed.
    """
    return [ShardJob(shard.name, shard.parts, shard.digest, config) for _, shard in planned(config, built)]


def followed(config: BuildConfig, built: Built, names: Collection[str]) -> Iterator[ShardJob]:
    """Yield the jobs of these shards by the plan that they were `built` by, whatever was appended when.

    The scenes are what the source has now under their names; one that is gone is left out.
    """
    forget_source()
    source, digest = open_source(config), config_digest(config)
    rows = built.parts(list(map(number_of, names)))
    wanted = set(rows.select("scene", "split").iter_rows())
    scenes = islice(source.scenes(config.split), built.file.metadata.num_rows if source.facts.endless else None)
    now = {key: scene for scene in scenes if (key := (scene.scene, scene.split)) in wanted}
    for (number,), of_shard in rows.group_by("shard", maintain_order=True):
        listed = of_shard.select("scene", "split", "first", "count").iter_rows()
        parts = tuple((now[scene, split], *some) for scene, split, *some in listed if (scene, split) in now)
        yield ShardJob(name_of(int(str(number))), parts, digest_of([digest, _named(parts)]), config)


def write_plan(config: BuildConfig, path: str, built: Built | None = None, append: bool = False) -> Plan:
    """Make the plan of a build and write it to `path`, a file on this machine."""
    digests, candidates, rows = dict[str, str](), 0, list[tuple[Any, ...]]()
    schema = SCHEMA.with_metadata({"config": config_digest(config)})
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for generation, shard in planned(config, built, append):
            digests[shard.name], number = shard.digest, len(digests)
            candidates += shard.candidates
            rows += (_row(number, generation, *part) for part in shard.parts)
            if len(rows) >= ROWS:
                _write_rows(writer, rows)
        _write_rows(writer, rows)
    return Plan(path, digests, candidates)


def planned(config: BuildConfig, built: Built | None = None, append: bool = False) -> Iterator[tuple[int, Shard]]:
    """Yield the shards of a build, each with its generation, without ever holding more than one.

    Raises UserError where the config cannot be built, and where the source does not give what was `built`.
    """
    forget_source()
    source, tasks = open_source(config), open_tasks(config)
    open_calibrator(config)  # a package that is missing should show before the work begins
    if config.split is not None and config.split not in source.facts.splits:
        known = ", ".join(source.facts.splits)
        raise UserError(f"--split {config.split}: {config.source} has no such split; known: {known}")
    if source.facts.endless and config.limit is None:
        raise UsageError(f"{config.source} never ends: say how many samples with --limit")
    digest, per_frame = config_digest(config), candidates_per_frame(config, tasks)
    if built is not None and built.config != digest:
        raise UserError(ANOTHER_BUILD.format(out=built.out, what="the plan"))
    left, number = config.limit, 0
    for generation, scenes in scenes_of(source, config.split, built, append):
        for parts in _packed(scenes, per_frame, config.shard_size, left):
            shard = Shard(name_of(number), parts, digest_of([digest, _named(parts)]))
            yield generation, shard
            number += 1
            left = None if left is None else left - shard.candidates
        if left == 0:
            break
    if not number:
        raise UserError(f"--root {config.root}: there is nothing to build in it")


def config_digest(config: BuildConfig) -> str:
    """Return the digest of all that shapes the samples but the source's data."""
    return digest_of(about_config(config, open_tasks(config)))


def _packed(
    scenes: Iterable[SceneRef], per_frame: int, shard_size: int, left: int | None
) -> Iterator[tuple[Part, ...]]:
    """Yield the candidates of `scenes`, at most `left`, in parts that make up one shard each."""
    parts: list[Part] = []
    room = shard_size
    for scene in scenes:
        candidates = scene.num_frames * per_frame
        candidates = candidates if left is None else min(candidates, left)
        left = None if left is None else left - candidates
        first = 0
        while first < candidates:
            count = min(room, candidates - first)
            parts.append((scene, first, count))
            first, room = first + count, room - count
            if not room:
                yield tuple(parts)
                parts, room = [], shard_size
        if left == 0:
            break
    if parts:
        yield tuple(parts)


def _named(parts: Iterable[Part]) -> list[tuple[str, str, int, int]]:
    return [(scene.scene, scene.stamp, first, count) for scene, first, count in parts]


def _row(number: int, generation: int, scene: SceneRef, first: int, count: int) -> tuple[Any, ...]:
    payload = orjson.dumps(scene.payload).decode()
    return (number, generation, scene.scene, scene.split, scene.stamp, payload, scene.num_frames, first, count)


def _part(row: dict[str, Any]) -> Part:
    payload = orjson.loads(row["payload"])
    return SceneRef(row["scene"], row["num_frames"], payload, row["split"], row["stamp"]), row["first"], row["count"]


def _write_rows(writer: pq.ParquetWriter, rows: list[tuple[Any, ...]]) -> None:
    """Write the rows as row groups and forget them."""
    if rows:
        # Through polars: pyarrow, given Python's own lists, imports pandas first, which takes half a second.
        columns = dict(zip(SCHEMA.names, zip(*rows, strict=True), strict=True))
        writer.write_table(pl.DataFrame(columns).to_arrow().cast(writer.schema), row_group_size=ROWS)
        rows.clear()
