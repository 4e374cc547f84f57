"""What a model's training labels were, written beside it as vlm3.json: which focal length, depth, grid and wordings.

Whoever asks the model later must ask in the same way. What the mixture's datasets do not agree on is null.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vlm3data.config import Config
from vlm3data.types import DepthKind, UserError

if TYPE_CHECKING:
    from vlm3data.mixture import Mixture
    from vlm3data.shards import Dataset

FILE = "vlm3.json"


class LabelFacts(Config):
    """None where it is unknown, or where datasets differ."""

    focal_px: float | None = None
    focal_mode: Literal["uniform", "square", "none"] | None = None
    align: Literal["crop", "pad", "none"] | None = None
    published: bool | None = None
    label_depth: DepthKind | None = None
    depth_grid: int | None = None
    depth_wordings: str | None = None
    """The digest of the depth task's wording pack."""
    tasks: tuple[str, ...] = ()
    datasets: dict[str, str] = {}
    """The mixture's datasets: name and fingerprint."""


SHAPING = ("focal_px", "focal_mode", "align", "published", "label_depth", "depth_grid", "depth_wordings")


def write_label_facts(out: str | Path, mixture: Mixture) -> None:
    """Write vlm3.json into the model's directory `out`, from the datasets of the `mixture` it was trained on."""
    datasets = {part.name.partition("#")[0]: part.dataset for part in mixture.parts if part.dataset is not None}
    told = [facts_of(dataset.about["config"] | _unified(dataset)) for dataset in datasets.values()]
    depth = [facts for facts in told if "depth" in facts.tasks]
    agreed = {}
    for name in SHAPING:
        values = {getattr(facts, name) for facts in (depth if name.startswith("depth_") else told)}
        agreed[name] = values.pop() if len(values) == 1 else None
    facts = LabelFacts(
        **agreed,
        tasks=tuple(sorted({task for facts in told for task in facts.tasks})),
        datasets={name: dataset.fingerprint for name, dataset in datasets.items()},
    )
    Path(out).mkdir(parents=True, exist_ok=True)
    (Path(out) / FILE).write_text(facts.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_label_facts(model: str) -> LabelFacts:
    """Return what lies beside the model; all unknown where nothing does."""
    path = Path(model) / FILE
    if not path.exists():
        return LabelFacts()
    try:
        return LabelFacts.check(json.loads(path.read_text(encoding="utf-8")), where=str(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is damaged ({error}); delete it, and say with flags what it said") from error


def facts_of(config: Mapping[str, Any]) -> LabelFacts:
    """Return the facts of one dataset, from the config in its dataset.json."""
    depth = config["tasks"].get("depth", {})
    return LabelFacts(
        **{name: config[name] for name in ("focal_px", "focal_mode", "align", "published", "label_depth")},
        depth_grid=depth.get("grid"),
        depth_wordings=depth.get("wordings"),
        tasks=tuple(sorted(config["tasks"])),
    )


def _unified(dataset: Dataset) -> dict[str, Any]:
    """Return what the mixture says of how images are seen, where the build does not have the last word."""
    return {name: value for name, value in dataset.unify._asdict().items() if value is not None}


def differences(model: LabelFacts, data: LabelFacts) -> list[str]:
    """Return in words what a model's labels and a dataset's differ in; wordings may, for all are asked in English."""
    return [
        f"{name} is {getattr(data, name)}, the model was trained with {getattr(model, name)}"
        for name in SHAPING
        if name != "depth_wordings"
        and None not in (getattr(model, name), getattr(data, name))
        and getattr(model, name) != getattr(data, name)
    ]
