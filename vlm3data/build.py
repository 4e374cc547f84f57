"""The main flow: from a source's scenes to finished shards. Read this first; there is no engine in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from vlm3data import registry, shards
from vlm3data.budget import check_budget, reasons, refuse_other_builds, total_of
from vlm3data.build_config import BuildConfig, about_config, digest_of, open_source, open_tasks
from vlm3data.candidates import ask, candidates
from vlm3data.plan import ShardJob, plan
from vlm3data.shards import ShardTally
from vlm3data.storage import absolute, open_store
from vlm3data.types import Cut, Drop, Sample, UserError

__all__ = ["BuildConfig", "ShardJob", "build", "build_shard", "open_source", "open_tasks", "plan", "samples"]


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
    total = sum(job.candidates for job in jobs)
    done = total - sum(job.candidates for job in todo)
    check_budget(config.max_drop_rate, manifests.values(), total)
    progress(done, total)
    for job, manifest in run(partial(build_shard, out), todo, workers=workers, address=ray_address):
        manifests[job.name] = manifest
        done += job.candidates
        progress(done, total)
        check_budget(config.max_drop_rate, manifests.values(), total)
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


def _samples_of(job: ShardJob, tally: ShardTally) -> Iterator[Sample]:
    config, source, tasks = job.config, open_source(job.config), open_tasks(job.config)
    digest = digest_of(about_config(config, tasks))
    for scene, first, count in job.parts:
        missing = count
        for key, views, asking in candidates(source, scene, first, count, config, tasks, tally):
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


def _about(config: BuildConfig, manifests: Sequence[dict[str, Any]]) -> dict[str, Any]:
    shaping = about_config(config, open_tasks(config))
    facts = asdict(open_source(config).facts)
    return {"config": shaping, "digest": digest_of(shaping), "facts": facts} | total_of(manifests)
