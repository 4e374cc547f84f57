"""Training a part of a model: frozen towers, and LoRA adapters in place of full weights."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from vlm3data.config import Config
from vlm3data.types import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Part = Literal["vision", "projector", "language"]

PROJECTORS = {"merger", "deepstack_merger_list", "multi_modal_projector", "connector", "projector", "aligner"}
TOWERS = {"visual", "vision_tower", "vision_model", "vision_encoder", "vision"}
"""What transformers' image-text-to-text models call the modules between image and text, and those before them."""


class LoraSettings(Config):
    """Low-rank adapters (Hu et al. 2021, arXiv 2106.09685) on linear layers; all other weights stay as they are."""

    rank: Annotated[int, Field(gt=0)] = 16
    alpha: Annotated[float, Field(gt=0)] = 32.0
    """The adapters' output is scaled by alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: tuple[str, ...] = ()
    """Last parts of the names of the layers, such as q_proj; none: every linear layer of the language model."""


def prepared(
    model: PreTrainedModel, lora: LoraSettings | None, freeze: Sequence[Part] = (), seed: int = 0
) -> PreTrainedModel:
    """Return `model` with the parts `freeze` fixed, and adapters on the others if there is to be LoRA.

    With LoRA this is a `peft.PeftModel`: `get_base_model()` has the architecture with the adapters in place,
    `save_pretrained` writes the adapters, and `merged` makes a plain model of it. `seed` is that of the adapters.
    """
    for part in freeze:
        weights = [weight for name, weight in model.named_parameters() if part_of(name) == part]
        if not weights:
            raise UserError(f"freeze: a {model.config.model_type} has no part that is known as its {part}")
        for weight in weights:
            weight.requires_grad_(False)
    if lora:
        return _adapted(model, lora, freeze, seed)
    if not any(weight.requires_grad for weight in model.parameters()):
        raise UserError(f"freeze: {', '.join(freeze)} is the whole model, so there is nothing to train")
    return model


def merged(model: Any) -> PreTrainedModel:
    """Return the plain model, its adapters (if it has any) added to the weights they stand beside."""
    return model.merge_and_unload() if hasattr(model, "merge_and_unload") else model


def part_of(name: str) -> Part:
    """Return the part that a parameter or module belongs to, by its name."""
    words = set(name.split("."))
    return "projector" if words & PROJECTORS else "vision" if words & TOWERS else "language"


def _adapted(model: PreTrainedModel, lora: LoraSettings, freeze: Sequence[Part], seed: int) -> Any:
    if find_spec("peft") is None:
        raise UserError("lora: peft is not installed; pip install 'vlm3[lora]'")
    import torch
    from peft import LoraConfig, get_peft_model

    targets = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and part_of(name) not in freeze and _is_target(name, lora.targets)
    ]
    if not targets:
        wanted = ", ".join(lora.targets) or "the language model"
        raise UserError(f"lora: no linear layer that is not frozen belongs to {wanted}; see model.named_modules()")
    settings = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets)  # pyright: ignore[reportArgumentType]
    with torch.random.fork_rng(devices=[]):  # the model is on the CPU; all GPUs would be woken up, by every process
        torch.manual_seed(seed)
        return get_peft_model(model, settings)


def _is_target(name: str, targets: tuple[str, ...]) -> bool:
    if targets:
        return any(name == target or name.endswith(f".{target}") for target in targets)
    return part_of(name) == "language" and not name.endswith("lm_head")
