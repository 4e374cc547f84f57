"""What the documentation tells a reader to type, and the files it tells them to write."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHELLS = {"sh", "bash", "console"}
FENCE = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^>]+?) -->\n+)?```(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    language: str
    title: str
    """The name of a file that holds it, where the page gives one."""
    text: str
    reason: str
    """Why its commands are not run; empty where they are."""
    section: str
    """The heading it stands under."""

    def lines(self) -> list[str]:
        """Return its commands, one a line, without comments; of a console those behind `$`."""
        text = self.text.replace("\\\n", " ")
        if self.language == "console":
            text = "\n".join(line[2:] for line in text.splitlines() if line.startswith("$ "))
        return [line for line in text.splitlines() if words(line)]


def words(line: str) -> list[str]:
    """Return the words of a command."""
    return shlex.split(line, comments=True)


def pages() -> list[Path]:
    """Return every page a reader may open, the front page first."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    found = []
    text = page.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        language, _, rest = match["info"].partition(" ")
        title = re.search(r'title="([^"]+)"', rest)
        section = re.findall(r"^##+ (.+)$", text[: match.start()], re.MULTILINE)[-1:]
        found.append(
            Block(
                page.name, language, title[1] if title else "", match["text"], match["reason"] or "", *section or [""]
            )
        )
    return found
