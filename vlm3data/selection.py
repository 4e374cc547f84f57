"""Which samples of a dataset a mixture uses, found in its index: a split, an SQL condition, a task, a limit."""

from __future__ import annotations

import io
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import polars as pl

from vlm3data.randomness import permutation
from vlm3data.shards import INDEX_PARQUET, Dataset
from vlm3data.shards.checked import damage_named
from vlm3data.types import Int64Array, UserError


class Selection(NamedTuple):
    """What is used of a dataset; None means that this does not narrow it."""

    task: str | None = None
    split: str | None = None
    where: str | None = None
    limit: int | None = None

    @property
    def is_everything(self) -> bool:
        """Tell whether nothing is left out."""
        return self == Selection()

    def __str__(self) -> str:
        """Return the selection as a part of a fingerprint."""
        return ", ".join(f"{name} {value}" for name, value in zip(self._fields, self, strict=True) if value is not None)


def select(dataset: Dataset, selection: Selection) -> Int64Array:
    """Return the numbers of the selected samples, ascending; raise UserError for an expression that does not work.

    The limit draws at random, the same samples on every machine, and those of a smaller limit again; it holds for
    the dataset, and its tasks share what it leaves.
    """
    conditions = []
    if selection.split is not None:
        conditions.append(pl.col("split") == selection.split)
    if selection.where is not None:
        conditions.append(_condition(selection.where))
    chosen = _rows_where(dataset, conditions, selection.where) if conditions else None
    many = len(dataset) if chosen is None else len(chosen)
    if selection.limit is not None and selection.limit < many:
        position = ("limit", dataset.fingerprint, str(selection._replace(limit=None, task=None)))
        order = permutation(many, *position)[: selection.limit]
        chosen = np.sort(order if chosen is None else chosen[order])
    if selection.task is not None:
        asked = _rows_where(dataset, [pl.col("tasks").list.contains(selection.task)], None)
        return asked if chosen is None else np.intersect1d(chosen, asked, assume_unique=True)
    return np.arange(many) if chosen is None else chosen


def _rows_where(dataset: Dataset, conditions: Sequence[pl.Expr], where: str | None) -> Int64Array:
    frame = _index(dataset)
    with _damage_named(dataset):
        columns = ", ".join(frame.collect_schema().names())
    try:
        rows = frame.with_row_index("sample").filter(*conditions).select("sample").collect()
    except (pl.exceptions.PolarsError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"where {where!r}: {reason}; the index has the columns {columns}") from error
    return rows["sample"].to_numpy().astype(np.int64)


def answer_chars(dataset: Dataset, selected: Int64Array | None, questions: int) -> float:
    """Return how many characters the answers of a selected sample hold when `questions` of its questions are drawn."""
    drawn = pl.min_horizontal(pl.col("questions"), pl.lit(questions))
    per_sample = pl.col("answer_chars") / pl.col("questions") * drawn
    with _damage_named(dataset):
        values = _index(dataset).select(per_sample).collect().to_series().to_numpy()
    return float((values if selected is None else values[selected]).mean())


@contextmanager
def _damage_named(dataset: Dataset) -> Generator[None]:
    with damage_named(f"{dataset.url}/{INDEX_PARQUET}"):
        try:
            yield
        except pl.exceptions.PolarsError as error:
            raise ValueError(str(error)) from error


def _condition(where: str) -> pl.Expr:
    try:
        return pl.sql_expr(where)
    except pl.exceptions.PolarsError as error:
        raise UserError(f"where {where!r}: {str(error).splitlines()[0]}") from error


def _index(dataset: Dataset) -> pl.LazyFrame:
    found = dataset.index_parquet()
    return pl.scan_parquet(found if isinstance(found, str) else io.BytesIO(found), glob=False)
