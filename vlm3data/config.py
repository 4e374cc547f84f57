"""Closed configs: frozen, and a mistake in one is a single line that names the file, the key and the choices."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from types import UnionType
from typing import Any, Self, TextIO, Union, cast, get_args, get_origin

import fsspec
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from vlm3data.errors import UserError


class Config(BaseModel):
    """Base of every config and of a plugin's options: frozen, and a misspelt key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read one YAML file at a path or URL; raise `UserError` with one line for whatever is wrong in it."""
        return cls.check(read_yaml(path), where=str(path))

    @classmethod
    def check(cls, values: Any, where: str) -> Self:
        """Validate `values`; errors begin with `where`, the file or the command they came from."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise UserError(explain(error, cls, where)) from error


LONGEST = 300
"""Characters of somebody's value that a message repeats."""
MAX_YAML = 1 << 22
"""Characters of a file that people write, and values in it with every alias written out."""

# What PyYAML raises on scalars that are not of the type they claim, and on nesting without end.
_ODD = (ValueError, LookupError, AttributeError, TypeError, OverflowError, RecursionError)


def read_yaml(path: str | Path) -> Any:
    """Return the plain data of a YAML file; an unreadable file is a `UserError`."""
    try:
        with fsspec.open(str(path), "r", encoding="utf-8") as file:
            text = cast(TextIO, file).read(MAX_YAML + 1)
        if len(text) > MAX_YAML:
            raise UserError(f"{path}: is longer than {MAX_YAML:,} characters; no such file is")
        return _plain(text)
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file") from error
    except IsADirectoryError as error:
        raise UserError(f"{path}: is a directory; name a YAML file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as YAML: {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", error)).split())
        raise UserError(f"{path}: not valid YAML{line}: {problem}") from error
    except _ODD as error:
        raise UserError(f"{path}: not valid YAML: {type(error).__name__}: {_short(str(error))}") from error


def _plain(text: str) -> Any:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _values(node, {}) > MAX_YAML:
            raise yaml.constructor.ConstructorError(None, None, "its aliases multiply", node.start_mark)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _values(node: yaml.Node, known: dict[yaml.Node, int]) -> int:
    """Return how many values a node holds where every alias is written out; `known` has those that were counted."""
    if node in known:
        if not known[node]:
            raise yaml.constructor.ConstructorError(None, None, "it holds itself", node.start_mark)
        return known[node]
    known[node] = 0  # until it is counted: then it was met within itself
    held = node.value if isinstance(node, yaml.SequenceNode) else ()
    held = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else held
    known[node] = 1 + sum(_values(part, known) for part in held)
    return known[node]


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which lets the last of two equal keys win in silence, made to refuse them."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable):  # the other keys are refused below
                if key in seen:
                    said = f"key {_short(repr(key))} appears twice"
                    raise yaml.constructor.ConstructorError(None, None, said, key_node.start_mark)
                seen.add(key)
        return super().construct_mapping(node, deep)


def explain(error: ValidationError, model: type[BaseModel], where: str) -> str:
    """Return the first mistake of a failed validation in one line, and how many more there are."""
    details = error.errors()
    # a misspelt key explains the missing one, so it comes first
    first = min(details, key=lambda detail: detail["type"] != "extra_forbidden")
    key = ".".join(str(part) for part in first["loc"]) or "the file"
    if first["type"] == "extra_forbidden":
        message = f"unknown key; known: {', '.join(_keys_at(model, first['loc'][:-1]))}"
    elif first["type"] == "missing" and first["loc"] and isinstance(first["loc"][-1], int):  # of a tuple
        key = ".".join(str(part) for part in first["loc"][:-1])
        message = f"has too few values (found {_short(repr(first['input']))})"
    elif first["type"] in ("dict_type", "model_type"):
        message = "is empty" if first["input"] is None else "must be lines of `key: value`"
    else:
        message = first["msg"].removeprefix("Value error, ")
        if not isinstance(first["input"], dict | list):
            message += f" (found {_short(repr(first['input']))})"
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    if not first["loc"] and first["type"] == "value_error":  # about several keys at once: the message names them
        return f"{where}: {message}{more}"
    return f"{where}: {key}: {message}{more}"


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _keys_at(model: Any, loc: tuple[int | str, ...]) -> list[str]:
    """Return the keys that the model at `loc` inside `model` knows."""
    for part in loc:
        if isinstance(model, type) and issubclass(model, BaseModel) and part in model.model_fields:
            model = model.model_fields[str(part)].annotation
        else:  # an entry of a mapping or a list: its value type comes last
            model = next(option for option in reversed(get_args(model)) if option is not ...)
        while get_origin(model) in (Union, UnionType):
            model = next(option for option in get_args(model) if option is not type(None))
    return list(model.model_fields) if hasattr(model, "model_fields") else []
