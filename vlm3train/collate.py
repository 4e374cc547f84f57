"""Samples to tensors, in a DataLoader's worker: what a model is trained on, and what it is asked."""

from __future__ import annotations

from collections.abc import Sequence

from vlm3data.types import Sample
from vlm3train.families.contract import IGNORED, Asked, Batch, Meta, Processor

__all__ = ["IGNORED", "AskCollator", "Batch", "Meta", "TrainCollator"]


class TrainCollator:
    """Turns samples into one right-padded training batch."""

    def __init__(self, processor: Processor) -> None:
        self.processor = processor

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        """Return tensors with `labels` that are -100 everywhere but on the answers, and who they are of as `meta`.

        `processor.on_device` makes the model's inputs of them.
        """
        return self.processor.train(samples)


class AskCollator:
    """Turns questions into one left-padded batch for generation, each in a conversation of its own."""

    def __init__(self, processor: Processor) -> None:
        self.processor = processor

    def __call__(self, asked: Sequence[Asked]) -> Batch:
        """Return tensors for questions put to the images of the sample beside each, for `processor.on_device`."""
        return self.processor.ask(asked)
