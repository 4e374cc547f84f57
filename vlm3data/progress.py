"""How far something long is: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

LOG_EVERY_S = 30.0
"""Where stderr is no terminal, a line each time this long has passed; what is done sooner leaves none."""

Progress = Callable[[int, int], None]
"""Told how many of how many are done."""


@contextmanager
def progress_bar(title: str) -> Generator[Progress]:
    """Show on stderr how many are done, how many a second, and how long the rest will take."""
    if not sys.stderr.isatty():
        yield _lines(title, time.monotonic)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    counts = (MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeElapsedColumn())
    with Bar(TextColumn(title), BarColumn(None), *counts, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None, rate="")
        speed = _Speed(time.monotonic)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, rate=speed.text(done, total))

        yield show


def _lines(title: str, clock: Callable[[], float]) -> Progress:
    speed, last_s = _Speed(clock), clock()

    def show(done: int, total: int) -> None:
        nonlocal last_s
        text = speed.text(done, total)
        if clock() - last_s >= LOG_EVERY_S:
            last_s = clock()
            share = f" ({done / total:.0%})" if total else ""
            print(f"{title}: {done:,}/{total:,}{share}  {text}", file=sys.stderr, flush=True)

    return show


class _Speed:
    """What was done before, by an earlier run, is not this run's speed."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._began_s, self._before = clock, clock(), -1

    def text(self, done: int, total: int) -> str:
        """Return the rate and the time left, as far as they can be told."""
        if self._before < 0:
            self._before = done
        took_s, here = self._clock() - self._began_s, done - self._before
        if here <= 0 or took_s <= 0:
            return ""
        rate = here / took_s
        shown = f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s" if rate >= 0.1 else f"{rate * 60:.1f}/min"
        return f"{shown}, {_duration((total - done) / rate)} left"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
