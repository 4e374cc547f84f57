"""The commands that show what is in shards and mixtures: `vlm3data preview`, `stats` and `card`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from vlm3data.command import Place, UsageError, print_json, progress_bar

Json = Annotated[bool, Parameter(negative=())]


def preview(
    target: str, *, out: Place, limit: int = 200, seed: int | None = None, image_px: int = 640, json: Json = False
) -> None:
    """Write one HTML page of samples: images with their labels, questions, statistics, what was left out.

    The page needs no server and no network: open it in a browser.

    Example: vlm3data preview out/scannet --out out/scannet.html --limit 500

    Parameters
    ----------
    target
        URL of a directory of shards, or a mixture's YAML: its samples as the stream draws them.
    out
        The page to write.
    limit
        Show at most this many samples: of shards a random choice, of a mixture the first ones.
    seed
        Of the choice; of a mixture in place of its own.
    image_px
        Show images in copies of at most this many pixels a side; labels stay exact.
    json
        Print what was written as JSON.
    """
    from vlm3data.report.preview import write_preview
    from vlm3data.report.target import Target

    if limit < 1 or image_px < 16:
        raise UsageError("--limit must be at least 1, and --image-px at least 16")
    with progress_bar("drawing") as progress:
        page = write_preview(Target.open(target, seed), out, limit, image_px, progress)
    if json:
        print_json(page._asdict())
    else:
        print(f"wrote {out}: {page.samples:,} samples, {page.bytes / 1e6:,.1f} MB; open it in a browser")


def stats(
    target: str, *, limit: int | None = None, seed: int | None = None, plots: Place | None = None, json: Json = False
) -> None:
    """Count what shards or a mixture hold: depths, focal lengths, pixels, pairs, questions, what was left out.

    Reads every sample unless told otherwise; memory does not grow with them.

    Example: vlm3data stats out/scannet --plots out/plots

    Parameters
    ----------
    target
        URL of a directory of shards, or a mixture's YAML: what its stream draws.
    limit
        Read at most this many samples; of a mixture by default as many as are planned, or 10,000.
    seed
        Of the choice of samples; of a mixture in place of its own.
    plots
        Also write PNG plots to this directory (needs `pip install 'vlm3[plot]'`).
    json
        Print everything as JSON.
    """
    from vlm3data.report.statistics import collect
    from vlm3data.report.summary import print_statistics
    from vlm3data.report.target import Target

    if limit is not None and limit < 1:
        raise UsageError("--limit must be at least 1")
    with progress_bar("counting") as progress:
        statistics = collect(Target.open(target, seed), limit, progress)
    written: list[str] = []
    if plots is not None:
        from vlm3data.report.plots import write_plots

        written = write_plots(statistics, plots)
    if json:
        print_json(statistics)
    else:
        print_statistics(statistics)
        if plots is not None:
            print(f"wrote {plots}: {', '.join(written)}")


def card(shards: str, *, out: Place | None = None) -> None:
    """Write a dataset card in Markdown: counts, licence, settings, values, known limits, example questions.

    Example: vlm3data card out/scannet --out out/scannet/README.md

    Parameters
    ----------
    shards
        URL of a directory of shards.
    out
        The file to write; by default it is printed.
    """
    from vlm3data.report.card import write_card
    from vlm3data.report.target import Target
    from vlm3data.storage import open_store, write_whole

    with progress_bar("reading") as progress:
        text = write_card(Target.open(shards), progress)
    if out is None:
        print(text, end="")
        return
    fs, path = open_store(out)
    write_whole(fs, path, text.encode())
    print(f"wrote {out}")
