"""Loading and saving of a model: a directory or a hub name in, model and processor out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vlm3data.types import UserError
from vlm3train import families
from vlm3train.families.contract import ImageResize, Processor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Weights = Literal["float32", "bfloat16"]


def load_model(name: str, dtype: str = "float32") -> PreTrainedModel:
    """Return the model of a directory or a hub name, its weights as `dtype`."""
    from transformers import AutoModelForImageTextToText

    _model_type(name)
    try:
        return AutoModelForImageTextToText.from_pretrained(name, dtype=dtype)
    except OSError as error:
        raise UserError(f"{name}: its weights cannot be read ({_line(error)})") from error


def answering_weights(name: str, told: Weights | None = None) -> str:
    """Return what the weights of a model are while it answers: as `told`, or as saved.

    Those saved as float32 are bfloat16 on a GPU that has it: so they were trained, and float32 takes many times as
    long there.
    """
    import torch
    from transformers import AutoConfig

    if told:
        return told
    saved_float32 = AutoConfig.from_pretrained(name).dtype == torch.float32
    return "bfloat16" if saved_float32 and torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "auto"


def load_processor(name: str, image_resize: ImageResize = "refuse") -> Processor:
    """Return what turns samples into the inputs of the model in a directory or under a hub name.

    `image_resize` is what becomes of an image that the model's image processor would resize: an error, for its focal
    length would change, or the resized image.
    """
    return families.load(name, _model_type(name), image_resize)


def _model_type(name: str) -> str:
    from transformers import AutoConfig

    # A hub name is owner/name; anything else, and a path whose parent is there, was meant for this disk.
    parent = Path(name).parent
    if not Path(name).is_dir() and (len(Path(name).parts) != 2 or parent.is_dir()):
        raise UserError(f"{name}: no such directory; a model on the hub is named owner/name")
    if Path(name).is_dir() and not (Path(name) / "config.json").exists():
        raise UserError(f"{name}: no config.json in it; a run writes its model when it ends (its checkpoints hold one)")
    try:
        config = AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise UserError(f"{name}: neither a model directory nor a model on the hub ({_line(error)})") from error
    families.check(name, config.model_type)
    return config.model_type


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
