"""What is printed of data from strangers: no character in a name or a message controls the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

LINE_BREAKS = "\n\t"


def shown(text: str) -> str:
    """Return `text` with escapes, controls and changes of direction written out; line breaks and tabs are kept."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in LINE_BREAKS else ascii(one)[1:-1] for one in text)


def open_console() -> Console:
    """Return a console without markup, where what would control the terminal is written out.

    Its colours are ours alone: a line with markup says so (`markup=True`), and escapes what it repeats.
    """
    from rich.console import Console, ConsoleOptions, RenderHook, RenderResult
    from rich.control import Control
    from rich.segment import Segment

    class Shown:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
            for segment in console.render(self.inner, options):
                yield segment if segment.control else Segment(shown(segment.text), segment.style)

    class Hook(RenderHook):
        def process_renderables(self, renderables: Iterable[Any]) -> list[Any]:  # pyright: ignore
            return [one if isinstance(one, Control) else Shown(one) for one in renderables]

    console = Console(markup=False)
    console.push_render_hook(Hook())
    return console
