"""Families of models, by the `model_type` of their config: what goes in, and how it is prepared."""

from __future__ import annotations

from vlm3data.types import UserError
from vlm3train.families.contract import ImageResize, Processor

QWEN_VL = {"qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe"}
"""One way of cutting images into patches, and one chat format."""


def check(name: str, model_type: str) -> None:
    """Refuse the checkpoint `name` if its architecture takes no images."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as KNOWN

    if model_type not in KNOWN:
        raise UserError(f"{name}: is a {model_type} model; only a model that takes images and text can be used")


def load(name: str, model_type: str, image_resize: ImageResize) -> Processor:
    """Return the processor of the checkpoint `name`, which lies on this disk or on the hub."""
    if model_type in QWEN_VL:
        from vlm3train.families import qwen_vl as family
    else:
        from vlm3train.families import generic as family
    return family.load(name, image_resize)
