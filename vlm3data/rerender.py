"""Asking again from the numbers that shards hold: other wordings, grids, pixels or tasks, the same images.

Without the source, and without decoding an image: its bytes are copied. One shard is one job, and its manifest the
only commit, as in the build.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import orjson

from vlm3data import registry, shards
from vlm3data.budget import refuse_other_builds, total_of
from vlm3data.build_config import FORMAT, digest_of
from vlm3data.contracts import Rerenders
from vlm3data.output import open_output, plan_at
from vlm3data.randomness import rng_for
from vlm3data.records import by_task, camera_of, facts_of, question_record
from vlm3data.shards import CorruptSampleError, Dataset, ShardTally
from vlm3data.shards.checked import check_record
from vlm3data.shards.original import keep_packs, pack_name
from vlm3data.storage import absolute, open_store
from vlm3data.types import DepthKind, Drop, Held, Question, Sample, SourceFacts, UserError

NOTHING_LEFT = "no_question_left"
"""A sample that holds nothing for the tasks that are asked now."""
AT_ONCE = 16
"""Samples of a remote store that are fetched together."""


@dataclass(frozen=True, slots=True)
class ShardJob:
    """One shard to be asked again: a pure description that can travel to any process."""

    name: str
    url: str
    number: int
    """Of the shard, in the dataset at `url`."""
    first: int
    """The number of the shard's first sample in the dataset at `url`."""
    samples: int
    options: dict[str, dict[str, Any]]
    """Of the tasks, by name, every one of them said."""
    config: dict[str, Any]
    """What a build with these options would call its config."""
    digest: str
    """Of what is asked and of the shard that is read: a manifest with another one belongs to something else."""
    about: dict[str, Any]
    """Where the shard's content comes from, for its manifest."""


def rerender(
    url: str,
    out: str,
    *,
    tasks: Mapping[str, Mapping[str, Any]] | None = None,
    label_depth: DepthKind | None = None,
    engine: str = "local",
    workers: int | None = None,
    ray_address: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Ask `tasks` (by name, with the options that change; None: those of the build) of the dataset at `url` again.

    Returns the `dataset.json` of the dataset at `out`. Raises UserError where the shards do not hold what is asked for,
    where one of them is damaged, and where `out` holds something else.
    """
    run = registry.load("engine", engine)
    url, out = absolute(url), absolute(out)
    jobs = plan(url, tasks, label_depth)
    if out.rstrip("/") == url.rstrip("/"):
        raise UserError(f"--out {out}: is what is asked again, and stays as it is; choose another --out")
    with open_output(out) as (fs, directory):
        finished = shards.summaries(fs, directory)
        refuse_other_builds(finished, {job.name: job.digest for job in jobs}, out)
        if plan_at(fs, directory, out) is not None:
            raise UserError(f"{out} holds the plan of a build: nothing was changed; choose another --out")
        todo = [job for job in jobs if job.name not in finished]
        total = sum(job.samples for job in jobs)
        done = total - sum(job.samples for job in todo)
        progress(done, total)
        with closing(run(partial(rerender_shard, out), todo, workers=workers, address=ray_address)) as results:
            for job, manifest in results:
                finished[job.name] = manifest
                done += job.samples
                progress(done, total)
        ordered = [finished[job.name] for job in jobs]
        if not any(manifest["samples"] for manifest in ordered):
            raise UserError(f"{url}: no sample holds anything for {', '.join(jobs[0].options)}")
        if _open(url).is_original:
            keep_packs(fs, directory, jobs[0].options)
        manifests = shards.manifests_of(fs, directory, [job.name for job in jobs])
        return shards.write_index(fs, directory, manifests, _about(jobs[0], total_of(ordered)))


def plan(
    url: str, tasks: Mapping[str, Mapping[str, Any]] | None = None, label_depth: DepthKind | None = None
) -> list[ShardJob]:
    """Return one job a shard of the dataset at `url`; raises UserError where it does not hold what is asked for."""
    dataset = Dataset(url)
    before = dataset.about["config"]
    if unknown := {"format", "tasks", "label_depth", "seed"} - set(before):
        raise UserError(f"{url}: its dataset.json does not say its {sorted(unknown)[0]}: build it again first")
    if before["format"] != FORMAT:
        raise UserError(
            f"{url}: was built as format {before['format']}, this version writes {FORMAT}: build it again first"
        )
    held = before["tasks"]
    given = {name: {} for name in held} if tasks is None else tasks
    options = {name: _options(name, changed, held, url, dataset.is_original) for name, changed in sorted(given.items())}
    opened = _open_tasks(options)
    for name, task in opened.items():
        missing = task.missing_from(held) if isinstance(task, Rerenders) else "the task does not say how"
        if missing is not None:
            raise UserError(f"{url}: cannot be asked for {name}: {missing}; build from the source")
    config = before | {"tasks": {name: dict(task.about()) for name, task in opened.items()}}
    config["label_depth"] = label_depth or before["label_depth"]
    if config["label_depth"] != before["label_depth"] or set(opened) - set(held):
        # Not to the last digit what a build would say, so under no build's name.
        config["rerendered_from"] = dataset.about["digest"]
    said = {
        "from": {"digest": dataset.about["digest"], "fingerprint": dataset.fingerprint},
        "changes": list(_changes(before, config)),
    }
    jobs, first = [], 0
    for number, (shard, sha256) in enumerate(dataset.about["shards"].items()):
        name, samples = shard.removesuffix(".tar"), int(dataset.shard_sizes[number])
        digest = digest_of(["rerender", digest_of(config), sha256])
        about = {"rerendered": said, "from_sha256": sha256}
        jobs.append(ShardJob(name, url, number, first, samples, options, config, digest, about))
        first += samples
    return jobs


def rerender_shard(out: str, job: ShardJob) -> dict[str, Any]:
    """Write one shard and return its manifest, without the members: the unit of work, safe to repeat."""
    fs, directory = open_store(out)
    tally = _tally_of(_open(job.url).manifest(job.number), job.options)
    samples = _samples_of(job, tally)
    return shards.summary_of(shards.write_shard(fs, directory, job.name, samples, tally, job.digest, job.about))


def _about(job: ShardJob, total: dict[str, Any]) -> dict[str, Any]:
    config, facts = job.config, _open(job.url).about["facts"]
    return {
        "config": config,
        "digest": digest_of(config),
        "facts": facts,
        "rerendered": job.about["rerendered"],
    } | total


def _samples_of(job: ShardJob, tally: ShardTally) -> Iterator[Sample]:
    dataset, asking = _open(job.url), _open_tasks(job.options)
    facts, digest = facts_of(dataset.about["facts"]), digest_of(job.config)

    for sample in _stored(dataset, range(job.first, job.first + job.samples)):
        try:
            questions = _ask_again(sample.record, asking, job.config, facts, tally.unasked)
        except Exception as error:
            error.add_note(f"in {job.url}, {job.name}, sample {sample.key}")
            raise
        if not questions:
            tally.cuts[NOTHING_LEFT] += 1
            continue
        record = sample.record | {
            "config": digest,
            "questions": [question_record(question) for question in questions],
        }
        yield Sample.of(record, sample.images)


def _ask_again(
    record: Mapping[str, Any],
    asking: Mapping[str, Any],
    config: Mapping[str, Any],
    facts: SourceFacts,
    unasked: Counter[str],
) -> list[Question]:
    views = record["views"]
    poses = [view.get("world_from_cam") for view in views]
    held = Held(
        stored=by_task(record["questions"]),
        cameras=[camera_of(view["camera"]) for view in views],
        world_from_cam=[None if pose is None else np.array(pose) for pose in poses],
        facts=facts,
    )
    questions: list[Question] = []
    for name, task in asking.items():
        if task.num_views != len(views):
            continue
        try:
            rng = rng_for(config["seed"], "ask", name, *record["frames"])
            questions += task.ask_again(held, config["label_depth"], rng)
        except Drop as drop:
            unasked[f"{name}: {drop.reason}"] += 1
    return questions


def _stored(dataset: Dataset, numbers: Sequence[int]) -> Iterator[Sample]:
    """Yield samples as they are stored; what is damaged would only be copied, and is refused."""
    try:
        for start in range(0, len(numbers), AT_ONCE):
            together = numbers[start : start + AT_ONCE]
            blocks = [None] * len(together) if dataset.is_local else dataset.fetch(together)
            for number, block in zip(together, blocks, strict=True):
                sample = dataset.stored(number, block=block)
                try:
                    check_record(sample.record)
                except ValueError as error:
                    raise CorruptSampleError(
                        f"{dataset.url}: sample {number} is no sample of ours ({error})"
                    ) from error
                yield sample
    except CorruptSampleError as error:
        raise UserError(f"{error}; `vlm3data verify` lists what is wrong: build that shard again first") from error


def _options(
    name: str, changed: Mapping[str, Any], held: Mapping[str, Mapping[str, Any]], url: str, original: bool
) -> dict[str, Any]:
    """Return the options of a task: those of the build, and what is `changed` of them.

    Beside shards with the source's own images lie the packs that their builders gave.
    """
    kind = registry.load("task", name)
    before = held.get(name, {})
    # Without the pack, of which only the digest is known.
    kept = {key: value for key, value in before.items() if key in kind.Options.model_fields and key != "wordings"}
    options = kept | dict(changed)
    task = kind(kind.Options.check(options, where=f"task {name}"))
    if "wordings" in before and "wordings" not in changed and task.about()["wordings"] != before["wordings"]:
        if original:
            return options | {"wordings": f"{url}/{pack_name(name)}"}
        raise UserError(
            f"{url}: {name} was worded by another pack than ours: say with --wordings (or --{name}-wordings) which "
            "one is meant, '' for ours"
        )
    return options


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """Yield in words what is asked otherwise than before."""
    if before["label_depth"] != after["label_depth"]:
        yield f"label_depth is {after['label_depth']}, was {before['label_depth']}"
    old, new = before["tasks"], after["tasks"]
    yield from (f"{name} is not asked any more" for name in old if name not in new)
    for name in new:
        if name not in old:
            yield f"{name} is asked, and was not"
            continue
        for key, value in new[name].items():
            if value != old[name].get(key):
                yield f"{name}: {key} is {value}, was {old[name].get(key)}"


def _tally_of(manifest: Mapping[str, Any], tasks: Mapping[str, Any]) -> ShardTally:
    """Return what the build left out of the shard, which is left out of this one too."""
    labels = manifest["labels"]
    unasked = {what: count for what, count in manifest["unasked"].items() if what.partition(":")[0] in tasks}
    return ShardTally(
        drops=Counter(manifest["drops"]),
        cuts=Counter(manifest["cuts"]),
        unasked=Counter(unasked),
        label_drops=Counter(labels["dropped"]),
        label_cuts=Counter(labels["cut"]),
        labels=Counter({"kept": labels["kept"]}),
        quarantined=list(manifest.get("quarantined", ())),
    )


def _open_tasks(options: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return _opened(orjson.dumps(options))


@lru_cache(maxsize=4)
def _opened(options: bytes) -> dict[str, Any]:
    """Return the tasks: a pack of wordings is tried out as it is opened, which is not for every shard to repeat."""
    opened = {}
    for name, values in orjson.loads(options).items():
        kind = registry.load("task", name)
        opened[name] = kind(kind.Options.check(values, where=f"task {name}"))
    return opened


@lru_cache(maxsize=1)
def _open(url: str) -> Dataset:
    return Dataset(url)
