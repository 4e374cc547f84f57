"""How much arithmetic a training step takes, and how much the GPU could do: their ratio is the MFU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

PEAK_TFLOPS = {
    "H100 PCIe": 756.5, "H800 PCIe": 756.5, "H100 NVL": 835.5, "H200 NVL": 835.5, "H200": 989.4, "H100": 989.4,
    "H800": 989.4, "H20": 148.0, "B200": 2250.0, "A100": 312.0, "A800": 312.0,
}  # fmt: skip
"""Dense bfloat16, from NVIDIA's data sheets, by what a GPU's name holds, the first that fits: cards do less than
modules. A GPU that is not here has no MFU in the log."""


class Arithmetic:
    """Floating-point operations of a Qwen3-VL's training step, counted as is usual (arXiv 2204.02311, appendix B).

    Six per weight and token, attention over all pairs, logits of every token, whatever an implementation leaves out
    (the future, logits without loss) or does twice (gradient checkpointing).
    """

    @staticmethod
    def knows(config: Any) -> bool:
        """Tell whether a model of this config is counted."""
        return getattr(config, "model_type", "") == "qwen3_vl"

    def __init__(self, config: Any) -> None:
        text, vision = config.text_config, config.vision_config
        self._text_layers, self._heads_width = text.num_hidden_layers, text.num_attention_heads * text.head_dim
        attention = text.hidden_size * text.head_dim * (2 * text.num_attention_heads + 2 * text.num_key_value_heads)
        layer = attention + 3 * text.hidden_size * text.intermediate_size
        self._per_token = text.num_hidden_layers * layer + text.hidden_size * text.vocab_size
        self._vision_layers, self._vision_width = vision.depth, vision.hidden_size
        merged = vision.hidden_size * vision.spatial_merge_size**2
        mergers = (1 + len(vision.deepstack_visual_indexes)) * (merged * merged + merged * vision.out_hidden_size)
        block = 4 * vision.hidden_size**2 + 2 * vision.hidden_size * vision.intermediate_size
        self._per_patch = vision.depth * block + mergers / vision.spatial_merge_size**2

    def training_step(self, tokens: Sequence[int], grids: Sequence[tuple[int, int]]) -> float:
        """Return the operations, forward and backward, for rows of `tokens` and images of `grids` patches."""
        text = sum(6 * self._per_token * n + 12 * self._text_layers * self._heads_width * n * n for n in tokens)
        patches = [rows * columns for rows, columns in grids]
        images = sum(6 * self._per_patch * n + 12 * self._vision_layers * self._vision_width * n * n for n in patches)
        return text + images


def peak_flops(device_name: str) -> float | None:
    """Return what the GPU of this name can do a second at most; None where it is not known."""
    return next((tflops * 1e12 for name, tflops in PEAK_TFLOPS.items() if name in device_name), None)
