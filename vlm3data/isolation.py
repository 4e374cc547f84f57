"""A shard's samples made in a process of their own, so that a frame which kills it costs one sample.

A native crash (a decoder that segfaults on a damaged file) takes its process along. The child says which sample it
begins, so it is known which one it died of; that one is tried again alone, in a fresh process each time, because what
killed it may have had nothing to do with it. Only what crashes each time is left out, and named in the manifest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

from vlm3data.build_config import BuildConfig
from vlm3data.candidates import Part, candidates_of
from vlm3data.shards import ShardTally
from vlm3data.types import Sample, UserError
from vlm3data.workers import Worker, WorkerDied, say

REASON = "crashes_worker"
TRIES = 2
"""How often a sample, alone in a fresh process, has to crash it to be left out."""
IN_A_ROW = 10
"""As many samples that crash one after the other are not the data's fault."""
KILLED = frozenset({"SIGKILL", "SIGTERM"})
"""Ends from outside, as by the kernel when memory runs out: they say nothing of the sample."""


@dataclass(frozen=True, slots=True)
class _Begun:
    """A candidate that the child begins now."""

    part: int
    number: int
    key: str


def isolated_samples(config: BuildConfig, parts: Sequence[Part], tally: ShardTally) -> Iterator[Sample]:
    """Yield the samples of `parts`, in order, without those that kill the process that makes them.

    Raises UserError, which names the frame, where something is wrong that is not one frame's fault.
    """
    rest, crashed, silent = list(parts), list[str](), 0
    while rest:
        child, begun = Worker(_produce, config, rest), None
        after = (0, rest[0][1])
        try:
            while not isinstance(told := child.receive(), ShardTally):
                begun = told
                sample, counts = child.receive()
                tally.add(counts)
                after, begun, silent = (begun.part, begun.number + 1), None, 0
                crashed.clear()
                if sample is not None:
                    yield sample
            tally.add(told)
            return
        except WorkerDied as death:
            if begun is None:
                silent += 1
                if silent == TRIES:
                    raise UserError(
                        f"{config.source}, scene {rest[after[0]][0].scene}: listing its frames ends the process "
                        f"({death.name}) each time"
                    ) from death
        finally:
            child.close()
        if begun is not None:
            scene = rest[begun.part][0]
            outcome = _alone(config, (scene, begun.number, 1), begun.key, tally)
            if not isinstance(outcome, str):
                crashed.clear()
                if outcome is not None:
                    yield outcome
            else:
                crashed.append(begun.key)
                if len(crashed) == IN_A_ROW:
                    raise UserError(
                        f"{config.source}, scene {scene.scene}: {IN_A_ROW} samples in a row end their process "
                        f"({outcome}), {crashed[0]} to {crashed[-1]}: that is not one bad file"
                    )
                tally.drops[REASON] += 1
                tally.quarantined.append({"scene": scene.scene, "key": begun.key})
            after = (begun.part, begun.number + 1)
        rest = _from(rest, *after)


def _alone(config: BuildConfig, part: Part, key: str, tally: ShardTally) -> Sample | str | None:
    """Return the sample made alone in a fresh process, None where it is dropped, how it ends the process each time."""
    crashes, kills = 0, 0
    while True:
        child, made, counts = Worker(_produce, config, [part]), None, ShardTally()
        try:
            while not isinstance(told := child.receive(), ShardTally):
                made, counts = child.receive()
            counts.add(told)
        except WorkerDied as death:
            kills += death.name in KILLED
            crashes += death.name not in KILLED
            if crashes == TRIES:
                return death.name
            if kills == TRIES:
                raise UserError(
                    f"{config.source}, scene {part[0].scene}, frame {key}: its process is killed ({death.name}) even "
                    "when it works alone: where memory runs out, take the frame out or a larger machine"
                ) from death
        else:
            tally.add(counts)
            return made
        finally:
            child.close()


def _produce(connection: Connection, config: BuildConfig, parts: Sequence[Part]) -> None:
    """Make the samples of `parts`; say of each that it begins, then what came of it; last, what else was counted."""
    tally = ShardTally()
    for candidate in candidates_of(config, parts, tally):
        say(connection, _Begun(candidate.part, candidate.number, candidate.key))
        say(connection, (candidate.make(), tally))
        tally.clear()
    say(connection, tally)


def _from(parts: Sequence[Part], part: int, number: int) -> list[Part]:
    """Return what is left of `parts` from candidate `number` of the part `part` on."""
    scene, first, count = parts[part]
    left = first + count - number
    return [*([(scene, number, left)] if left else []), *parts[part + 1 :]]
