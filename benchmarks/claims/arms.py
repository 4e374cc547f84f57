"""An arm is one way to train, run with several seeds; all that is not said is the same for every arm."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from benchmarks.claims.pictures import Pictures

RECIPE: dict[str, Any] = {
    "batch_size": 128, "lr": 8e-4, "beta2": 0.95, "max_grad_norm": 1.0, "warmup_ratio": 0.05, "compile": True,
}  # fmt: skip
QUICKLY: dict[str, Any] = {"batch_size": 2, "compile": False}
"""In place of the recipe's, for a look at the path on anything."""
STEPS = 1100
"""Of a run that is as long as others: 140,800 samples, a minute of an H200."""


@dataclass(frozen=True)
class Arm:
    """One way to train."""

    name: str
    train: tuple[Pictures, ...]
    tests: tuple[Pictures, ...]
    size: str = "mini-smooth"
    pixels: int = 10
    """Questions per sample."""
    tasks: dict[str, float] | None = field(default=None, hash=False)
    """Which of the shards' tasks are asked; all where it is None."""
    length: float = 1.0
    """Steps, over those of other arms."""
    train_settings: dict[str, Any] = field(default_factory=dict, hash=False)
    """Of `vlm3train sft`, in place of the recipe's."""
    score_flags: tuple[str, ...] = ()
    """Of `vlm3train eval`, besides the usual ones."""

    def sft(self) -> dict[str, Any]:
        """Return the settings of `vlm3train sft`."""
        return RECIPE | self.train_settings

    def entry(self) -> dict[str, Any]:
        """Return what the mixture says of each dataset."""
        return {"weight": 1, "pixels": self.pixels} | ({"tasks": self.tasks} if self.tasks else {})

    def needs(self) -> tuple[Pictures, ...]:
        """Return every dataset."""
        return self.train + self.tests


def depth(domain: str, images: int) -> Pictures:
    """Return training images of a domain."""
    return Pictures(domain, "train", images)


def held_out(domain: str, images: int) -> Pictures:
    """Return images of scenes that no run learns from."""
    return Pictures(domain, "test", images)
