"""Sources, tasks, calibrators and layouts, for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from vlm3data.terminal import open_console

SHOWN_FACTS = ("licence", "metric", "depth_kind", "depth_range_m", "pixel_centre", "splits")


def print_list(about: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Print a line for each plugin, cut to the width of the terminal."""
    console = open_console()
    widest = max(len(one["name"]) for some in about.values() for one in some)
    for kind, some in about.items():
        console.print(f"[bold]{kind}s[/]", markup=True)
        for one in some:
            line = f"  {one['name']:<{widest}}  {one['what']}"
            console.print(line, markup=False, highlight=False, no_wrap=True, overflow="ellipsis")
    console.print("\nvlm3data sources NAME says everything about one, its own flags included", soft_wrap=True)


def print_plugin(kind: str, one: Mapping[str, Any]) -> None:
    """Print everything that a plugin says of itself."""
    console = open_console()
    console.print(f"[bold]{kind} {one['name']}[/]", markup=True)
    console.print(_reflowed(one["text"]), markup=False, highlight=False)
    if downloads := one["downloads"]:
        about = Table(show_header=False, box=None)
        for name in ("owner", "page", "licence"):
            about.add_row(name, downloads[name])
        about.add_row("--root", downloads["root"])
        for form in downloads["forms"]:
            about.add_row("form", form["name"] + (f": {form['size']}" if form["size"] else ""))
        console.print()
        console.print(about)
    if one["facts"]:
        facts = Table(show_header=False, box=None)
        for name in SHOWN_FACTS:
            value = one["facts"][name]
            facts.add_row(
                name.replace("_", " "), ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
            )
        console.print()
        console.print(facts)
    if one["flags"]:
        flags = Table(title="flags", title_justify="left")
        for column in ("flag", "default", "what it does"):
            flags.add_column(column, overflow="fold")
        for flag, option in one["flags"].items():
            default = option["default"]
            shown = ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
            flags.add_row(f"--{flag.replace('_', '-')}", shown, option["help"])
        console.print()
        console.print(flags)
    console.print()


def _reflowed(text: str) -> str:
    """Return a docstring with its paragraphs as one line each; what is laid out by hand stays as it is."""
    paragraphs = text.split("\n\n")
    by_hand = [
        any(line.startswith((" ", "<", "-")) or "   " in line for line in one.splitlines()) for one in paragraphs
    ]
    return "\n\n".join(
        one if kept else " ".join(one.splitlines()) for one, kept in zip(paragraphs, by_hand, strict=True)
    )
