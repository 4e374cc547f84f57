"""The candidates of a scene: its frames, alone and in pairs, as the tasks ask of them; the samples they become."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple

from vlm3data.build_config import BuildConfig, about_config, digest_of, open_calibrator, open_source, open_tasks
from vlm3data.contracts import Draws, KnowsOverlap, Source, Task
from vlm3data.images import encode_jpeg
from vlm3data.keys import key_for_frame
from vlm3data.pairs import ScenePairs
from vlm3data.randomness import rng_for
from vlm3data.records import question_record, view_record
from vlm3data.shards import ShardTally
from vlm3data.shards.original import in_source
from vlm3data.types import Cut, Drop, Frame, Question, Sample, SceneRef, SourceFacts, View
from vlm3data.views import pair_view, single_view

Part = tuple[SceneRef, int, int]
"""A scene, its first candidate to take and how many."""


class Candidate(NamedTuple):
    """One sample that may come of a shard's parts."""

    part: int
    """The number of its part."""
    number: int
    """Among the candidates of its scene."""
    key: str
    """Of its frame, the first of two."""
    make: Callable[[], Sample | None]
    """Returns the sample; None where it is dropped, which is counted."""


def candidates_of(config: BuildConfig, parts: Sequence[Part], tally: ShardTally) -> Iterator[Candidate]:
    """Yield the candidates of `parts` in order; what becomes of them is counted in `tally`."""
    source, tasks = open_source(config), open_tasks(config)
    digest = digest_of(about_config(config, tasks))
    for part, (scene, first, count) in enumerate(parts):
        number = first
        for key, views, asking in candidates(source, scene, first, count, config, tasks, tally):
            make = partial(_sample_of, key, views, scene, config, source.facts, asking, digest, tally)
            yield Candidate(part, number, key, make)
            number += 1
        if number < first + count:
            tally.drops["frame_missing"] += first + count - number


def _sample_of(
    key: str,
    views: Callable[[], Sequence[View]],
    scene: SceneRef,
    config: BuildConfig,
    facts: SourceFacts,
    tasks: Sequence[Task],
    digest: str,
    tally: ShardTally,
) -> Sample | None:
    try:
        # No name for the views: their pixels are then freed before the next image needs the same memory.
        return ask(views(), scene, config, facts, tasks, digest, tally)
    except Drop as drop:
        (tally.cuts if isinstance(drop, Cut) else tally.drops)[drop.reason] += 1
        return None
    except Exception as error:
        error.add_note(f"in {config.source}, scene {scene.scene}, frame {key}")
        raise


def candidates(
    source: Source,
    scene: SceneRef,
    first: int,
    count: int,
    config: BuildConfig,
    tasks: Sequence[Task],
    tally: ShardTally,
) -> Iterator[tuple[str, Callable[[], Sequence[View]], Sequence[Task]]]:
    """Yield the frame's key, its views and the tasks that ask about them, for the candidates first, first + 1, ...

    Each frame stands for itself where a task asks about one view, and then begins `pairs` pairs where one asks
    about two.
    """
    of_one, of_two = ([task for task in tasks if task.num_views == number] for number in (1, 2))
    alone, per_frame = bool(of_one), candidates_per_frame(config, tasks)
    begin, end = first // per_frame, -(-(first + count) // per_frame)
    frames = source.frames(scene)
    pairs = None
    if of_two:
        frames = list(frames)
        overlap = partial(source.overlap, scene) if isinstance(source, KnowsOverlap) else None
        pairs = ScenePairs(scene.scene, frames, source.facts, overlap, config.seed, config.pairs)
    for index, frame in enumerate(islice(frames, begin, end), begin):
        for slot in range(per_frame):
            if not first <= index * per_frame + slot < first + count:
                continue
            if slot < alone:
                yield frame.key, partial(_one_view, frame, config, source.facts, tally), of_one
            elif pairs:
                yield frame.key, partial(_two_views, pairs, index, slot - alone, config, tally), of_two


def candidates_per_frame(config: BuildConfig, tasks: Sequence[Task]) -> int:
    """Return how many candidates each frame begins: itself, and the pairs, as the tasks need them."""
    counts = {1: 1, 2: config.pairs}
    return sum(counts[number] for number in {task.num_views for task in tasks})


def _one_view(frame: Frame, config: BuildConfig, facts: SourceFacts, tally: ShardTally) -> list[View]:
    return [single_view(frame, config, facts, tally, open_calibrator(config))]


def _two_views(pairs: ScenePairs, index: int, number: int, config: BuildConfig, tally: ShardTally) -> list[View]:
    pair, calibrator = pairs.pair(index, number), open_calibrator(config)
    return [pair_view(frame, pairs.depth_m(frame), config, tally, calibrator) for frame in pair]


def ask(
    views: Sequence[View],
    scene: SceneRef,
    config: BuildConfig,
    facts: SourceFacts,
    tasks: Sequence[Task],
    digest: str,
    tally: ShardTally,
) -> Sample:
    """Return the sample of these views: every task's questions, and the record that the shard's JSON holds.

    A task that has none, while others have, is counted with its reason.
    """
    questions: list[Question] = []
    drops: dict[str, Drop] = {}
    frames = [view.frame for view in views]
    for task in tasks:
        try:
            rng = rng_for(config.seed, "ask", task.name, *frames)
            questions += task.ask(views, facts, config.label_depth, rng)
        except Drop as drop:
            drops[task.name] = drop
    if not questions:
        raise min(drops.values(), key=lambda drop: isinstance(drop, Cut))  # what is wrong, rather than what is missing
    for task in tasks:
        if isinstance(task, Draws):
            views = task.drawn(views, questions)
    tally.unasked.update(f"{name}: {drop.reason}" for name, drop in drops.items())
    if config.store == "original":
        views, questions = in_source(views, questions, tasks, facts, config.label_depth, config.seed)
    record = {
        "key": key_for_frame(*frames),
        "source": facts.name,
        "scene": views[0].scene,
        "frames": frames,
        "split": scene.split,
        "licence": facts.licence,
        "metric": facts.metric,
        "config": digest,
        "views": [view_record(view) for view in views],
        "questions": [question_record(question) for question in questions],
    }
    return Sample.of(record, tuple(view.jpeg or encode_jpeg(view.image, config.jpeg_quality) for view in views))
