"""The build that a dataset's own `dataset.json` describes, so that it can be repeated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vlm3data import registry
from vlm3data.build_config import FORMAT, BuildConfig, about_config, open_tasks
from vlm3data.storage import absolute
from vlm3data.types import UserError
from vlm3data.wording import PACKS

_PLUGINS = ("tasks", "options", "calibrator", "calibrator_options")


def recorded_build(about: Mapping[str, Any], root: str, given: Mapping[str, Any]) -> BuildConfig:
    """Return the config of the dataset that `about` (its dataset.json) describes, reading from `root`.

    `given` are options of the source or the tasks to take in place of the recorded ones: paths to files that now lie
    elsewhere. Raises UserError where this version of vlm3, or its wordings, would not build the same.
    """
    said = about["config"]
    if said["format"] != FORMAT:
        raise UserError(
            f"these shards were written in format {said['format']}, and this version of vlm3 builds format {FORMAT}: "
            "verify --deep needs the version that built them"
        )
    values = {key: said[key] for key in BuildConfig.model_fields if key in said and key not in _PLUGINS}
    of_source = registry.load("source", said["source"]).Options.model_fields
    values["root"] = absolute(root)
    values["options"] = said["options"] | {key: given[key] for key in given if key in of_source}
    values["tasks"] = {name: _task_options(name, recorded, given) for name, recorded in said["tasks"].items()}
    if calibrator := said.get("calibrator"):
        known = registry.load("calibrator", calibrator["name"]).Options.model_fields
        values["calibrator"] = calibrator["name"]
        values["calibrator_options"] = {key: calibrator[key] for key in calibrator if key in known}
    config = BuildConfig.check(values, where="dataset.json")
    now = about_config(config, open_tasks(config))
    for key in ("tasks", "calibrator"):
        if not given and now.get(key) != said.get(key):
            raise UserError(
                f"these shards were built with {key} {said.get(key)}, and this version of vlm3 has {now.get(key)}: "
                "verify --deep needs the version that built them"
            )
    return config


def _task_options(name: str, recorded: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a task; of its wordings a dataset records the digest, which says which pack it was."""
    task = registry.load("task", name)
    known = task.Options.model_fields
    options = {key: recorded[key] for key in recorded if key in known and key != "wordings"}
    options |= {key: given[key] for key in given if key in known}
    if "wordings" not in recorded or "wordings" in options:
        return options
    for pack in ("", *sorted(map(str, PACKS.glob("*.yaml")))):
        try:
            opened = task(task.Options.check(options | {"wordings": pack}, where=f"task {name}"))
        except UserError:
            continue  # a pack of another task
        if opened.about()["wordings"] == recorded["wordings"]:
            return options | {"wordings": pack}
    raise UserError(f"the {name} questions are worded by no pack of this version: name theirs with --wordings FILE")
