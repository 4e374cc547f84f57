"""The JSON tables of one version of nuScenes, by name."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from fsspec import AbstractFileSystem

from vlm3data.formats.json_table import Record, read_table
from vlm3data.types import UserError

TABLES = (
    "sensor", "calibrated_sensor", "scene", "sample", "sample_data", "ego_pose", "category", "visibility", "instance",
    "sample_annotation",
)  # fmt: skip
"""The tables that are read."""


@dataclass(frozen=True, slots=True)
class TableReader:
    """The tables of one version, below `directory`."""

    fs: AbstractFileSystem
    directory: str

    def name(self, table: str) -> str:
        """Return what messages call a table: `v1.0-mini/scene.json`."""
        return f"{posixpath.basename(self.directory)}/{table}.json"

    def path(self, table: str) -> str:
        """Return the path of a table."""
        return f"{self.directory}/{table}.json"

    def pieces(self, table: str, record: type[Record]) -> Iterator[list[Record]]:
        """Yield the records of a table, a few thousand at a time."""
        return read_table(self.fs, self.path(table), self.name(table), record)

    def all(self, table: str, record: type[Record]) -> list[Record]:
        """Return the records of a small table; a token that is there twice is a UserError."""
        records = list(chain.from_iterable(self.pieces(table, record)))
        tokens: set[str] = set()
        for each in records:
            token: str = each.token  # pyright: ignore[reportAttributeAccessIssue]
            if token in tokens:
                raise UserError(f"{self.name(table)}: token {token!r} is there twice")
            tokens.add(token)
        return records
