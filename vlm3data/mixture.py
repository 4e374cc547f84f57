"""A mixture: which datasets in which shares, from a YAML file that a person edits."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import Field, PrivateAttr, model_validator

from vlm3data import registry
from vlm3data.config import Config
from vlm3data.schedule import Leaf, Schedule
from vlm3data.shards import Dataset
from vlm3data.types import UserError


class MixtureDataset(Config):
    """One dataset of a mixture."""

    shards: str | None = None
    """URL of a finished dataset; a local path is relative to the working directory, as on the command line."""
    size: Annotated[int, Field(gt=0)] | None = None
    """Planned number of samples, for `mix show` before any shard exists."""
    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    pixels: Annotated[int, Field(gt=0)] = 10
    """Questions drawn per sample and epoch, out of those its shard holds (the paper: 10)."""

    @model_validator(mode="after")
    def _has_a_size(self) -> Self:
        if self.shards is None and self.size is None:
            raise ValueError("needs `shards` (a finished dataset) or, for planning, `size`")
        return self


class Weighting(Config):
    """How weights become shares."""

    scheme: str = "explicit"


class Mixture(Config):
    """A mixture spec, closed: an unknown key is an error that names the file and the choices."""

    seed: int = 0
    datasets: Annotated[dict[str, MixtureDataset], Field(min_length=1)]
    samples: Annotated[int, Field(gt=0)] | None = None
    """Planned length of the run, for `mix show`."""
    weighting: Weighting = Weighting()

    _where: str = PrivateAttr("mixture")

    @classmethod
    def check(cls, values: Any, where: str) -> Self:
        """Validate `values`; `where` they came from begins every message about them, later ones too."""
        mixture = super().check(values, where)
        mixture._where = where
        return mixture

    @cached_property
    def opened(self) -> Mapping[str, Dataset]:
        """Return the datasets that have shards, opened; a missing or half-built one is a `UserError`."""
        opened = {}
        for name, entry in self.datasets.items():
            try:
                if entry.shards is not None:
                    opened[name] = Dataset(entry.shards, name)
            except UserError as error:
                raise UserError(f"{self._where}: datasets.{name}: {error}") from error
        return opened

    @property
    def sizes(self) -> dict[str, int]:
        """Return the number of samples per dataset: of its shards, or as planned."""
        return {
            name: len(self.opened[name]) if name in self.opened else int(entry.size or 0)
            for name, entry in self.datasets.items()
        }

    @property
    def shares(self) -> list[float]:
        """Return p_d per dataset, in the order of the file."""
        try:
            scheme = registry.load("weighting", self.weighting.scheme)
            return list(scheme(self.datasets, self.sizes))
        except UserError as error:
            raise UserError(f"{self._where}: weighting: {error}") from error

    def schedule(self) -> Schedule:
        """Return the order of the stream; every dataset with a share needs shards with samples in them."""
        leaves, shares = [], []
        for (name, entry), share in zip(self.datasets.items(), self.shares, strict=True):
            if entry.shards is None:
                raise UserError(f"{self._where}: datasets.{name}: has only a planned size; give `shards` to stream it")
            if not len(self.opened[name]):
                raise UserError(f"{self._where}: datasets.{name}: there are no samples in {entry.shards}")
            shard_sizes = tuple(self.opened[name].shard_sizes.tolist())
            leaves.append(Leaf(name, self.opened[name].fingerprint, shard_sizes))
            shares.append(share)
        return Schedule(self.seed, shares, leaves)

    def lock(self) -> dict[str, Any]:
        """Return what the order of the stream follows from: a run that is resumed needs the same."""
        return {
            "seed": self.seed,
            "datasets": {
                name: {"share": share, "fingerprint": self.opened[name].fingerprint, "pixels": entry.pixels}
                for (name, entry), share in zip(self.datasets.items(), self.shares, strict=True)
            },
        }

    def plan(self, samples: int | None = None) -> list[dict[str, Any]]:
        """Return, per dataset, share, samples drawn, size and epochs over `samples` positions."""
        total = samples or self.samples
        rows = []
        for (name, entry), share, size in zip(self.datasets.items(), self.shares, self.sizes.values(), strict=True):
            drawn = None if total is None else share * total
            rows.append(
                {
                    "dataset": name,
                    "weight": entry.weight,
                    "share": share,
                    "size": size,
                    "samples": drawn,
                    "epochs": None if drawn is None or not size else drawn / size,
                    "shards": entry.shards,
                }
            )
        return rows
