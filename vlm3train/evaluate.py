"""Evaluation: ask, score, report. What is asked is in `asking`, what it is worth in `scoring` and `controls`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vlm3data.types import Sample
from vlm3train.asking import Answer, ask_all
from vlm3train.controls import Controls
from vlm3train.predictions import PredictionFile
from vlm3train.scoring import Row, rows_of


def evaluate(
    answer: Answer,
    of: tuple[str, str],
    samples: Sequence[Sample],
    per_image: int,
    controls: Controls | None,
    kept: PredictionFile | None = None,
) -> list[Row]:
    """Return one row per task for the first `per_image` stored questions of the task in every sample.

    `of` names the model and the dataset, for the rows; `kept` has answers of before, and takes in the new ones.
    """
    return rows_of(ask_all(answer, of, samples, per_image, kept), controls)


def write_json(path: str, about: dict[str, Any], rows: Sequence[Row]) -> None:
    """Write the rows, with what they are of, to `path`."""
    import orjson

    data = orjson.dumps(about | {"rows": [asdict(row) for row in rows]}, option=orjson.OPT_INDENT_2)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(data + b"\n")
