"""What a loader's worker hands to the training loop: inputs, where the loss lies, and who is in the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import pad

from vlm3data.types import Sample
from vlm3train import fast
from vlm3train.collate import Batch, TrainCollator
from vlm3train.families.contract import Processor

STEPS_OF_LENGTH = 64
"""Rows are padded to multiples of this where blocks are compiled, once per length."""


class TrainingBatches:
    """Collates samples, and works out what the forward pass would otherwise ask the GPU for."""

    def __init__(self, processor: Processor, model: Any, compiled: bool) -> None:
        self._collate, self._pad_token = TrainCollator(processor), processor.pad_token
        self._length_step = STEPS_OF_LENGTH if compiled else 1
        self._fast: tuple[int, int] | None = None
        if fast.is_fast(model):
            config = fast.plain(model).config
            self._fast = config.image_token_id, config.vision_config.spatial_merge_size

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        """Return a batch with `places` in place of `labels`."""
        batch = self._collate(samples)
        labels = batch.pop("labels")
        if self._fast is None:
            return batch | {"places": fast.answers_of(labels)}
        ids: torch.Tensor = batch["input_ids"]
        longer = -ids.shape[1] % self._length_step
        ids, labels = pad(ids, (0, longer), value=self._pad_token), pad(labels, (0, longer), value=fast.IGNORED)
        return {
            "input_ids": ids,
            "pixel_patches": batch["pixel_patches"],
            "places": fast.places_of(ids, labels, batch["image_grid_thw"], *self._fast),
            "meta": batch["meta"],
        }
