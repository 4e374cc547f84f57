"""`vlm3data verify --deep`: a sample of the shards, built again from the source and held against it.

Each chosen sample is rebuilt by the code that built it (`recorded`, `compare`), which finds shards that were changed or
mixed up; and its labels are held against the source's raw truth by other code (`witness`), which finds mistakes of
the building itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from vlm3data.build_config import BuildConfig, open_source, open_tasks
from vlm3data.candidates import ask, candidates
from vlm3data.deep.compare import sample_problems, worst
from vlm3data.deep.recorded import recorded_build
from vlm3data.deep.witness import TOLERANCE, deviations
from vlm3data.keys import key_for_frame
from vlm3data.output import plan_at
from vlm3data.plan import ShardJob, followed, plan
from vlm3data.randomness import rng_for
from vlm3data.shards import Dataset, ShardTally, committed
from vlm3data.storage import open_store
from vlm3data.types import Drop, Frame, Sample, UserError


@dataclass(slots=True)
class TaskCheck:
    """What became of one task's questions."""

    questions: int = 0
    worst_rebuilt: float = 0.0
    """The largest relative deviation of a number in the truth from the one that the source gives now."""
    witnessed: int = 0
    """Questions whose truth was held against the source's raw truth by independent code."""
    worst_witnessed: float = 0.0


@dataclass(slots=True)
class DeepFindings:
    """What a deep verification saw; the shards are what the source says when `problems` is empty."""

    samples: int = 0
    tasks: dict[str, TaskCheck] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def verify_deep(
    url: str,
    root: str,
    *,
    samples: int = 100,
    seed: int = 0,
    given: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> DeepFindings:
    """Build `samples` of the dataset at `url`, chosen by `seed`, again from the source at `root`, and compare.

    `given` are options of the source or the tasks in place of the recorded ones (see `recorded_build`). Problems are
    listed, not raised; UserError where the build cannot be repeated at all.
    """
    dataset, findings = Dataset(url), DeepFindings()
    if "rerendered" in dataset.about:
        raise UserError(
            f"{url}: was asked again from the numbers of other shards: verify those with --deep (their "
            f"dataset.json has the fingerprint {dataset.about['rerendered']['from']['fingerprint']})"
        )
    config = recorded_build(dataset.about, root, given or {})
    stored = _chosen(dataset, samples, seed)
    total = sum(map(len, stored.values()))
    fs, directory = open_store(url)
    manifests = committed(fs, directory)
    built = plan_at(fs, directory, url)
    for job in plan(config) if built is None else followed(config, built, stored):
        wanted = stored.get(job.name, {})
        if wanted and not given and manifests[job.name]["config"] != job.digest:
            findings.problems.append(f"{job.name}: the source has changed since: its frames or their files are others")
        tally = ShardTally()
        for sample, frames in _again(job, wanted, dataset.about["digest"], tally):
            old = wanted.pop(sample.key)
            _compare(old, sample, frames, config, findings)
            findings.samples += 1
            progress(findings.samples, total)
        drops = ", ".join(f"{reason} {count}" for reason, count in (tally.drops + tally.cuts).items())
        findings.problems += (
            f"{key}: the source does not give this sample ({drops or 'no such frame'})" for key in wanted
        )
        stored.pop(job.name, None)
    findings.problems += (f"{name}: the source has no such shard's frames" for name in stored)
    return findings


def _chosen(dataset: Dataset, count: int, seed: int) -> dict[str, dict[str, Sample]]:
    """Return samples of the dataset, by shard and key."""
    if not len(dataset):
        raise UserError(f"{dataset.url}: there is no sample in it")
    numbers = rng_for(seed, "verify deep").choice(len(dataset), size=min(count, len(dataset)), replace=False)
    shards = [name.removesuffix(".tar") for name in dataset.about["shards"]]
    chosen: dict[str, dict[str, Sample]] = {}
    for i in sorted(numbers.tolist()):
        sample = dataset.stored(i)
        chosen.setdefault(shards[dataset.where(i).shard], {})[sample.key] = sample
    return chosen


def _again(
    job: ShardJob, wanted: Mapping[str, Sample], digest: str, tally: ShardTally
) -> Iterator[tuple[Sample, list[Frame]]]:
    """Build those of a shard's samples that are `wanted`; with the source's frames, in the order of the views."""
    if not wanted:
        return
    config, source, tasks = job.config, open_source(job.config), open_tasks(job.config)
    shown = {frame for sample in wanted.values() for frame in sample.record["frames"]}
    for scene, first, count in job.parts:
        frames = {frame.key: frame for frame in source.frames(scene) if frame.key in shown}
        if not frames:
            continue
        for key, views, asking in candidates(source, scene, first, count, config, tasks, tally):
            alone = asking[0].num_views == 1
            if key not in shown or (alone and key_for_frame(key) not in wanted):
                continue
            try:
                sample = ask(views(), scene, config, source.facts, asking, digest, tally)
            except Drop as drop:
                tally.drops[drop.reason] += 1
                continue
            if sample.key in wanted:
                # As a reader gets it, through JSON: tuples are lists.
                plain = Sample(key=sample.key, images=sample.images, record_json=sample.record_json)
                yield plain, [frames[name] for name in sample.record["frames"]]


def _compare(
    stored: Sample,
    again: Sample,
    frames: list[Frame],
    config: BuildConfig,
    findings: DeepFindings,
) -> None:
    findings.problems += (f"{stored.key}: {line}" for line in sample_problems(stored, again))
    for old, new in zip(stored.record["questions"], again.record["questions"], strict=False):
        check = findings.tasks.setdefault(old["task"], TaskCheck())
        check.questions += 1
        check.worst_rebuilt = max(check.worst_rebuilt, worst(old["truth"], new["truth"]))
    facts = open_source(config).facts
    for number, off in deviations(stored.record, frames, facts, published=config.published).items():
        question = stored.record["questions"][number]
        check = findings.tasks.setdefault(question["task"], TaskCheck())
        check.witnessed += 1
        check.worst_witnessed = max(check.worst_witnessed, off)
        if not off <= TOLERANCE[question["task"]]:
            asked = question["truth"].get("pixel_px", question["truth"].get("kind", ""))
            findings.problems.append(
                f"{stored.key}: question {number} ({question['task']} {asked}) says {question['answer']!r}: "
                f"the source's raw truth is {off:.3g} off"
            )
