"""A file of predictions: what a model answered is written down once and can be scored many times.

An Arrow IPC stream, a row a question (`pyarrow.ipc.open_stream`, `polars.read_ipc_stream` read it). It grows batch by
batch: after a kill all but the last batch is there, and the evaluation goes on behind it. Its schema's metadata say
which model and data the answers are of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import orjson
import pyarrow as pa

from vlm3data.types import UserError

SWAPPED = "swapped_images"
"""The control in which another sample's images are shown."""
IDENTITY = b"vlm3_predictions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One question and what a model answered."""

    model: str
    dataset: str
    source: str
    """Which kind of dataset it is, as the sample says."""
    key: str
    """Of the sample."""
    index: int
    """Of the question among the sample's."""
    task: str
    control: str
    """Empty, or `SWAPPED`."""
    images_of: str
    """Key of the sample whose images were shown: its own, for the control another's. An answer is only kept for these:
    which ones the control shows changes with the samples that are asked about, and may with a version."""
    question: str
    expected: str
    """The right answer as the shards word it."""
    truth: Mapping[str, Any]
    answer: str


_SCHEMA = pa.schema(
    [(field.name, pa.int32() if field.name == "index" else pa.string()) for field in fields(Prediction)]
)


class PredictionFile:
    """Predictions at `path`, those of an evaluation that was stopped included; `identity` says what they are of.

    Raises UserError where the file there is of another model or other data, or no such file at all.
    """

    def __init__(self, path: str | Path, identity: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self._known: dict[tuple[str, ...], str] = {}
        batches: list[pa.RecordBatch] = []
        if self.path.exists():
            schema, batches = _read(self.path)
            _check_same(self.path, _identity(self.path, schema), identity)
        for batch in batches:
            for row in batch.select(["model", "dataset", "key", "index", "images_of", "answer"]).to_pylist():
                name = _name((row["model"], row["dataset"]), row["key"], row["index"], row["images_of"])
                self._known[name] = row["answer"]
        # Written afresh, because nothing can be added behind a batch that was cut off.
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(self.path.name + ".tmp")
        self._file = temporary.open("wb")
        self._schema = _SCHEMA.with_metadata({IDENTITY: orjson.dumps(identity)})
        self._writer = pa.ipc.new_stream(self._file, self._schema)
        # Or the schema would only come with the first answer, and a file without one is not ours.
        self._writer.write_batch(pa.RecordBatch.from_pylist([], schema=self._schema))
        for batch in batches:
            self._writer.write_batch(batch.replace_schema_metadata(self._schema.metadata))
        self._file.flush()
        temporary.replace(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()
        self._file.close()

    def __len__(self) -> int:
        return len(self._known)

    def answer(self, of: tuple[str, str], key: str, index: int, images_of: str) -> str | None:
        """Return the answer that is known, with these images; `of` names model and dataset."""
        return self._known.get(_name(of, key, index, images_of))

    def append(self, predictions: Sequence[Prediction]) -> None:
        """Add answers, so that they are there whatever happens next."""
        if not predictions:
            return
        columns = {
            field.name: [getattr(prediction, field.name) for prediction in predictions] for field in fields(Prediction)
        }
        columns["truth"] = [orjson.dumps(truth).decode() for truth in columns["truth"]]
        self._writer.write_batch(pa.RecordBatch.from_pydict(columns, schema=self._schema))
        self._file.flush()
        for one in predictions:
            self._known[_name((one.model, one.dataset), one.key, one.index, one.images_of)] = one.answer


def read_predictions(path: str | Path) -> tuple[dict[str, Any], list[Prediction]]:
    """Return what the predictions at `path` are of, and all of them."""
    if not Path(path).exists():
        raise UserError(f"{path}: there is no such file; `vlm3train eval --predictions {path}` writes one")
    schema, batches = _read(Path(path))
    rows = [row for batch in batches for row in batch.to_pylist()]
    identity = _identity(Path(path), schema)
    return identity, [Prediction(**(row | {"truth": orjson.loads(row["truth"])})) for row in rows]


def _read(path: Path) -> tuple[pa.Schema, list[pa.RecordBatch]]:
    """Return all whole batches: the last one of an evaluation that was killed may have been cut off."""
    batches: list[pa.RecordBatch] = []
    try:
        with path.open("rb") as file:
            reader = pa.ipc.open_stream(file)
            with suppress(StopIteration, pa.ArrowInvalid, OSError):
                while True:
                    batches.append(reader.read_next_batch())
            return reader.schema, batches
    except pa.ArrowInvalid as error:
        raise UserError(f"{path}: is no file of predictions ({str(error).splitlines()[0]})") from error


def _identity(path: Path, schema: pa.Schema) -> dict[str, Any]:
    if IDENTITY not in (schema.metadata or {}) or schema.names != _SCHEMA.names:
        raise UserError(
            f"{path}: is no file of predictions that this version of `vlm3train eval` wrote; ask again into another one"
        )
    return orjson.loads(schema.metadata[IDENTITY])


def _check_same(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for kind, values in now.items():
        old = before.get(kind)
        if old == values:
            continue
        if isinstance(values, Mapping) and isinstance(old, Mapping):
            changed = sorted(name for name in values if old.get(name) not in (None, values[name]))
            why = f"{', '.join(changed)} changed since" if changed else f"it is of {', '.join(sorted(old))}"
        else:
            why = f"{kind} was {old}" if kind in before else "it does not say which"
        raise UserError(f"{path} holds answers of other {kind}: {why}; give another --predictions, or delete the file")


def _name(of: tuple[str, str], key: str, index: int, images_of: str) -> tuple[str, ...]:
    return (*of, key, str(index), images_of)
