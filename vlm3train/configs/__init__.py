"""Settings of `vlm3train sft` that come along: the paper's runs, and what of them fits one GPU."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from vlm3data.config import read_yaml
from vlm3data.types import UserError


def read_config(name: str) -> Any:
    """Return the values of a YAML file, or of the settings of this name; raise UserError where there is neither."""
    if Path(name).exists():
        return read_yaml(name)
    here = resources.files(__name__)
    known = sorted(entry.name.removesuffix(".yaml") for entry in here.iterdir() if entry.name.endswith(".yaml"))
    if name not in known:
        raise UserError(f"{name}: there is no such file; settings that come along: {', '.join(known)}")
    with resources.as_file(here / f"{name}.yaml") as path:
        return read_yaml(str(path))
