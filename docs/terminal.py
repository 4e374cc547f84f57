"""Draws what commands print, as SVG: python docs/terminal.py (the files in docs/images/terminal_*.svg)."""

from __future__ import annotations

import io
import os
import pty
import subprocess
from pathlib import Path

from rich.console import CONSOLE_SVG_FORMAT, Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME
from rich.text import Text

IMAGES = Path(__file__).parent / "images"
SHOWN = {
    "mix_show": "vlm3data mix show mixtures/depth_paper.yaml",
    "sources": "vlm3data sources",
}
COLUMNS = 116


def main() -> None:
    for name, command in SHOWN.items():
        console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
        console.print(Text(f"$ {command}"))
        console.print(Text.from_ansi(printed(command)))
        svg = console.export_svg(title="", theme=DEFAULT_TERMINAL_THEME, code_format=frame())
        (IMAGES / f"terminal_{name}.svg").write_text(svg)


def printed(command: str) -> str:
    """Return what a command writes to a terminal of this width."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(COLUMNS), "TERM": "xterm-256color"}
    started = subprocess.Popen(command.split(), stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    parts = []
    try:
        while part := os.read(ours, 65536):
            parts.append(part)
    except OSError:  # the end, on Linux
        pass
    started.wait()
    return b"".join(parts).decode().replace("\r\n", "\n").rstrip()


def frame() -> str:
    """Return rich's own frame of an SVG, with fonts of the reader's machine in place of some from the network."""
    begin, end = CONSOLE_SVG_FORMAT.index("@font-face"), CONSOLE_SVG_FORMAT.rindex("@font-face")
    end = CONSOLE_SVG_FORMAT.index("}}", end) + 2
    whole = CONSOLE_SVG_FORMAT[:begin] + CONSOLE_SVG_FORMAT[end:]
    return whole.replace("Fira Code", "ui-monospace, DejaVu Sans Mono, Menlo, Consolas")


if __name__ == "__main__":
    main()
