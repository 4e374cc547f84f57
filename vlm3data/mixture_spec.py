"""What a mixture's YAML may say: datasets, groups of them, weights, and how the weights change over a run."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from vlm3data.config import Config, read_yaml
from vlm3data.errors import UserError


def _name(name: str) -> str:
    if not name or "/" in name or "#" in name:
        raise ValueError("a dataset's name must not be empty or hold / or #, which set members and tasks apart")
    return name


Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Focal = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Name = Annotated[str, AfterValidator(_name)]


class Entry(Config):
    """A dataset (`shards`, or `size` while it is only planned), or a group of them (`datasets`)."""

    shards: str | None = None
    """URL of a finished dataset; a local path is relative to the working directory, as on the command line."""
    size: Annotated[int, Field(gt=0)] | None = None
    """Planned number of samples, for `mix show` before any shard exists."""
    datasets: dict[Name, Entry] | None = None
    """The members of a group; its weight is divided among them."""
    weighting: dict[str, Any] | None = None
    """Of a group's members; that of the whole mixture where it is not given."""
    weight: Weight | None = None
    repeat: Weight | None = None
    """How often the dataset is seen, for the scheme `repeat`."""
    pixels: Annotated[int, Field(gt=0)] = 10
    """Questions drawn per sample and epoch, out of those its shard holds (the paper: 10)."""
    tasks: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] | None = None
    """Which tasks are asked, and in which shares of the draws; all questions alike where it is not given."""
    split: str | None = None
    """Only the samples of this split."""
    where: str | None = None
    """Only the samples for which this SQL expression over the index holds."""
    limit: Annotated[int, Field(gt=0)] | None = None
    """At most this many samples, drawn at random."""
    focal_px: Focal | None = None
    """The focal length that images are unified to as they are read: only of shards built with `--store original`."""
    align: Literal["crop", "pad", "none"] | None = None
    """How their sizes become multiples of 32; both as built where they are not given."""

    @model_validator(mode="after")
    def _is_one_of_the_two(self) -> Self:
        if self.datasets is None:
            if self.shards is None and self.size is None:
                raise ValueError("needs `shards` (a finished dataset) or, for planning, `size`; a group, `datasets`")
            if self.weighting is not None:
                raise ValueError("`weighting` is for groups, which have `datasets`")
            return self
        if not self.datasets:
            raise ValueError("a group needs at least one dataset")
        own = sorted(self.model_fields_set - {"datasets", "weight", "repeat", "weighting"})
        if own:
            raise ValueError(f"a group has no `{own[0]}`; give it to its datasets")
        return self


class Stage(Config):
    """A part of the run with weights of its own."""

    until: Annotated[float, Field(gt=0, le=1)]
    """Where the stage ends, as a share of the run's `samples`; it begins where the one before ends."""
    weights: dict[str, Weight]
    """New weights by name (`group/dataset` inside a group); the others keep theirs."""
    ramp: bool = False
    """Whether the shares change evenly from those before to these during the stage, or at once at its beginning."""


class CacheSpec(Config):
    """Where this machine keeps what it read from remote stores."""

    directory: str
    """On a local disk; `~` and `$NAME` of the environment are filled in."""
    limit_gb: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """In 10^9 bytes, for all who share the directory; what was not used for longest makes room."""


class MixtureSpec(Config):
    """A mixture, closed: an unknown key is an error that names the file and the choices."""

    seed: int = 0
    datasets: Annotated[dict[Name, Entry], Field(min_length=1)]
    samples: Annotated[int, Field(gt=0)] | None = None
    """Planned length of the run: `mix show`, UniMax and a `schedule` need it."""
    weighting: dict[str, Any] = {"scheme": "explicit"}
    schedule: tuple[Stage, ...] = ()
    """Weights that change over the run."""
    cache: CacheSpec | None = None
    """Without it, what comes over a network is read anew every epoch."""
    read_ahead: Annotated[int, Field(gt=0)] = 64
    """Samples of remote stores that each reading process fetches before they are needed (at most 256 MB of them)."""
    max_bad: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.001
    """Damaged samples that a dataset may have: a share of those read, and a few besides; from 1 on a number; or 0."""
    focal_px: Focal | None = None
    align: Literal["crop", "pad", "none"] | None = None
    """How all datasets' images are unified that do not say otherwise, and whose shards hold the source's own."""

    @model_validator(mode="after")
    def _stages_follow_each_other(self) -> Self:
        if self.schedule and self.samples is None:
            raise ValueError("`schedule` needs `samples`, the length of the run")
        ends = [stage.until for stage in self.schedule]
        if any(later <= earlier for earlier, later in pairwise(ends)):
            raise ValueError("`schedule`: each stage must end after the one before")
        known = {path for path, _ in walk(self.datasets)}
        for stage in self.schedule:
            for name in sorted(set(stage.weights) - known):
                raise ValueError(f"`schedule`: unknown dataset {name!r}; known: {', '.join(sorted(known))}")
        return self


def walk(entries: Mapping[str, Entry], above: str = "") -> Iterator[tuple[str, Entry]]:
    """Yield every entry with its path, a group before its members: `indoor`, `indoor/scannet`, ..."""
    for name, entry in entries.items():
        path = f"{above}{name}"
        yield path, entry
        if entry.datasets is not None:
            yield from walk(entry.datasets, f"{path}/")


def read_spec(path: str) -> Any:
    """Return the values of a mixture's file, with those of the file it `extends` beneath them.

    Mappings are merged key by key, so that a dataset may change its weight alone; `null` takes a dataset out.
    Raises UserError, also for files that extend each other in a circle.
    """
    return _without_nulls(_read(path, ()))


def _read(path: str, below: tuple[str, ...]) -> Any:
    values = read_yaml(path)
    if not isinstance(values, dict) or "extends" not in values:
        return values
    base = values.pop("extends")
    if not isinstance(base, str) or not base:
        raise UserError(f"{path}: extends: must be the path of a mixture, not {base!r}")
    if "://" not in base:
        base = posixpath.normpath(posixpath.join(posixpath.dirname(path), base))
    if base in (*below, path):
        raise UserError(f"{path}: extends: goes in a circle: {' -> '.join([*below, path, base])}")
    try:
        beneath = _read(base, (*below, path))
    except UserError as error:
        raise UserError(f"{path}: extends: {error}") from error
    if not isinstance(beneath, dict):
        raise UserError(f"{path}: extends: {base} is not a mapping")
    return _merged(beneath, values)


def _merged(beneath: dict[Any, Any], above: dict[Any, Any]) -> dict[Any, Any]:
    merged = dict(beneath)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        # A scheme's options mean nothing to another scheme.
        merged[key] = _merged(merged[key], value) if both and key != "weighting" else value
    return merged


def _without_nulls(values: Any) -> Any:
    if isinstance(values, dict) and isinstance(values.get("datasets"), dict):
        kept = {name: _without_nulls(entry) for name, entry in values["datasets"].items() if entry is not None}
        return values | {"datasets": kept}
    return values
