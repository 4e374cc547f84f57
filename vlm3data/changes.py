"""What changed between two locks of a mixture, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return a short line for every difference; none where the streams are the same, position by position."""
    found = []
    if before["seed"] != after["seed"]:
        found.append(f"the seed is {after['seed']}, was {before['seed']}")
    old, new = before["datasets"], after["datasets"]
    found += (f"{name} is new" for name in new if name not in old)
    found += (f"{name} is gone" for name in old if name not in new)
    for name in new:
        if name in old:
            found += (f"{name} has {change}" for change in _of_dataset(old[name], new[name]))
    if list(old) == list(new):
        found += _of_shares(before["course"], after["course"], list(new))
    elif set(old) == set(new):
        found.append("the datasets stand in another order")
    return found


def _of_dataset(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    found = []
    if before["fingerprint"] != after["fingerprint"]:
        added = after["samples"] - before["samples"]
        many = f"{abs(added):,} samples {'more' if added > 0 else 'fewer'}" if added else "as many samples"
        found.append(
            f"other shards ({after['shards']:,} with {after['samples']:,} samples, were {before['shards']:,} "
            f"with {before['samples']:,}: {many})"
        )
    if before["selection"] != after["selection"]:
        found.append(
            f"another selection ({after['selection'] or 'everything'}, was {before['selection'] or 'everything'})"
        )
    if before["pixels"] != after["pixels"]:
        found.append(f"{after['pixels']} pixels, had {before['pixels']}")
    if before.get("unify") != after.get("unify"):
        found.append(f"its images unified to {_unified(after)}, were to {_unified(before)}")
    return found


def _unified(locked: Mapping[str, Any]) -> str:
    return " and ".join(f"{key} {value}" for key, value in locked.get("unify", {}).items()) or "what it was built for"


def _of_shares(before: list[Any], after: list[Any], names: list[str]) -> list[str]:
    if before == after:
        return []
    if len(before) == len(after) == 1:
        pairs = zip(names, before[0][1], after[0][1], strict=True)
        return [f"{name} has a share of {now:.4g}, had {was:.4g}" for name, was, now in pairs if was != now]
    return ["the shares change in another way over the run (weights, `schedule` or `samples`)"]
