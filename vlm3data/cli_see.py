"""The commands that show what is in shards and mixtures: `vlm3data preview`, `stats` and `card`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from vlm3data.command import UsageError, print_json, progress_bar

Json = Annotated[bool, Parameter(negative=())]


def preview(
    target: str, *, out: str, limit: int = 200, seed: int | None = None, image_px: int = 640, json: Json = False
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
