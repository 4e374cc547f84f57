"""What is compared: an arm is one way to train, run with several seeds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from benchmarks.claims.pictures import Pictures

RECIPE = {"batch_size": 256, "lr": 8e-4, "beta2": 0.95, "max_grad_norm": 1.0, "warmup_ratio": 0.05}


@dataclass(frozen=True)
class Arm:
    """One way to train; everything not said is the recipe."""

    name: str
    train: tuple[Pictures, ...]
    tests: tuple[Pictures, ...]
    size: str = "mini"
    pixels: int = 10
    """Questions per sample."""
    train_settings: dict[str, Any] = field(default_factory=dict, hash=False)
    """Of `vlm3train sft`, in place of the recipe's."""
    mixture: dict[str, Any] = field(default_factory=dict, hash=False)
    """Of the mixture's file, in place of equal weights."""

    def sft(self) -> dict[str, Any]:
        """Return the settings of `vlm3train sft`."""
        return RECIPE | self.train_settings

    def needs(self) -> tuple[Pictures, ...]:
        """Return every dataset."""
        return self.train + self.tests


def depth(domain: str, images: int) -> Pictures:
    """Return training images of a domain."""
    return Pictures(domain, "train", images)


def held_out(domain: str, images: int) -> Pictures:
    """Return images of scenes that no run learns from."""
    return Pictures(domain, "test", images)
