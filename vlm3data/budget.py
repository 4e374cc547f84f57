"""What a build may drop, and what it may find in its output: the checks around the main flow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from vlm3data.types import UserError

NO_INTRINSICS_HINT = "--calibrator exif, vanishing, ... estimates the camera where a source has no intrinsics"


def check_budget(max_drop_rate: float, manifests: Collection[dict[str, Any]], candidates: int) -> None:
    """Fail where more was dropped than may be: of the samples as soon as it shows, of the labels in the end.

    How many labels there are is known only then: to judge by those seen so far would depend on the order.
    """
    total, finished = total_of(manifests), sum(_candidates(manifest) for manifest in manifests) == candidates
    rates = [("samples", sum(total["drops"].values()), candidates)]
    if finished:
        seen = total["labels"]["kept"] + sum(total["labels"]["cut"].values()) + sum(total["labels"]["dropped"].values())
        rates.append(("labels", sum(total["labels"]["dropped"].values()), seen))
    for what, dropped, of in rates:
        if dropped > max_drop_rate * of:
            raise UserError(
                f"dropped {dropped} of {of} {what} ({reasons(total)}), more than max_drop_rate "
                f"{max_drop_rate:g} allows; mend the source, or raise --max-drop-rate"
            )


def refuse_other_builds(manifests: Mapping[str, dict[str, Any]], digests: Mapping[str, str], out: str) -> None:
    """Raise UserError where a shard in `out` is none of this build's, whose digests are given by shard name."""
    for name, manifest in manifests.items():
        if digests.get(name) != manifest["config"]:
            raise UserError(
                f"{out} holds {name} of another build (other source, scenes or settings): nothing was changed; "
                "choose another --out, or delete that directory first"
            )


def total_of(manifests: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the sums of what the shards dropped, cut and kept."""
    drops, cuts, unasked = Counter[str](), Counter[str](), Counter[str]()
    kept, cut, dropped = 0, Counter[str](), Counter[str]()
    for manifest in manifests:
        drops.update(manifest["drops"])
        cuts.update(manifest["cuts"])
        unasked.update(manifest["unasked"])
        kept += manifest["labels"]["kept"]
        cut.update(manifest["labels"]["cut"])
        dropped.update(manifest["labels"]["dropped"])
    return {
        "drops": dict(sorted(drops.items())),
        "cuts": dict(sorted(cuts.items())),
        "unasked": dict(sorted(unasked.items())),
        "labels": {"kept": kept, "cut": dict(sorted(cut.items())), "dropped": dict(sorted(dropped.items()))},
    }


def reasons(total: dict[str, Any]) -> str:
    """Return the reasons for what was left out with their counts, for a message."""
    counts = total["drops"] | total["cuts"] | total["labels"]["dropped"]
    said = ", ".join(f"{reason} {count}" for reason, count in counts.items())
    return f"{said}; {NO_INTRINSICS_HINT}" if "no_intrinsics" in counts else said


def _candidates(manifest: dict[str, Any]) -> int:
    return manifest["samples"] + sum(manifest["drops"].values()) + sum(manifest["cuts"].values())
