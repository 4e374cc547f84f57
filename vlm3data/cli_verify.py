"""The command `vlm3data verify`: are these shards sound, and do they say what their source says?"""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from vlm3data.command import UsageError, print_json, progress_bar

Flag = Annotated[bool, Parameter(negative=())]


def verify(
    shards: str,
    *,
    deep: Flag = False,
    root: str = "",
    samples: int = 100,
    seed: int = 0,
    json: Flag = False,
    **options: str,
) -> int:
    """Check a finished dataset from the bytes up: hashes, tars, index, images, every question against its numbers.

    With --deep also against the dataset it was built from: some samples are built again and compared, image and
    label, and their labels are held against the source's raw depth, poses and boxes by independent code.

    Example: vlm3data verify out/scannet --deep --root data/scannet

    Parameters
    ----------
    shards
        URL of the directory that `vlm3data build` wrote.
    deep
        Build some samples again from the source, and compare.
    root
        With --deep: URL of the dataset that the shards were built from.
    samples
        With --deep: how many samples to build again.
    seed
        With --deep: which ones.
    json
        Print the findings as JSON.
    options
        With --deep: a flag of the source or a task that named a file which now lies elsewhere (--patterns, --wordings).
    """
    from dataclasses import asdict

    from vlm3data import shards as shards_module
    from vlm3data.report.findings import print_deep, print_findings

    if not deep and (root or options):
        raise UsageError(f"--{'root' if root else next(iter(options))} is for --deep, which builds samples again")
    if samples < 1:
        raise UsageError("--samples must be at least 1")
    with progress_bar("verifying") as progress:
        findings = shards_module.verify(shards, progress)
    found = asdict(findings)
    if not json:
        print_findings(findings, shards)
    if deep:
        from vlm3data.deep import verify_deep
        from vlm3data.flags import from_flags

        given = _given(shards, options)
        with progress_bar("building again") as progress, from_flags(given):
            deeply = verify_deep(shards, root, samples=samples, seed=seed, given=given, progress=progress)
        found["deep"] = asdict(deeply)
        if not json:
            print_deep(deeply, root)
    if json:
        print_json(found)
    return 1 if found["problems"] or (deep and found["deep"]["problems"]) else 0


def _given(shards: str, options: dict[str, str]) -> dict[str, object]:
    """Return the flags as options of the source and the tasks that the shards were built with."""
    from vlm3data.flags import assign_options
    from vlm3data.shards import Dataset

    if not options:
        return {}
    config = Dataset(shards).about["config"]
    source, tasks, _ = assign_options(config["source"], list(config["tasks"]), None, options)
    return source | {key: value for taken in tasks.values() for key, value in taken.items()}
