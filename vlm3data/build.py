"""The main flow: from a source's scenes to finished shards. Read this first; there is no engine in it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from itertools import islice
from typing import Annotated, Any, Literal

import orjson
from pydantic import Field

from vlm3data import registry, shards
from vlm3data.budget import check_budget, reasons, refuse_other_builds, total_of
from vlm3data.config import Config
from vlm3data.contracts import Calibrator, KnowsOverlap, Source, Task
from vlm3data.images import encode_jpeg
from vlm3data.keys import key_for_frame
from vlm3data.pairs import ScenePairs
from vlm3data.randomness import rng_for
from vlm3data.records import question_record, view_record
from vlm3data.shards import ShardTally
from vlm3data.storage import absolute, open_store
from vlm3data.types import Cut, DepthKind, Drop, Frame, Question, Sample, SceneRef, SourceFacts, UserError, View
from vlm3data.views import pair_view, single_view

FORMAT = 2
"""Raised when the same config begins to give other bytes, so that old shards are not continued."""


class BuildConfig(Config):
    """Everything that shapes a dataset, and nothing that does not but `root` and `max_drop_rate`."""

    source: str
    root: str = ""
    split: str | None = None
    options: dict[str, Any] = {}
    """The source's own options."""
    tasks: dict[str, dict[str, Any]] = {"depth": {}}
    """Task names and their options."""
    calibrator: str | None = None
    """Which method estimates the camera of an image whose source has no intrinsics."""
    calibrator_options: dict[str, Any] = {}
    focal_px: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1000.0
    focal_mode: Literal["uniform", "square"] = "uniform"
    align: Literal["crop", "pad", "none"] = "crop"
    label_depth: DepthKind = "z"
    """The kind of depth that labels are written in, whatever the source stores."""
    published: bool = False
    """Move pixels by the released int(u * s) rather than to the pixel that holds their centre."""
    seed: int = 0
    pairs: Annotated[int, Field(gt=0, le=16)] = 1
    """Pairs of views that each frame begins, where a task asks about two."""
    limit: Annotated[int, Field(gt=0)] | None = None
    shard_size: Annotated[int, Field(gt=0)] = 1000
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] = 95
    max_drop_rate: Annotated[float, Field(ge=0, le=1)] = 0.05


@dataclass(frozen=True, slots=True)
class ShardJob:
    """One shard to be written: a pure description that can travel to any process."""

    name: str
    config: BuildConfig
    parts: tuple[tuple[SceneRef, int, int], ...]
    """Scenes, each with its first candidate to take and how many."""
    digest: str
    """Of the config and these parts: a manifest with another one belongs to another build."""

    @property
    def candidates(self) -> int:
        """Return how many samples there will be if none is dropped."""
        return sum(count for _, _, count in self.parts)


def build(
    config: BuildConfig,
    out: str,
    *,
    engine: str = "local",
    workers: int | None = None,
    ray_address: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Build the dataset at `out` and return its `dataset.json`; shards that are there are not built again.

    `progress` is told how many of how many candidate samples are done. Raises UserError where `out` holds
    another build's shards, or where more than `max_drop_rate` of the samples or of the labels were dropped.
    """
    run = registry.load("engine", engine)
    # A worker on a cluster has another working directory.
    config, out = config.model_copy(update={"root": absolute(config.root)}), absolute(out)
    jobs = plan(config)
    fs, directory = open_store(out)
    fs.makedirs(directory, exist_ok=True)
    manifests = shards.committed(fs, directory)
    refuse_other_builds(manifests, {job.name: job.digest for job in jobs}, out)
    todo = [job for job in jobs if job.name not in manifests]
    candidates = sum(job.candidates for job in jobs)
    done = candidates - sum(job.candidates for job in todo)
    check_budget(config.max_drop_rate, manifests.values(), candidates)
    progress(done, candidates)
    for job, manifest in run(partial(build_shard, out), todo, workers=workers, address=ray_address):
        manifests[job.name] = manifest
        done += job.candidates
        progress(done, candidates)
        check_budget(config.max_drop_rate, manifests.values(), candidates)
    ordered = [manifests[job.name] for job in jobs]
    if not any(manifest["samples"] for manifest in ordered):
        raise UserError(f"no sample is left: {reasons(total_of(ordered)) or 'the source has none'}")
    return shards.write_index(fs, directory, ordered, _about(config, ordered))


def build_shard(out: str, job: ShardJob) -> dict[str, Any]:
    """Write one shard and return its manifest: the unit of work of every engine, safe to repeat."""
    fs, directory = open_store(out)
    tally = ShardTally()
    return shards.write_shard(fs, directory, job.name, _samples_of(job, tally), tally, job.digest)


def samples(config: BuildConfig) -> Iterator[Sample]:
    """Yield the very samples that `build` would write, in order, without writing them."""
    for job in plan(config):
        yield from _samples_of(job, ShardTally())


def plan(config: BuildConfig) -> list[ShardJob]:
    """Return the jobs of a build: the scenes' candidates in the source's order, `shard_size` of them each."""
    _open_source.cache_clear()  # a plan looks at the dataset as it is now
    source, tasks = open_source(config), open_tasks(config)
    open_calibrator(config)  # a package that is missing should show before the work begins
    if config.split is not None and config.split not in source.facts.splits:
        known = ", ".join(source.facts.splits)
        raise UserError(f"--split {config.split}: {config.source} has no such split; known: {known}")
    if source.facts.endless and config.limit is None:
        raise UserError(f"{config.source} never ends: say how many samples with --limit")
    digest = _digest(_about_config(config, tasks))
    groups: list[list[tuple[SceneRef, int, int]]] = []
    left, room = config.limit, 0
    per_frame = _candidates_per_frame(config, tasks)
    for scene in source.scenes(config.split):
        candidates = scene.num_frames * per_frame
        candidates = candidates if left is None else min(candidates, left)
        left = None if left is None else left - candidates
        first = 0
        while first < candidates:
            if not room:
                groups.append([])
                room = config.shard_size
            count = min(room, candidates - first)
            groups[-1].append((scene, first, count))
            first, room = first + count, room - count
        if left == 0:
            break
    if not groups:
        raise UserError(f"--root {config.root}: there is nothing to build in it")
    return [
        ShardJob(f"shard-{number:06d}", config, tuple(parts), _digest([digest, _named(parts)]))
        for number, parts in enumerate(groups)
    ]


def _named(parts: Iterable[tuple[SceneRef, int, int]]) -> list[tuple[str, str, int, int]]:
    return [(scene.scene, scene.stamp, first, count) for scene, first, count in parts]


def open_source(config: BuildConfig) -> Source:
    """Return the source, opened once per process: some read large tables."""
    return _open_source(config.source, config.root, orjson.dumps(config.options).decode(), config.seed)


def open_tasks(config: BuildConfig) -> list[Task]:
    """Return the tasks in a fixed order."""
    opened = []
    for name, options in sorted(config.tasks.items()):
        task = registry.load("task", name)
        opened.append(task(task.Options.check(options, where=f"task {name}")))
    return opened


def open_calibrator(config: BuildConfig) -> Calibrator | None:
    """Return the calibrator, opened once per process: some hold a network."""
    if config.calibrator is None:
        return None
    return _open_calibrator(config.calibrator, orjson.dumps(config.calibrator_options).decode())


@lru_cache(maxsize=1)
def _open_calibrator(name: str, options: str) -> Calibrator:
    calibrator = registry.load("calibrator", name)
    return calibrator(calibrator.Options.check(orjson.loads(options), where=f"calibrator {name}"))


@lru_cache(maxsize=4)
def _open_source(name: str, root: str, options: str, seed: int) -> Source:
    source = registry.load("source", name)
    return source(root, source.Options.check(orjson.loads(options), where=f"source {name}"), seed)


def _samples_of(job: ShardJob, tally: ShardTally) -> Iterator[Sample]:
    config, source, tasks = job.config, open_source(job.config), open_tasks(job.config)
    digest = _digest(_about_config(config, tasks))
    for scene, first, count in job.parts:
        missing = count
        for key, views, asking in _candidates(source, scene, first, count, config, tasks, tally):
            missing -= 1
            try:
                # No name for the views: their pixels are then freed before the next image needs the same memory.
                sample = ask(views(), scene, config, source.facts, asking, digest, tally)
            except Drop as drop:
                (tally.cuts if isinstance(drop, Cut) else tally.drops)[drop.reason] += 1
            except Exception as error:
                error.add_note(f"in {config.source}, scene {scene.scene}, frame {key}")
                raise
            else:
                yield sample
        if missing:
            tally.drops["frame_missing"] += missing


def _candidates(
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
    alone, per_frame = bool(of_one), _candidates_per_frame(config, tasks)
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


def _candidates_per_frame(config: BuildConfig, tasks: Sequence[Task]) -> int:
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
    tally.unasked.update(f"{name}: {drop.reason}" for name, drop in drops.items())
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
    return Sample.of(record, tuple(encode_jpeg(view.image, config.jpeg_quality) for view in views))


def _about_config(config: BuildConfig, tasks: Iterable[Task]) -> dict[str, Any]:
    """Return what shapes the bytes: not where the source lies, nor which drop rate is tolerated."""
    shaping = config.model_dump(
        exclude={"root", "max_drop_rate", "tasks", "options", "calibrator", "calibrator_options"}
    )
    calibrator = open_calibrator(config)
    if calibrator is not None:  # what has its own intrinsics is the same build with and without this feature
        shaping["calibrator"] = {"name": config.calibrator, **calibrator.about()}
    options = registry.load("source", config.source).Options.check(config.options, where=f"source {config.source}")
    return {
        "format": FORMAT,
        **shaping,
        "options": options.model_dump(mode="json"),
        "tasks": {task.name: dict(task.about()) for task in tasks},
    }


def _about(config: BuildConfig, manifests: Sequence[dict[str, Any]]) -> dict[str, Any]:
    shaping = _about_config(config, open_tasks(config))
    facts = asdict(open_source(config).facts)
    return {"config": shaping, "digest": _digest(shaping), "facts": facts} | total_of(manifests)


def _digest(value: Any) -> str:
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
