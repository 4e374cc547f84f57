"""The small text files around a ScanNet scan: matrices, and lists of `key = value`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from vlm3data.types import Float64Array, UserError

_WINDOWS_INFINITY = {"-1.#INF": "-inf", "1.#INF": "inf", "-1.#IND": "nan", "1.#QNAN": "nan", "-1.#QNAN": "nan"}
"""How programs built on Windows, ScanNet's tools among them, print what is not finite."""


def parse_matrix(text: str, where: str) -> Float64Array:
    """Return the (4, 4) matrix of 16 numbers in rows, which may be infinite or NaN; errors begin with `where`."""
    words = text.split()
    if len(words) != 16:
        raise UserError(f"{where}: {len(words)} words where a 4x4 matrix has 16 numbers")
    try:
        numbers = [float(_WINDOWS_INFINITY.get(word.rstrip("0"), word)) for word in words]
    except ValueError as error:
        raise UserError(f"{where}: not a matrix of numbers: {error}") from error
    return np.array(numbers, np.float64).reshape(4, 4)


def format_matrix(matrix: npt.ArrayLike) -> str:
    """Return a 4x4 matrix as four lines with six decimals, as the exporters write it."""
    return "".join(" ".join(f"{value:.6f}" for value in row) + "\n" for row in np.asarray(matrix, float))


def parse_values(data: bytes, where: str) -> dict[str, str]:
    """Return a file's lines of `key = value`; blank lines are nothing, others a UserError that begins with `where`."""
    values: dict[str, str] = {}
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        key, equals, value = line.partition("=")
        if equals:
            values[key.strip()] = value.strip()
        elif line.strip():
            raise UserError(f"{where}: line {number} is not 'key = value'")
    return values


def format_values(values: Mapping[str, object]) -> str:
    """Return lines of `key = value`; matrices become one line of numbers."""
    return "".join(f"{key} = {_format_value(value)}\n" for key, value in values.items())


def _format_value(value: object) -> str:
    if isinstance(value, np.ndarray):
        return " ".join(f"{number:.6f}" for number in value.ravel().tolist())
    return f"{value:.6f}" if isinstance(value, float) else str(value)
