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
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from vlm3data.config import Config
from vlm3data.types import UserError

PACKS = Path(__file__).parent / "wordings"
"""Our own packs, by name."""


def pack_path(named: str, own: str) -> str:
    """Return where a wording pack lies: `named` is a path, a URL or the name of one of ours; `own` where it is empty.

    Raises UserError, with the names of ours, where nothing is there.
    """
    if not named:
        return str(PACKS / f"{own}.yaml")
    if "://" in named or Path(named).exists():
        return named
    ours = sorted(path.stem for path in PACKS.glob("*.yaml"))
    if (name := named.removesuffix(".yaml")) in ours:
        return str(PACKS / f"{name}.yaml")
    raise UserError(f"wordings {named}: there is no such file, and of our own packs only {', '.join(ours)}")


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
    def open(
        cls, path: str, fields: tuple[tuple[str, float | str], ...], facts: tuple[tuple[str, tuple[str, ...]], ...]
    ) -> WordingPack:
        """Read the pack at `path`.

        Its templates may use the placeholders in `fields` (each with an example value) and nothing else, its
        `when` the facts in `facts` (each with its possible values).
        """
        pack = cls.load(path)
        known = dict(facts)
        for number, wording in enumerate(pack.wordings):
            for part in ("question", "answer"):
                _check_placeholders(getattr(wording, part), dict(fields), f"{path}: wordings.{number}.{part}")
            for key, value in wording.when.items():
                where = f"{path}: wordings.{number}.when.{key}"
                if key not in known:
                    raise UserError(f"{where}: unknown key; known: {', '.join(known)}")
                if value not in known[key]:
                    raise UserError(f"{where}: unknown value {value!r}; known: {', '.join(known[key])}")
        for fact, values in facts:
            for value in values:
                if not any(wording.when.get(fact, value) == value for wording in pack.wordings):
                    raise UserError(f"{path}: wordings: there is none for {fact} {value}")
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


def _check_placeholders(template: str, fields: Mapping[str, float | str], where: str) -> None:
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
            format(fields[name], spec or "")
        except ValueError as error:
            raise UserError(f"{where}: bad format {{{name}:{spec}}}: {error}") from error
