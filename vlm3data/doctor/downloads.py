"""What a source's owner distributes: data beside the source, in `downloads/<name>.yaml`."""

from __future__ import annotations

import sys
from pathlib import Path

from vlm3data import registry
from vlm3data.config import Config


class File(Config):
    """Files that belong together."""

    path: str
    """Below each of the form's directories; * in a name, `{name}` for the directory's own name, a | b for either."""
    what: str
    count: int | None = None
    """How many there are in a whole download, for each directory."""
    archive: str = ""
    """What they are downloaded in."""
    without: str = ""
    """What does not work where they are missing; empty: nothing does."""


class Form(Config):
    """One of the forms, or versions, that a dataset is distributed in."""

    name: str
    when: str
    """The form is there where this is, below the root; * in names."""
    size: str = ""
    """Of the whole download, as far as it is known."""
    page: str = ""
    each: str = "."
    """The directories that hold `files` each, below the root; * in names."""
    count: int | None = None
    """How many such directories a whole download has."""
    splits: tuple[str, ...] = ()
    files: tuple[File, ...] = ()


class Mistake(Config):
    """What people do, and how it shows."""

    there: str
    """A path that then exists below the root; * in names."""
    but_not: str = ""
    """And one that does not."""
    say: str


class Downloads(Config):
    """A dataset as its owner distributes it."""

    owner: str
    page: str
    licence: str
    root: str
    """What --root should name."""
    forms: tuple[Form, ...]
    mistakes: tuple[Mistake, ...] = ()
    by_hand: str = ""
    """An option with which a user says how files are named; with it, none of the forms need be there."""

    @classmethod
    def of(cls, source: str) -> Downloads | None:
        """Return the description beside the source's module; None where it has none."""
        module = sys.modules[registry.load("source", source).__module__]
        path = Path(module.__file__ or "").parent / "downloads" / f"{source}.yaml"
        return cls.load(path) if path.exists() else None
