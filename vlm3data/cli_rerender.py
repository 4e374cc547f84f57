"""The command `vlm3data rerender`: other questions about the same images, from the numbers that shards hold."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from cyclopts import Parameter

from vlm3data.command import Place, UsageError, print_json, progress_bar


def rerender(
    shards: str,
    *,
    out: Place,
    tasks: str | None = None,
    label_depth: Literal["z", "euclidean"] | None = None,
    engine: str = "local",
    workers: int | None = None,
    ray_address: str | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
    **options: str,
) -> None:
    """Ask again from the numbers that shards hold, without the source: the images are copied byte for byte.

    Flags beyond these are the tasks' own, as of `vlm3data build`: --wordings my.yaml, --grid 1000, --pixels 4. What is
    not said stays as it was built. A task's name before a flag gives it to that task alone: --depth-wordings my.yaml.

    Example: vlm3data rerender out/rooms --out out/rooms-1000 --grid 1000 --pixels 10

    Parameters
    ----------
    shards
        URL of the directory that `vlm3data build` wrote.
    out
        URL of the directory to write.
    tasks
        What to ask, separated by commas; by default what was asked. A task that was not asked needs numbers that the
        shards hold: pose can be asked of pairs that were built for correspondence.
    label_depth
        Write depths of this kind.
    engine
        local (processes on this machine) or ray.
    workers
        Processes; by default one per core.
    ray_address
        Join this Ray cluster instead of starting one.
    json
        Print the finished dataset.json instead of a summary.
    """
    from vlm3data.flags import from_flags, known_names
    from vlm3data.rerender import rerender as ask_again
    from vlm3data.shards import Dataset

    if workers is not None and workers < 1:
        raise UsageError("--workers must be at least 1")
    names = list(Dataset(shards).about["config"]["tasks"]) if tasks is None else tasks.split(",")
    names = known_names("task", names)
    known_names("engine", [engine])
    asked = _options_by_task(names, options)
    with progress_bar("asking again") as progress, from_flags({key for given in asked.values() for key in given}):
        dataset = ask_again(
            shards,
            out,
            tasks=asked,
            label_depth=label_depth,
            engine=engine,
            workers=workers,
            ray_address=ray_address,
            progress=progress,
        )
    if json:
        print_json(dataset)
        return
    from vlm3data.report.tables import print_build

    for change in dataset["rerendered"]["changes"]:
        print(change)
    print_build(dataset, out)


def _options_by_task(names: list[str], flags: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Hand each flag to the tasks that have it, or to the one whose name stands before it."""
    from vlm3data.flags import options_of, take

    takers: list[tuple[dict[str, Any], dict[str, Any]]] = []
    for name in names:
        known = options_of("task", name)
        takers.append((known | {f"{name}_{key}": option for key, option in known.items()}, {}))
    for flag, value in flags.items():
        take(flag, value, takers, f"tasks to ask know ({', '.join(names)})")
    return {
        name: {key.removeprefix(f"{name}_"): value for key, value in taken.items()}
        for name, (_, taken) in zip(names, takers, strict=True)
    }
