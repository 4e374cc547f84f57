"""A dataset that grew: which of its scenes are built already, and that they are still what they were.

Whole scenes are what a dataset grows by. One that was built must still be there as it was, and in the same order: then
its shards stay as they are, and building all again by the same plan gives them again.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from polars.exceptions import PolarsError

from vlm3data.contracts import Source
from vlm3data.types import SceneRef, UserError


class Built(NamedTuple):
    """The plan that the shards of an output were made by."""

    out: str
    data: bytes
    file: pq.ParquetFile

    @property
    def config(self) -> str:
        """Return the digest of its config."""
        return (self.file.schema_arrow.metadata or {}).get(b"config", b"").decode("utf-8", "replace")

    @property
    def generations(self) -> int:
        """Return how many times something was planned: once, and with each append."""
        with _damage_named(self.out):
            last = self.file.metadata.num_row_groups - 1
            return self.file.read_row_group(last, ["generation"])["generation"][-1].as_py() + 1

    def parts(self, shards: Collection[int]) -> pl.DataFrame:
        """Return the rows of these shards, in order: shard, scene, split, first, count."""
        with _damage_named(self.out):
            columns = ["shard", "scene", "split", "first", "count"]
            batches = self.file.iter_batches(columns=columns)
            return pl.concat([pl.DataFrame(batch).filter(pl.col("shard").is_in(shards)) for batch in batches])


class _Scene(NamedTuple):
    """What a plan says of a scene."""

    scene: str
    split: str
    stamp: str
    num_frames: int


def built_by(out: str, data: bytes) -> Built:
    """Return the plan found in `out`, from its bytes."""
    with _damage_named(out):
        return Built(out, data, pq.ParquetFile(pa.BufferReader(data)))


@contextmanager
def _damage_named(out: str) -> Generator[None]:
    try:
        yield
    except (pa.ArrowException, PolarsError, OSError, ValueError, KeyError, IndexError, TypeError) as error:
        told = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise UserError(f"{out}/plan.parquet: is damaged ({told}); delete it, and it is made again") from error


def scenes_of(
    source: Source, split: str | None, built: Built | None, append: bool
) -> Iterator[tuple[int, Iterator[SceneRef]]]:
    """Yield each generation with its scenes, in order; the last holds those that no plan has yet.

    Raises UserError, which names the scene, where one that was built is gone or not what it was, and where one is new
    and nothing is to be appended.
    """
    if built is None:
        yield 0, iter(source.scenes(split))
        return
    for generation in range(built.generations):
        yield generation, _of(generation, source.scenes(split), built)
    new = _of(built.generations, source.scenes(split), built)
    yield built.generations, new if append else _none(new, built.out)


def _of(wanted: int, scenes: Iterable[SceneRef], built: Built) -> Iterator[SceneRef]:
    """Yield those of `scenes` that the generation `wanted` built."""
    plans = [_built(built.file, generation) for generation in range(built.generations)]
    heads = [next(plan, None) for plan in plans]
    for scene in scenes:
        owner = built.generations
        for generation, head in enumerate(heads):
            if head is not None and (head.scene, head.split) == (scene.scene, scene.split):
                owner, heads[generation] = generation, next(plans[generation], None)
                _check_unchanged(head, scene, built.out)
                break
        if owner == wanted and scene.num_frames:
            yield scene
    for head in heads:
        if head is not None:
            raise UserError(
                f"{built.out}: scene {head.scene}, which its shards hold, is gone from the source, or not in its place "
                "any more: nothing was changed; choose another --out"
            )


def _built(file: pq.ParquetFile, generation: int) -> Iterator[_Scene]:
    for batch in file.iter_batches(columns=["generation", "scene", "split", "stamp", "num_frames", "first"]):
        rows = pl.DataFrame(batch).filter(generation=generation, first=0)  # one row for each scene
        yield from map(_Scene._make, rows.select(_Scene._fields).iter_rows())


def _check_unchanged(was: _Scene, scene: SceneRef, out: str) -> None:
    if (was.stamp, was.num_frames) == (scene.stamp, scene.num_frames):
        return
    frames = f"it had {was.num_frames} frames and now has {scene.num_frames}"
    how = "its files are not what they were" if was.num_frames == scene.num_frames else frames
    raise UserError(
        f"{out}: scene {scene.scene} has changed since it was built: {how}. Nothing was done; choose another --out, or "
        "put new frames into new scenes and --append"
    )


def _none(new: Iterator[SceneRef], out: str) -> Iterator[SceneRef]:
    for scene in new:
        raise UserError(f"{out}: the source has a scene that is not in its plan, {scene.scene}: --append builds it")
    yield from ()
