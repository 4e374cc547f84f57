"""What shapes a dataset: the config of a build, the plugins that it names, and the digest of both."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from typing import Annotated, Any, Literal

import orjson
from pydantic import Field

from vlm3data import registry
from vlm3data.config import Config
from vlm3data.contracts import Calibrator, Source, Task
from vlm3data.shards.original import movable
from vlm3data.types import DepthKind

FORMAT = 3
"""Raised when the same config begins to give other bytes, so that old shards are not continued."""


class BuildConfig(Config):
    """Everything that shapes a dataset, and nothing that does not but `root` and `max_drop_rate`."""

    source: str
    root: str = ""
    split: str | None = None
    options: dict[str, Any] = {}
    """The source's own options."""
    tasks: dict[str, dict[str, Any]] = {"depth": {}}
    """Task names and their options."""
    calibrator: str | None = None
    """Which method estimates the camera of an image whose source has no intrinsics."""
    calibrator_options: dict[str, Any] = {}
    focal_px: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1000.0
    focal_mode: Literal["uniform", "square", "none"] = "uniform"
    align: Literal["crop", "pad", "none"] = "crop"
    store: Literal["unified", "original"] = "unified"
    """Which image a shard holds: the one that the model sees, or the source's own, unified when it is read."""
    label_depth: DepthKind = "z"
    """The kind of depth that labels are written in, whatever the source stores."""
    published: bool = False
    """Move pixels by the released int(u * s) rather than to the pixel that holds their centre."""
    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)] = 0
    pairs: Annotated[int, Field(gt=0, le=16)] = 1
    """Pairs of views that each frame begins, where a task asks about two."""
    limit: Annotated[int, Field(gt=0)] | None = None
    shard_size: Annotated[int, Field(gt=0)] = 1000
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] = 95
    max_drop_rate: Annotated[float, Field(ge=0, le=1)] = 0.05


def open_source(config: BuildConfig) -> Source:
    """Return the source, opened once per process: some read large tables."""
    return _open_source(config.source, config.root, orjson.dumps(config.options).decode(), config.seed)


def forget_source() -> None:
    """Open sources anew from here on: a plan looks at the dataset as it is now."""
    _open_source.cache_clear()


def open_tasks(config: BuildConfig) -> list[Task]:
    """Return the tasks in a fixed order."""
    opened = []
    for name, options in sorted(config.tasks.items()):
        task = registry.load("task", name)
        opened.append(task(task.Options.check(options, where=f"task {name}")))
    return movable(opened) if config.store == "original" else opened


def open_calibrator(config: BuildConfig) -> Calibrator | None:
    """Return the calibrator, opened once per process: some hold a network."""
    if config.calibrator is None:
        return None
    return _open_calibrator(config.calibrator, orjson.dumps(config.calibrator_options).decode())


@lru_cache(maxsize=1)
def _open_calibrator(name: str, options: str) -> Calibrator:
    calibrator = registry.load("calibrator", name)
    return calibrator(calibrator.Options.check(orjson.loads(options), where=f"calibrator {name}"))


@lru_cache(maxsize=4)
def _open_source(name: str, root: str, options: str, seed: int) -> Source:
    source = registry.load("source", name)
    return source(root, source.Options.check(orjson.loads(options), where=f"source {name}"), seed)


def about_config(config: BuildConfig, tasks: Iterable[Task]) -> dict[str, Any]:
    """Return what shapes the bytes: not where the source lies, nor which drop rate is tolerated."""
    shaping = config.model_dump(
        exclude={"root", "max_drop_rate", "tasks", "options", "calibrator", "calibrator_options"}
    )
    calibrator = open_calibrator(config)
    if calibrator is not None:  # what has its own intrinsics is the same build with and without this feature
        shaping["calibrator"] = {"name": config.calibrator, **calibrator.about()}
    options = registry.load("source", config.source).Options.check(config.options, where=f"source {config.source}")
    return {
        "format": FORMAT,
        **shaping,
        "options": options.model_dump(mode="json"),
        "tasks": {task.name: dict(task.about()) for task in tasks},
    }


def digest_of(value: Any) -> str:
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
