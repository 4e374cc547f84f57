"""Where records begin whose length is written inside them: each must be read to find the next.

Five million steps of Python take seconds. Here some hundred walkers go at once, in numpy, from places that look like
the beginning of a record; a walk counts only once the walk before it has arrived exactly where it set out, so that
the result is that of one walk from the first record, whatever the others took for one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vlm3data.types import Int64Array

_WALKERS = 512
_FEW = 16
"""With fewer walkers a step of numpy is not worth its while."""
_LOOKAHEAD = 4
"""So many records in a row must look like records for a walker to set out."""
_PLAUSIBLE = 2000
"""Longer variable parts are read like any other, but not looked for."""


def record_starts(block: bytes, limit: int, head: int, count_at: int, element: int) -> tuple[Int64Array, int]:
    """Return the starts of the whole records from the first byte on, `limit` at most, and the byte after the last.

    A record has `head` bytes, of which the eight at `count_at` are the number of elements that follow, of `element`
    bytes each.
    """
    if len(block) < head:
        return np.zeros(0, np.int64), 0
    count = np.ndarray((len(block) - count_at - 7,), "<u8", block, count_at, (1,))
    last = len(block) - head
    begins = _set_out(count, last, head, element)
    walks = _walk(count, begins, last, head, element) if len(begins) >= _FEW else [begins[:1]]
    starts: list[Int64Array] = []
    at = 0
    for begin, walk in zip(begins.tolist(), walks, strict=False):
        if at < begin:  # the walk before never got here
            alone, at = _walk_alone(count, at, begin, last, head, element)
            starts.append(alone)
        if at == begin:  # else this one set out from what only looked like a record
            starts.append(walk[:-1])
            at = int(walk[-1])
    alone, at = _walk_alone(count, at, last + 1, last, head, element)
    joined = np.concatenate([*starts, alone])
    return (joined[:limit], int(joined[limit])) if len(joined) > limit else (joined, at)


def _walk_alone(count: np.ndarray, at: int, bound: int, last: int, head: int, element: int) -> tuple[Int64Array, int]:
    """Return the starts of the whole records from `at` on that are before `bound`, and where the next would begin."""
    starts: list[int] = []
    while at < bound and at <= last:
        following = at + head + int(count[at]) * element
        if following > last + head:
            break
        starts.append(at)
        at = following
    return np.array(starts, np.int64), at


def _set_out(count: np.ndarray, last: int, head: int, element: int) -> Int64Array:
    """Return where walkers begin, rising: at the first byte, and wherever records seem to follow each other."""
    window = head + 64 * element
    walkers = max(1, min(_WALKERS, last // (4 * window)))
    cuts = np.arange(1, walkers) * (last // walkers)
    place = cuts[:, None] + np.arange(window)
    walker, at = np.nonzero(_plausible(count, np.minimum(place, last)) & (place <= last))
    begin = at = place[walker, at]
    for _ in range(_LOOKAHEAD):
        right = (at <= last) & _plausible(count, np.minimum(at, last))
        walker, begin, at = walker[right], begin[right], at[right]
        at = at + head + element * count[at].astype(np.int64)
    _, foremost = np.unique(walker, return_index=True)
    return np.concatenate([[0], begin[foremost]])


def _plausible(count: np.ndarray, at: Int64Array) -> npt.NDArray[np.bool_]:
    return count[at] - np.uint64(1) < np.uint64(_PLAUSIBLE)  # of 0 the difference is huge


def _walk(count: np.ndarray, begins: Int64Array, last: int, head: int, element: int) -> list[Int64Array]:
    """Return per walker the starts of its records, up to the first that is not before the next walker's begin."""
    size = last + head
    bound = np.append(begins[1:], last + 1)
    at, steps = begins.copy(), [begins]
    walking = at < bound
    while walking.any():
        number = count[np.minimum(at, last)]
        fits = number <= (size - head) // element
        following = at + head + element * np.where(fits, number, 0).astype(np.int64)
        walking &= fits & (following <= size)
        at = np.where(walking, following, at)
        walking &= at < bound
        steps.append(at)
    table = np.stack(steps, axis=1)
    moved = np.diff(table, axis=1) > 0
    return [row[: 1 + int(moves.sum())] for row, moves in zip(table, moved, strict=True)]
