"""Flags that belong to a plugin rather than to a command: which there are, and who takes which."""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping
from contextlib import contextmanager
from typing import Any

from pydantic import ValidationError

from vlm3data import registry
from vlm3data.command import UnknownFlagError, UsageError
from vlm3data.errors import UserError

Taker = tuple[dict[str, Any], dict[str, Any]]
"""The flags that a plugin knows (`options_of`), and those that it has been given."""


def known_names(kind: str, given: list[str]) -> list[str]:
    """Return `given`, without spaces around; a name that `kind` does not have is a mistake on the command line."""
    given = [name.strip() for name in given]
    for name in given:
        if name not in registry.names(kind):
            raise UsageError(f"unknown {kind} {name!r}; known: {', '.join(registry.names(kind))}")
    return given


def options_of(kind: str, name: str) -> dict[str, Any]:
    """Return the flags of a plugin: name -> default and what it does."""
    fields = registry.load(kind, name).Options.model_fields
    return {
        key: {"default": field.get_default(call_default_factory=True), "help": field.description or ""}
        for key, field in fields.items()
    }


@contextmanager
def from_flags(flags: Collection[str] | None = None) -> Generator[None]:
    """Make a value that a config refuses bad usage: where one of these flags gave it, or whatever it is (None)."""
    try:
        yield
    except UserError as error:
        cause = error.__cause__
        refused = (
            {str(one["loc"][0]) for one in cause.errors() if one["loc"]} if isinstance(cause, ValidationError) else ()
        )
        if flags is None or not set(flags).isdisjoint(refused):
            raise UsageError(str(error)) from error
        raise


def check_options(kind: str, name: str, given: Mapping[str, Any]) -> None:
    """Refuse a value that a flag of a plugin cannot have, before anything is opened."""
    with from_flags():
        registry.load(kind, name).Options.check(given, where=f"{kind} {name}")


def assign_options(
    source: str, tasks: list[str], calibrator: str | None, options: dict[str, str]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]], dict[str, Any]]:
    """Hand each extra flag to the source, tasks and calibrator that have it; nobody's flag is a mistake."""
    for_source: dict[str, Any] = {}
    for_calibrator: dict[str, Any] = {}
    for_tasks: dict[str, dict[str, Any]] = {task: {} for task in tasks}
    takers: list[Taker] = [(options_of("source", source), for_source)]
    takers += [(options_of("task", task), for_tasks[task]) for task in tasks]
    if calibrator is not None:
        takers.append((options_of("calibrator", calibrator), for_calibrator))
    for flag, value in options.items():
        take(flag, value, takers, f"{source} and its tasks know")
    return for_source, for_tasks, for_calibrator


def take(flag: str, value: str, takers: list[Taker], who_knows: str) -> None:
    """Give a flag to every taker that has it."""
    key = flag.replace("-", "_")
    taking = [(known, taken) for known, taken in takers if key in known]
    if not taking:
        raise UnknownFlagError(
            flag, who_knows, sorted({name.replace("_", "-") for known, _ in takers for name in known})
        )
    for known, taken in taking:
        taken[key] = value.split(",") if isinstance(known[key]["default"], tuple) else value
