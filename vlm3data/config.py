"""Closed configs: frozen, and a mistake in one is a single line that names the file, the key and the choices."""

from __future__ import annotations

from pathlib import Path
from types import UnionType
from typing import Any, Self, Union, get_args, get_origin

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


def read_yaml(path: str | Path) -> Any:
    """Return the plain data of a YAML file; an unreadable file is a `UserError`."""
    try:
        with fsspec.open(str(path), "r", encoding="utf-8") as file:
            return yaml.load(file, Loader=_Loader)  # pyright: ignore[reportArgumentType]
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file") from error
    except (IsADirectoryError, PermissionError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as YAML: {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}: not valid YAML{line}: {getattr(error, 'problem', error)}") from error


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which lets the last of two equal keys win in silence, made to refuse them."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key, (key_node, _) in zip(keys, node.value, strict=True):
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} appears twice", key_node.start_mark)
        return super().construct_mapping(node, deep)


def explain(error: ValidationError, model: type[BaseModel], where: str) -> str:
    """Return the first mistake of a failed validation in one line, and how many more there are."""
    details = error.errors()
    # a misspelt key explains the missing one, so it comes first
    first = min(details, key=lambda detail: detail["type"] != "extra_forbidden")
    key = ".".join(str(part) for part in first["loc"]) or "the file"
    if first["type"] == "extra_forbidden":
        message = f"unknown key; known: {', '.join(_keys_at(model, first['loc'][:-1]))}"
    else:
        message = first["msg"].removeprefix("Value error, ")
        if not isinstance(first["input"], dict | list):
            message += f" (found {first['input']!r})"
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    if not first["loc"] and first["type"] == "value_error":  # about several keys at once: the message names them
        return f"{where}: {message}{more}"
    return f"{where}: {key}: {message}{more}"


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
