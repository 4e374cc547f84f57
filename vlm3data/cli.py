"""The command `vlm3data`. Nothing heavy is imported until a command runs, so that help is instant."""

from __future__ import annotations

import sys
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from vlm3data import __version__
from vlm3data.cli_doctor import doctor
from vlm3data.cli_export import export
from vlm3data.cli_mix import mix
from vlm3data.cli_new import new_source
from vlm3data.cli_rerender import rerender
from vlm3data.cli_see import card, preview, stats
from vlm3data.cli_sources import sources
from vlm3data.cli_verify import verify
from vlm3data.command import Place, UsageError, print_json, progress_bar, run_app

app = App(
    name="vlm3data",
    version=__version__,
    help="Turn 3D datasets into focal-unified shards of images with text questions, and mix them.",
)
app.register_install_completion_command()
app.command(doctor)
app.command(mix)
app.command(new_source)
app.command(rerender)
app.command(export)
app.command(sources)
app.command(verify)
app.command(preview)
app.command(stats)
app.command(card)

Json = Annotated[bool, Parameter(negative=())]


@app.command
def build(
    source: str,
    *,
    out: Place,
    root: str = "",
    split: str | None = None,
    tasks: str = "depth",
    calibrator: str | None = None,
    focal: float = 1000.0,
    focal_mode: Literal["uniform", "square", "none"] = "uniform",
    align: Literal["crop", "pad", "none"] = "crop",
    store: Literal["unified", "original"] = "unified",
    label_depth: Literal["z", "euclidean"] = "z",
    published: Annotated[bool, Parameter(negative=())] = False,
    pairs: int = 1,
    limit: int | None = None,
    shard_size: int = 1000,
    seed: int = 0,
    jpeg_quality: int = 95,
    max_drop_rate: float = 0.05,
    engine: str = "local",
    workers: int | None = None,
    ray_address: str | None = None,
    append: Annotated[bool, Parameter(negative=())] = False,
    json: Json = False,
    **options: str,
) -> None:
    """Build shards from a dataset: one focal length, text questions, the numbers behind them.

    Stopped at any moment, the same command goes on where it was. Flags beyond these belong to the source,
    a task or the calibrator; `vlm3data sources` lists them.

    Example: vlm3data build jsonl --root data/ibims1 --out out/ibims1

    Parameters
    ----------
    source
        Which kind of dataset lies at --root; `vlm3data sources` lists them.
    out
        URL of the directory to write.
    root
        URL of the dataset as its owner distributes it.
    split
        One of the source's splits; without it everything is built.
    tasks
        What to ask, separated by commas.
    calibrator
        How to estimate the camera of an image whose source has no intrinsics; `vlm3data sources` lists the methods.
    focal
        The focal length that every image is resized to, in pixels.
    focal_mode
        One scale for both axes (uniform), one per axis so that fx = fy (square), or none: every image as it was taken.
    align
        How sizes become multiples of 32: crop (centred), pad, or none.
    store
        Which image a shard holds: unified, or the source's own (original), which is unified whenever it is read.
    label_depth
        The kind of depth that labels are written in, whatever the source stores.
    published
        Move pixels by the released rule int(u * s); a source with an option `published` is read as it was curated then.
    pairs
        Pairs of views that each frame begins, where a task asks about two.
    limit
        Build at most this many samples.
    shard_size
        Samples per shard, about.
    seed
        Of the choice of pixels and wordings (and of the scenes, where the source makes them).
    jpeg_quality
        Of the stored images, 4:2:0.
    max_drop_rate
        Fail if more than this part of the samples, or of the labels, had to be dropped.
    engine
        local (processes on this machine) or ray.
    workers
        Processes; by default one per core. With 1, all happens in the command itself: a crash is then not survived.
    ray_address
        Join this Ray cluster instead of starting one; RAY_ADDRESS says the same.
    append
        Build what the source has grown by since, into new shards; those that are there stay as they are.
    json
        Print the finished dataset.json instead of a summary.
    """
    from vlm3data.build import build as build_dataset
    from vlm3data.flags import known_names

    if workers is not None and workers < 1:
        raise UsageError("--workers must be at least 1")
    known_names("engine", [engine])
    config = build_config(
        "vlm3data build",
        source,
        tasks,
        calibrator,
        options,
        root=root,
        split=split,
        focal_px=focal,
        focal_mode=focal_mode,
        align=align,
        store=store,
        label_depth=label_depth,
        published=published,
        pairs=pairs,
        limit=limit,
        shard_size=shard_size,
        seed=seed,
        jpeg_quality=jpeg_quality,
        max_drop_rate=max_drop_rate,
    )
    with progress_bar("building") as progress:
        dataset = build_dataset(
            config,
            out,
            engine=engine,
            workers=workers,
            ray_address=ray_address,
            append=append,
            progress=progress,
        )
    if json:
        print_json(dataset)
        return
    from vlm3data.report.tables import print_build

    print_build(dataset, out)


@app.command
def synth(*, layout: str, out: Place, seed: int = 0, json: Json = False, **options: str) -> None:
    """Write synthetic scenes in the files of a real dataset, with the exact truth beside them.

    What `vlm3data build` makes of them can be checked against that truth; at any size they are a load to measure
    with. Flags beyond these belong to the layout; `vlm3data sources` lists them.

    Example: vlm3data synth --layout nuscenes --out data/synthetic-nuscenes --scenes 4

    Parameters
    ----------
    layout
        Whose files to write; `vlm3data sources` lists the layouts.
    out
        URL of the directory to write.
    seed
        Of everything that is drawn at random.
    json
        Print what was written as JSON.
    """
    from vlm3data import registry
    from vlm3data.flags import from_flags, known_names, options_of, take
    from vlm3data.report.tables import print_counts

    known_names("layout", [layout])
    kind, known = registry.load("layout", layout), options_of("layout", layout)
    given: dict[str, Any] = {}
    for flag, value in options.items():
        take(flag, value, [(known, given)], f"the layout {layout} knows")
    with from_flags():
        checked = kind.Options.check(given, where=f"layout {layout}")
    with progress_bar("writing") as progress:
        written = kind(checked, seed).write(out, progress)
    if json:
        print_json(written)
    else:
        print_counts(written, out)


def main() -> None:
    """Run the command line of this process."""
    sys.exit(run_app(app))


def build_config(
    command: str, source: str, tasks: str, calibrator: str | None, options: dict[str, str], **settings: Any
) -> Any:
    """Return the BuildConfig of a command line: its `settings`, and `options`, the flags that belong to a plugin."""
    from vlm3data.build import BuildConfig
    from vlm3data.flags import assign_options, check_options, from_flags, known_names, options_of

    names = known_names("task", tasks.split(","))
    known_names("source", [source])
    if calibrator is not None:
        known_names("calibrator", [calibrator])
    source_options, task_options, calibrator_options = assign_options(source, names, calibrator, options)
    if settings.get("published") and "published" in options_of("source", source):
        source_options["published"] = True
    check_options("source", source, source_options)
    for name in names:
        check_options("task", name, task_options[name])
    if calibrator is not None:
        check_options("calibrator", calibrator, calibrator_options)
    plugins = {
        "source": source,
        "options": source_options,
        "tasks": task_options,
        "calibrator": calibrator,
        "calibrator_options": calibrator_options,
    }
    with from_flags():
        return BuildConfig.check(plugins | settings, where=command)


if __name__ == "__main__":
    main()
