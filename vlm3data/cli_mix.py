"""The command `vlm3data mix`: what a mixture means, before anybody trains on it."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from vlm3data.command import Place, UsageError, print_json, progress_bar

mix = App(name="mix", help="Look at mixtures: which datasets in which shares.")

Json = Annotated[bool, Parameter(negative=())]


@mix.command
def show(
    spec: str,
    *,
    samples: int | None = None,
    steps: int | None = None,
    batch: int = 1,
    world: int = 1,
    max_epochs: float = 4.0,
    html: Place | None = None,
    json: Json = False,
) -> None:
    """Show what a mixture means: per dataset its share, and samples, epochs, answers and bytes over a run.

    Warns of a dataset that is repeated often or hardly seen, and of shards that are missing. As a page (--html),
    sliders show what other weights would mean, and save them.

    Example: vlm3data mix show mixtures/demo.yaml --samples 100000

    Parameters
    ----------
    spec
        The mixture's YAML file.
    samples
        Length of the run; by default the spec's own `samples`.
    steps
        Instead of --samples: optimizer steps, of --batch samples on each of --world processes.
    batch
        Samples a step and process.
    world
        Processes.
    max_epochs
        Warn where a dataset is seen more often than this.
    html
        Write a page with sliders to this URL instead.
    json
        Print the rows and warnings as JSON.
    """
    from vlm3data.mixture import Mixture
    from vlm3data.report.mixtures import print_mixture, warnings_of

    mixture = Mixture.load(spec)
    if min(1 if length is None else length for length in (samples, steps, batch, world)) < 1:
        raise UsageError("--samples, --steps, --batch and --world must be at least 1")
    if not max_epochs > 0 or (samples is not None and steps is not None):
        raise UsageError("--max-epochs must be above 0, and the run's length is --samples or --steps, not both")
    samples = steps * batch * world if steps else samples or mixture.samples
    if html is not None:
        from vlm3data.report.mixture_page import write_mixture_page

        size = write_mixture_page(mixture, samples, max_epochs, html)
        print(f"wrote {html}, {size / 1000:.0f} kB; open it in a browser")
        return
    rows = mixture.plan(samples)
    warnings = warnings_of(mixture, rows, max_epochs)
    if json:
        print_json({"mixture": spec, "samples": samples, "datasets": rows, "warnings": warnings})
    else:
        print_mixture(rows, spec, samples, warnings)


@mix.command
def simulate(spec: str, *, samples: int | None = None, plot: str | None = None, json: Json = False) -> None:
    """Draw the schedule of a run, and hold what was drawn against what was planned.

    Works before any shard exists. Nothing is read but the indices.

    Example: vlm3data mix simulate mixtures/depth_paper.yaml --samples 200000 --plot out/shares.png

    Parameters
    ----------
    spec
        The mixture's YAML file.
    samples
        How many positions to draw; by default the spec's own `samples`.
    plot
        Write a PNG of the shares over the run (needs `pip install 'vlm3[plot]'`).
    json
        Print the counts as JSON.
    """
    from vlm3data.mixture import Mixture
    from vlm3data.report.mixtures import plot_shares, print_simulation
    from vlm3data.simulate import simulate as draw

    if plot is not None and not plot.endswith(".png"):
        raise UsageError(f"--plot {plot}: name a file that ends in .png")
    if samples is not None and samples < 1:
        raise UsageError("--samples must be at least 1")
    mixture = Mixture.load(spec)
    with progress_bar("drawing") as progress:
        drawn = draw(mixture, samples, progress)
    if plot is not None:
        plot_shares(drawn, spec, plot)
    if json:
        print_json(drawn.as_dict())
    else:
        print_simulation(drawn, spec)


@mix.command
def diff(before: str, after: str, *, json: Json = False) -> int:
    """Show how two mixtures differ: shares, selections, shards. Exit code 1 where they do.

    Example: vlm3data mix diff mixtures/depth_paper.yaml mixtures/depth_uniform.yaml

    Parameters
    ----------
    before
        One mixture's YAML file.
    after
        The other's.
    json
        Print the differences as JSON.
    """
    from vlm3data.mixture import Mixture
    from vlm3data.report.mixtures import differences, print_differences

    found = differences(Mixture.load(before), Mixture.load(after))
    if json:
        print_json(found)
    else:
        print_differences(found, before, after)
    return 1 if any(row["differs"] for row in found) else 0


@mix.command
def lock(spec: str, *, out: Place | None = None) -> None:
    """Write down what the order of the stream follows from: seed, shares, and the shards' fingerprints.

    Example: vlm3data mix lock mixtures/demo.yaml --out out/demo.lock.json

    Parameters
    ----------
    spec
        The mixture's YAML file.
    out
        The file to write; by default it is printed.
    """
    import orjson

    from vlm3data.mixture import Mixture
    from vlm3data.storage import open_store, write_whole

    locked = Mixture.load(spec).lock()
    if out is None:
        print_json(locked)
        return
    fs, path = open_store(out)
    write_whole(fs, path, orjson.dumps(locked, option=orjson.OPT_INDENT_2) + b"\n")
    print(f"wrote {out}")
