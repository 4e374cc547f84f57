"""What a build may drop, and what it may find in its output: the checks around the main flow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vlm3data.types import UserError

NO_INTRINSICS_HINT = "--calibrator exif, vanishing, ... estimates the camera where a source has no intrinsics"
HINTS = {
    "no_intrinsics": NO_INTRINSICS_HINT,
    "no_exif_focal": "images without a focal length in EXIF need --calibrator fov or vanishing",
    "orientation_unclear": "--orientation upright or stored says which way photos lay when they were labelled",
    "not_metric": "what has no metres cannot be asked for metres; a source may take its scale as a flag",
    "depth_out_of_range": "are the depths in the unit that was said?",
}
ANOTHER_BUILD = (
    "{out} holds {what} of another build (other source, scenes or settings): nothing was changed; choose another "
    "--out, or delete that directory first"
)


class Budget:
    """What the finished shards of a build dropped, against what they may."""

    def __init__(self, max_drop_rate: float, candidates: int) -> None:
        """Take the rate and how many samples there will be if none is dropped."""
        self.max_drop_rate, self.candidates = max_drop_rate, candidates
        self.samples, self.seen, self.total = 0, 0, total_of([])

    def add(self, manifest: Mapping[str, Any]) -> None:
        """Count a finished shard in.

        Raises UserError where more was dropped than may be: of the samples as soon as it shows, of the labels in the
        end. How many labels there are is known only then: to judge by those seen so far would depend on the order.
        """
        _add(self.total, manifest)
        self.samples += manifest["samples"]
        self.seen += manifest["samples"] + sum(manifest["drops"].values()) + sum(manifest["cuts"].values())
        rates = [("samples", sum(self.total["drops"].values()), self.candidates)]
        if self.seen == self.candidates:
            labels = self.total["labels"]
            dropped = sum(labels["dropped"].values())
            rates.append(("labels", dropped, labels["kept"] + sum(labels["cut"].values()) + dropped))
        for what, dropped, of in rates:
            if dropped > self.max_drop_rate * of:
                raise UserError(
                    f"dropped {dropped} of {of} {what} ({reasons(self.total)}), more than max_drop_rate "
                    f"{self.max_drop_rate:g} allows; mend the source (vlm3data doctor names some of them), or raise "
                    "--max-drop-rate"
                )


def refuse_other_builds(manifests: Mapping[str, dict[str, Any]], digests: Mapping[str, str], out: str) -> None:
    """Raise UserError where a shard in `out` is none of this build's, whose digests are given by shard name."""
    for name, manifest in manifests.items():
        if digests.get(name) != manifest["config"]:
            raise UserError(ANOTHER_BUILD.format(out=out, what=name))


def total_of(manifests: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the sums of what the shards dropped, cut and kept."""
    total: dict[str, Any] = {"drops": {}, "cuts": {}, "unasked": {}, "labels": {"kept": 0, "cut": {}, "dropped": {}}}
    for manifest in manifests:
        _add(total, manifest)
    return total


def _add(total: dict[str, Any], manifest: Mapping[str, Any]) -> None:
    """Add what a manifest counts to `total`, whose reasons stay in order."""
    labels, counted = total["labels"], manifest["labels"]
    for sums, counts in (
        *((total[key], manifest[key]) for key in ("drops", "cuts", "unasked")),
        *((labels[key], counted[key]) for key in ("cut", "dropped")),
    ):
        added = {reason: sums.get(reason, 0) + count for reason, count in counts.items()}
        ordered = dict(sorted((sums | added).items()))
        sums.clear()
        sums.update(ordered)
    labels["kept"] += counted["kept"]
    if quarantined := manifest.get("quarantined"):
        total.setdefault("quarantined", []).extend(quarantined)


def reasons(total: dict[str, Any]) -> str:
    """Return the reasons for what was left out with their counts, for a message."""
    counts = total["drops"] | total["cuts"] | total["labels"]["dropped"]
    said = ", ".join(f"{reason} {count}" for reason, count in counts.items())
    return "; ".join([said, *(hint for reason, hint in HINTS.items() if reason in counts)])
