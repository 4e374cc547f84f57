"""Fetching samples before they are needed: the order is known, so the next ones can be on their way already."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

from vlm3data.shards import Dataset
from vlm3data.shards.read import runs

MOST_BYTES = 256 << 20
"""Held or on their way at a time, however many samples that is."""
MOST_REQUESTS = 32
"""At a time."""
THREAD = "vlm3-fetch"


class Wanted(NamedTuple):
    """What position `n` asks for: sample `place` of what is selected of a part, which is `sample` of its dataset."""

    n: int
    part: int
    epoch: int
    place: int
    sample: int
    dataset: Dataset


def fetch_ahead(wanted: Iterator[Wanted], samples: int) -> Generator[tuple[Wanted, bytes | None], None, None]:
    """Yield what is `wanted`, in order, with its bytes where they came over a network.

    At most `samples` are held or on their way. Closed early, the iterator waits for no request it can give up, and
    leaves no thread. An error is raised where the sample it belongs to would have come.
    """
    queue: deque[tuple[Wanted, Future[list[bytes]] | None, int]] = deque()
    held = 0
    closed = threading.Event()
    pool = ThreadPoolExecutor(min(samples, MOST_REQUESTS), thread_name_prefix=THREAD)
    try:
        while True:
            # By halves, so that there are enough at a time for neighbours to be among them.
            if 2 * len(queue) <= samples:
                chunk: list[Wanted] = []
                for item in islice(wanted, samples - len(queue)):
                    chunk.append(item)
                    held += _length(item)
                    if held > MOST_BYTES:
                        break
                queue += _request(pool, chunk, closed)
            if not queue:
                return
            item, future, place = queue.popleft()
            held -= _length(item)
            yield item, None if future is None else future.result()[place]
    finally:
        closed.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _length(item: Wanted) -> int:
    return 0 if item.dataset.is_local else item.dataset.where(item.sample).length


def _request(
    pool: ThreadPoolExecutor, chunk: Sequence[Wanted], closed: threading.Event
) -> list[tuple[Wanted, Future[list[bytes]] | None, int]]:
    """Send off requests for a chunk, the first needed first; return, in order, who is served by which, and as what."""
    of_dataset: dict[int, list[Wanted]] = {}
    for item in chunk:
        if not item.dataset.is_local:
            of_dataset.setdefault(id(item.dataset), []).append(item)
    groups: dict[tuple[int, int], list[int]] = {}
    for number, items in of_dataset.items():
        sample_at = {item.dataset.where(item.sample): item.sample for item in items}
        for run in runs(sample_at):
            together = [sample_at[place] for place in run]
            groups |= {(number, sample): together for sample in together}
    sent: dict[int, Future[list[bytes]]] = {}
    served: list[tuple[Wanted, Future[list[bytes]] | None, int]] = []
    for item in chunk:
        together = groups.get((id(item.dataset), item.sample))
        if together is None:
            served.append((item, None, 0))
            continue
        if id(together) not in sent:
            sent[id(together)] = pool.submit(item.dataset.fetch, together, closed)
        served.append((item, sent[id(together)], together.index(item.sample)))
    return served
