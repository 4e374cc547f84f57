"""The results as pictures: every run of every arm, and the course of the longest run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

from benchmarks.claims.claims import CLAIMS
from benchmarks.claims.tables import scored


def plot_claims(results: Sequence[Mapping[str, Any]], path: Path) -> bool:
    """Draw a dot a run, a row an arm, grouped by claim, the controls beside them; tell whether there was anything."""
    groups = [
        (claim, found)
        for claim in CLAIMS
        if (found := [one for arm in claim.arms if (one := scored(results, arm)) is not None])
    ]
    if not groups:
        return False
    rows = sum(len(found) + 1 for _, found in groups)
    figure, axes = plt.subplots(figsize=(8, 0.28 * rows + 1), layout="constrained")
    labels, at = [], 0
    for claim, found in groups:
        labels.append((at, f"{claim.number}. {claim.title}"))
        for number, one in enumerate(found, 1):
            axes.scatter(one.values, [at + number] * len(one.values), color="tab:blue", s=22, zorder=3)
            for control, marker in ((one.other_image, "x"), (one.prior, "|")):
                if control is not None:
                    axes.scatter([control], [at + number], color="tab:grey", marker=marker, s=26)
            labels.append((at + number, one.arm))
        at += len(found) + 1
    axes.set_yticks([place for place, _ in labels], [label for _, label in labels])
    axes.invert_yaxis()
    axes.set(xlabel="δ1 on held-out scenes: dots are runs, x another sample's image, | the location prior", xlim=(0, 1))
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return True


def plot_course(results: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw loss and share of right answer tokens over the samples seen, a colour a run."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
    for result in results:
        samples = [line["samples"] for line in result["log"]]
        left.plot(samples, [line["loss"] for line in result["log"]], label=result["arm"])
        right.plot(samples, [line["token_accuracy"] for line in result["log"]], label=result["arm"])
    left.set(xlabel="samples", ylabel="loss of an answer's token", ylim=(0, 2))
    right.set(xlabel="samples", ylabel="answer tokens right", ylim=(0, 1))
    right.legend(frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)
