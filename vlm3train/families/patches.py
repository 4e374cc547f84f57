"""Qwen-VL's image patches as uint8: laid out in the worker, normalised where the model is.

The stock processor normalises on the CPU and doubles every frame in time, so that a worker would hand over eight bytes
for every byte of the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vlm3data.types import UInt8Array

if TYPE_CHECKING:
    from transformers import Qwen2VLImageProcessorPil

CHANNELS = 3


@dataclass(frozen=True, slots=True)
class PatchFacts:
    """What the image processor says about patches and their normalisation."""

    patch_size: int
    merge_size: int
    temporal_patch_size: int
    rescale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, image_processor: Qwen2VLImageProcessorPil) -> PatchFacts:
        """Return the facts of `image_processor`."""
        stock: Any = image_processor
        normalises = stock.do_normalize
        return cls(
            stock.patch_size,
            stock.merge_size,
            stock.temporal_patch_size,
            stock.rescale_factor if stock.do_rescale else 1.0,
            tuple(stock.image_mean) if normalises else (0.0,) * CHANNELS,
            tuple(stock.image_std) if normalises else (1.0,) * CHANNELS,
        )

    @property
    def factor(self) -> int:
        """Return what both sides of an image are multiples of, in pixels."""
        return self.patch_size * self.merge_size


def laid_out(image: UInt8Array, facts: PatchFacts) -> UInt8Array:
    """Return the patches (n, patch·patch·3) of an RGB image (h, w, 3), those that are merged side by side.

    Within a patch the pixels stay interleaved as they were decoded: whole rows are copied at once, which takes a
    quarter of the time. `normalised` puts the channels first.
    """
    height, width, _ = image.shape
    patch, merge, factor = facts.patch_size, facts.merge_size, facts.factor
    blocks = image.reshape(height // factor, merge, patch, width // factor, merge, patch, CHANNELS)
    return np.ascontiguousarray(blocks.transpose(0, 3, 1, 4, 2, 5, 6)).reshape(-1, patch * patch * CHANNELS)


def normalised(patches: torch.Tensor, facts: PatchFacts) -> torch.Tensor:
    """Return the stock processor's float32 `pixel_values` (n, 3·time·patch·patch) for patches of `laid_out`."""
    pixels = patches.unflatten(1, (-1, CHANNELS)).transpose(1, 2).float()
    mean, std = (torch.tensor(v, dtype=torch.float32)[:, None] for v in (facts.mean, facts.std))
    # Made on the GPU, or copied at leisure, they would wait for all that it still does.
    mean, std = (v.to(pixels.device, non_blocking=True) for v in (mean, std))
    values = (pixels * facts.rescale - mean) / std
    return values[:, :, None].expand(-1, -1, facts.temporal_patch_size, -1).flatten(1)
