"""What a study compares: mixtures, models and budgets, each run the same but for these."""

from __future__ import annotations

import hashlib
import json
import re
from itertools import product
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self

import numpy as np
from pydantic import Field, field_validator, model_validator

from vlm3data.config import Config
from vlm3data.mixture import Mixture
from vlm3data.mixture_spec import read_spec
from vlm3data.randomness import rng_for
from vlm3data.types import UserError
from vlm3train.controls import is_error
from vlm3train.sft import SftConfig

VARIED = ("model", "mixture", "out", "steps", "resume")
"""Settings of a run that the study itself gives."""


class Drawn(Config):
    """Mixtures drawn at random: the weights of one file replaced by shares from a Dirichlet distribution."""

    mixture: str
    """The file whose datasets are weighted anew."""
    runs: Annotated[int, Field(gt=0)]
    concentration: Annotated[float, Field(gt=0)] = 1.0
    """Of the distribution, per dataset: 1 draws evenly from all mixtures, more stays nearer to equal shares."""
    seed: int = 0


class Grid(Config):
    """Every combination of some weights."""

    mixture: str
    """The file whose weights are replaced."""
    weights: Annotated[dict[str, list[Annotated[float, Field(ge=0)]]], Field(min_length=1)]
    """Per dataset (its path in the mixture) the weights to try."""


class Evaluation(Config):
    """What every model is scored on."""

    shards: Annotated[list[str], Field(min_length=1)]
    train_shards: list[str] = []
    """What the guesses are fitted on that stand beside the scores in every run's eval.json."""
    limit: Annotated[int, Field(gt=0)] | None = None
    """Samples of each."""
    questions_per_image: Annotated[int, Field(gt=0)] = 10
    batch_size: Annotated[int, Field(gt=0)] = 64
    max_new_tokens: Annotated[int, Field(gt=0)] = 64
    metric: str = "delta1"
    """A run's score is the mean of this metric, a share of right answers, over all datasets (and tasks) with it."""

    @field_validator("metric")
    @classmethod
    def _is_a_share(cls, metric: str) -> str:
        # More of an error is no better score, and an answer that does not parse has none.
        if is_error(metric):
            raise ValueError("is an error, and a study looks for the highest score: take a share, such as within_3px")
        return metric


class StudySpec(Config):
    """A study, closed: an unknown key is an error that names the choices."""

    models: Annotated[list[str], Field(min_length=1)]
    """Directories or hub names; more than one compares sizes."""
    steps: Annotated[list[Annotated[int, Field(gt=0)]], Field(min_length=1)]
    """Budgets, in optimizer steps; more than one shows how the order of mixtures changes with the budget."""
    mixtures: dict[str, str] = {}
    """Name -> file."""
    drawn: Drawn | None = None
    grid: Grid | None = None
    train: dict[str, Any] = {}
    """What else `vlm3train sft` is told, the same for every run."""
    evaluate: Evaluation

    @model_validator(mode="after")
    def _has_something_to_compare(self) -> Self:
        if not (self.mixtures or self.drawn or self.grid):
            raise ValueError("needs `mixtures`, `drawn` or `grid`")
        if taken := sorted(set(self.train) & set(VARIED)):
            raise ValueError(f"`train` may not set {taken[0]}: the study does")
        if unknown := sorted(set(self.train) - set(SftConfig.model_fields)):
            raise ValueError(f"`train`: {unknown[0]} is no setting of `vlm3train sft`, whose --help lists them")
        return self


class Run(NamedTuple):
    """One training run of a study, and where it goes."""

    name: str
    mixture_name: str
    mixture: dict[str, Any]
    """The mixture's whole file, as plain values."""
    model: str
    steps: int
    digest: str
    """Of everything that shapes the run and its score."""


def runs_of(spec: StudySpec) -> list[Run]:
    """Return the runs, in order; raise UserError for a mixture that cannot be read."""
    runs = []
    for (name, mixture), steps, model in product(mixtures_of(spec).items(), spec.steps, spec.models):
        parts = [name, f"{steps}-steps"] + ([Path(model).name] if len(spec.models) > 1 else [])
        beneath = read_spec(mixture["extends"])  # so that a file that changed makes another run
        about = [beneath, mixture, steps, model, spec.train, spec.evaluate.model_dump()]
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
        runs.append(Run("-".join(map(_clean, parts)), name, mixture, model, steps, digest))
    return runs


def mixtures_of(spec: StudySpec) -> dict[str, dict[str, Any]]:
    """Return every mixture of the study, as plain values that stand by themselves."""
    found = {name: {"extends": str(Path(path).absolute())} for name, path in spec.mixtures.items()}
    if spec.grid is not None:
        for weights in product(*spec.grid.weights.values()):
            chosen = dict(zip(spec.grid.weights, weights, strict=True))
            name = "-".join(f"{dataset}={weight:g}" for dataset, weight in chosen.items())
            found[name] = reweighted(spec.grid.mixture, chosen)
    if spec.drawn is not None:
        datasets = datasets_of(Mixture.load(spec.drawn.mixture))
        for number in range(spec.drawn.runs):
            rng = rng_for(spec.drawn.seed, "study", number)
            shares = rng.dirichlet(np.full(len(datasets), spec.drawn.concentration))
            weights = dict(zip(datasets, np.round(shares, 6).tolist(), strict=True))
            found[f"drawn-{number:03d}"] = reweighted(spec.drawn.mixture, weights)
    return found


def reweighted(path: str, weights: dict[str, float]) -> dict[str, Any]:
    """Return a mixture that extends the file at `path` with other weights, by dataset path, for the whole run."""
    values: dict[str, Any] = {"extends": str(Path(path).absolute()), "weighting": {"scheme": "explicit"}}
    if read_spec(path).get("schedule"):
        values["schedule"] = []  # its stages' weights would take the place of these
    for dataset, weight in weights.items():
        *groups, leaf = dataset.split("/")
        _check_known(path, groups, leaf)
        place = values.setdefault("datasets", {})
        for group in groups:
            place = place.setdefault(group, {}).setdefault("datasets", {})
        place.setdefault(leaf, {})["weight"] = weight
    return values


def _check_known(path: str, groups: list[str], leaf: str) -> None:
    """Raise UserError where the mixture at `path` has no such dataset to weight."""
    there = read_spec(path)
    for name in [*groups, leaf]:
        there = (there.get("datasets") or {}) if isinstance(there, dict) else {}
        if name not in there:
            raise UserError(f"{path}: weights: there is no dataset {name!r}; known: {', '.join(map(str, there))}")
        there = there[name]


def datasets_of(mixture: Mixture) -> list[str]:
    """Return the names of the mixture's members at its top, groups as one."""
    return list(mixture.spec.datasets)


def _clean(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.=-]", "_", text)
