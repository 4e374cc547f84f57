"""The command `vlm3data doctor`: is this machine ready, is this download whole?"""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from vlm3data.command import UsageError, print_json


def doctor(
    source: str | None = None,
    *,
    root: str = "",
    out: str = ".",
    json: Annotated[bool, Parameter(negative=())] = False,
    **options: str,
) -> int:
    """Check this machine; or, with a source, a download: what is missing, by name and size, and where it is from.

    Each line is ok, warn or fail, with what to do. The exit code is 1 where something fails.

    Example: vlm3data doctor scannet --root data/scannet

    Parameters
    ----------
    source
        Which kind of dataset to check at --root; without it the machine is checked.
    root
        URL of the dataset.
    out
        Where builds would write, for the check of the disk.
    json
        Print the checks as JSON.
    options
        With a source: its own flags, as for `vlm3data build`.
    """
    from vlm3data.doctor import check_dataset, check_machine
    from vlm3data.flags import check_options, known_names, options_of, take
    from vlm3data.report.checks import print_checks

    if source is None:
        if root or options:
            raise UsageError(f"--{'root' if root else next(iter(options))} is for a source: vlm3data doctor SOURCE")
        checks = check_machine(out)
    else:
        known_names("source", [source])
        given: dict[str, object] = {}
        for flag, value in options.items():
            take(flag, value, [(options_of("source", source), given)], f"the source {source} knows")
        check_options("source", source, given)
        checks = check_dataset(source, root, given)
    found = list(checks) if json else print_checks(checks)
    if json:
        print_json([check._asdict() for check in found])
    return 1 if any(check.status == "fail" for check in found) else 0
