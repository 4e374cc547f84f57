"""The command `vlm3data export`: the same images, questions and answers for other trainers."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from vlm3data.command import Place, UsageError, print_json, progress_bar


def export(
    what: str,
    *,
    format: Literal["llava", "qwen-vl", "sharegpt", "parquet"],
    out: Place,
    samples: int | None = None,
    split: str | None = None,
    limit: int | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Write shards, or what a mixture draws of them, in the files that other trainers read.

    The images are the shards' very bytes. Stopped at any moment, the same command goes on where it was; a finished
    export has an export.json. See docs/other_loaders.md for what other trainers do to the images.

    Example: vlm3data export out/ibims1 --format sharegpt --out out/ibims1-sharegpt

    Parameters
    ----------
    what
        URL of a directory that `vlm3data build` wrote, or a mixture's YAML file.
    format
        llava and qwen-vl (conversations, image files), sharegpt (LLaMA-Factory, ms-swift: messages, image files),
        or parquet (messages and the images' bytes, for `datasets` and TRL).
    out
        URL of the directory to write.
    samples
        Of a mixture: how many positions of its stream, from the first.
    split
        Of shards: only the samples of this split.
    limit
        Of shards: at most this many samples, drawn at random.
    json
        Print what was written as JSON.
    """
    from vlm3data.export import export as write_export
    from vlm3data.export.drawn import is_spec, of_mixture, of_shards

    if any(number is not None and number < 1 for number in (samples, limit)):
        raise UsageError("--samples and --limit must be at least 1")
    if is_spec(what):
        if split is not None or limit is not None:
            raise UsageError("--split and --limit are for shards; a mixture's file has keys of these names")
        if samples is None:
            raise UsageError("a mixture's stream never ends: say how many --samples of it")
        drawn = of_mixture(what, samples)
    else:
        if samples is not None:
            raise UsageError("--samples is for mixtures; shards take --limit")
        drawn = of_shards(what, split, limit)
    with progress_bar("exporting") as progress:
        about = write_export(drawn, format, out, progress)
    if json:
        print_json(about)
        return
    splits = ", ".join(f"{name} {count:,}" for name, count in about["splits"].items())
    print(
        f"{out}: {about['samples']:,} samples ({splits}), {about['questions']:,} questions, {about['images']:,} images"
    )
