"""The main flow: from a source's scenes to finished shards. Read this first; there is no engine in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from vlm3data import registry, shards
from vlm3data.budget import Budget, reasons, refuse_other_builds, total_of
from vlm3data.build_config import BuildConfig, about_config, digest_of, open_source, open_tasks
from vlm3data.candidates import candidates_of
from vlm3data.contracts import MEMORY_MB, Engine, Needs
from vlm3data.isolation import isolated_samples
from vlm3data.output import claim, open_output, plan_at
from vlm3data.plan import Plan, Shard, ShardJob, plan, planned, write_plan
from vlm3data.shards import ShardTally
from vlm3data.shards.original import keep_packs
from vlm3data.storage import absolute, is_local, open_store
from vlm3data.types import Sample, UserError
from vlm3data.workers import refuse_in_worker

__all__ = ["BuildConfig", "ShardJob", "build", "build_shard", "open_source", "open_tasks", "plan", "samples"]


def build(
    config: BuildConfig,
    out: str,
    *,
    engine: str = "local",
    workers: int | None = None,
    ray_address: str | None = None,
    append: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Build the dataset at `out` and return its `dataset.json`; shards that are there are not built again.

    `append` builds what the source has grown by since. With one worker of the local engine all happens in this process;
    otherwise a sample that crashes its worker costs that sample, and a script that calls this needs the usual
    `if __name__ == "__main__"`. `progress` is told how many of how many candidate samples are done. Raises UserError
    where `out` holds another build's shards, or where more than `max_drop_rate` of the samples or of the labels were
    dropped.
    """
    refuse_in_worker("build()")
    run = registry.load("engine", engine)
    # A worker on a cluster has another working directory.
    config, out = config.model_copy(update={"root": absolute(config.root)}), absolute(out)
    with open_output(out) as (fs, directory), TemporaryDirectory(prefix="vlm3-") as scratch:
        finished, built = shards.summaries(fs, directory), plan_at(fs, directory, out)
        fruitless = is_local(fs) and not any(manifest["samples"] for manifest in finished.values())
        if fruitless and built is not None and built.generations == 1:
            built = None  # of a build that came to nothing, and is not running: it binds nobody
        plan = write_plan(config, str(Path(scratch, "plan.parquet")), built, append)
        if fruitless and built is None:
            finished = shards.keep_only(fs, directory, finished, plan.digests)
        refuse_other_builds(finished, plan.digests, out)
        claim(fs, directory, plan, built, out)
        _build_missing(config, out, plan, finished, partial(run, workers=workers, address=ray_address), progress)
        if config.store == "original":
            keep_packs(fs, directory, config.tasks)
        about = _about(config, [finished[name] for name in plan.digests])
        manifests = shards.manifests_of(fs, directory, list(plan.digests))
        return shards.write_index(fs, directory, manifests, about)


def _build_missing(
    config: BuildConfig,
    out: str,
    plan: Plan,
    finished: dict[str, dict[str, Any]],
    run: Engine,
    progress: Callable[[int, int], None],
) -> None:
    """Build the shards of `plan` that are not among the `finished`, and put them there."""
    budget = Budget(config.max_drop_rate, plan.candidates)
    for manifest in finished.values():
        budget.add(manifest)
    progress(budget.seen, plan.candidates)
    todo = plan.shards([name for name in plan.digests if name not in finished])
    function, again = partial(_write, out, config), partial(_write_isolated, out, config)
    needs = Needs(config.source, getattr(open_source(config), "memory_mb", MEMORY_MB))
    with closing(run(function, todo, again=again, needs=needs)) as results:
        for shard, manifest in results:
            finished[shard.name] = manifest
            budget.add(manifest)
            progress(budget.seen, plan.candidates)
    if not budget.samples:
        raise UserError(f"no sample is left: {reasons(budget.total) or 'the source has none'}")


def build_shard(out: str, job: ShardJob) -> dict[str, Any]:
    """Write one shard and return its manifest, without the members: the unit of work, safe to repeat."""
    return _write(out, job.config, job)


def samples(config: BuildConfig) -> Iterator[Sample]:
    """Yield the very samples that `build` would write, in order, without writing them."""
    for _, shard in planned(config):
        yield from _samples_of(config, shard, ShardTally())


def _write(out: str, config: BuildConfig, shard: Shard) -> dict[str, Any]:
    tally = ShardTally()
    return _commit(out, shard, _samples_of(config, shard, tally), tally)


def _write_isolated(out: str, config: BuildConfig, shard: Shard) -> dict[str, Any]:
    """Do the same for a shard whose worker died, in a way that survives the samples it may have died of."""
    tally = ShardTally()
    return _commit(out, shard, isolated_samples(config, shard.parts, tally), tally)


def _samples_of(config: BuildConfig, shard: Shard, tally: ShardTally) -> Iterator[Sample]:
    for candidate in candidates_of(config, shard.parts, tally):
        sample = candidate.make()
        if sample is not None:
            yield sample


def _commit(out: str, shard: Shard, samples: Iterator[Sample], tally: ShardTally) -> dict[str, Any]:
    manifest = shards.write_shard(*open_store(out), shard.name, samples, tally, shard.digest)
    return shards.summary_of(manifest)


def _about(config: BuildConfig, manifests: list[Mapping[str, Any]]) -> dict[str, Any]:
    shaping = about_config(config, open_tasks(config))
    facts = asdict(open_source(config).facts)
    return {"config": shaping, "digest": digest_of(shaping), "facts": facts} | total_of(manifests)
