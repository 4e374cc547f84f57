"""Families of models, by the `model_type` of their config: what goes in, and how it is prepared."""

from __future__ import annotations

from vlm3data.types import UserError
from vlm3train.families.contract import ImageResize, Processor

QWEN_VL = {"qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe"}


def load(name: str, model_type: str, image_resize: ImageResize) -> Processor:
    """Return the processor of the checkpoint `name`; it lies on this disk or on the hub."""
    if model_type in QWEN_VL:
        from vlm3train.families.qwen_vl import load as load_qwen_vl

        return load_qwen_vl(name, image_resize)
    raise UserError(f"{name}: is a {model_type} model; only {', '.join(sorted(QWEN_VL))} are supported")
