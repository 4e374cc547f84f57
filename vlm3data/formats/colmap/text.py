"""Lines of COLMAP's text files: words, with the file and the line in every complaint."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vlm3data.types import UserError


@dataclass(frozen=True, slots=True)
class Row:
    """The words of one line."""

    words: list[bytes]
    where: str

    def error(self, problem: str) -> UserError:
        """Return the complaint about this line."""
        return UserError(f"{self.where}: {problem}")

    def word(self, column: int) -> str:
        """Return a word as text."""
        if column >= len(self.words):
            raise self.error(f"{len(self.words)} words, at least {column + 1} are needed")
        return self.words[column].decode("utf-8", "backslashreplace")

    def integer(self, column: int) -> int:
        """Return a word as an integer of at most 64 bits."""
        word = self.word(column)
        if not word.isascii() or not word.removeprefix("-").isdigit() or len(word) > 19 or int(word) >= 2**63:
            raise self.error(f"{word[:40]!r} is no whole number")
        return int(word)

    def floats(self, first: int, end: int) -> tuple[float, ...]:
        """Return the words `first` to `end` - 1 as numbers."""
        self.word(end - 1)
        try:
            return tuple(float(word) for word in self.words[first:end])
        except ValueError as error:
            raise self.error(str(error)) from error


class Rows:
    """The lines of a file that are neither blank nor comments."""

    def __init__(self, lines: Iterable[bytes], where: str) -> None:
        self._lines, self._where = lines, where

    def __iter__(self) -> Iterator[Row]:
        for number, line in enumerate(self._lines, 1):
            if words := words_of(line):
                yield Row(words, f"{self._where}: line {number}")


def words_of(line: bytes) -> list[bytes]:
    """Return the words of a line; none of a comment."""
    words = line.split()
    return [] if words and words[0].startswith(b"#") else words
