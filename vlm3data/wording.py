"""Wording packs: question and answer templates as data, so that no wording is baked into code.

A pack is a YAML file:

    wordings:
      - question: "How far is the point at ({x}, {y})?"
        answer: "{depth_m:.2f} meters"
        when: {depth_kind: z}          # optional: use it only for truths that agree
"""

from __future__ import annotations

import hashlib
import string
from collections.abc import Collection, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from vlm3data.config import Config
from vlm3data.types import UserError

PACKS = Path(__file__).parent / "wordings"
"""Our own packs, one file a task."""


class Wording(Config):
    """One way to ask and to answer."""

    question: str
    answer: str
    when: Mapping[str, str] = {}

    def fits(self, facts: Mapping[str, str]) -> bool:
        """Tell whether this wording is right for a truth with these `facts`."""
        return all(facts.get(key) == value for key, value in self.when.items())


class WordingPack(Config):
    """The wordings of one task."""

    wordings: Annotated[tuple[Wording, ...], Field(min_length=1)]

    @classmethod
    @lru_cache(maxsize=32)
    def open(cls, path: str, fields: Collection[str]) -> WordingPack:
        """Read the pack at `path`; its templates may use the placeholders `fields` and nothing else."""
        pack = cls.load(path)
        for number, wording in enumerate(pack.wordings):
            for part in ("question", "answer"):
                _check_placeholders(getattr(wording, part), fields, f"{path}: wordings.{number}.{part}")
        return pack

    @property
    def digest(self) -> str:
        """Return a digest of the wordings, wherever their file lies."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    def fitting(self, **facts: str) -> list[Wording]:
        """Return the wordings that fit `facts`; none is a mistake in the pack."""
        fitting = [wording for wording in self.wordings if wording.fits(facts)]
        if not fitting:
            raise UserError(f"the wording pack has no wording for {facts}")
        return fitting


def _check_placeholders(template: str, fields: Collection[str], where: str) -> None:
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise UserError(f"{where}: not a template: {error}") from error
    # Exact names only: `{x.attribute}` or `{x[0]}` would let a pack from a stranger look into our objects.
    used: list[tuple[Any, Any]] = [(name, spec) for _, name, spec, _ in parts if name is not None]
    for name, spec in used:
        if name not in fields or "{" in (spec or ""):
            raise UserError(f"{where}: unknown placeholder {{{name}}}; known: {', '.join(sorted(fields))}")
        try:
            format(1.0, spec or "")
        except ValueError as error:
            raise UserError(f"{where}: bad format {{{name}:{spec}}}: {error}") from error
