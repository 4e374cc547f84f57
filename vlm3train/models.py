"""Loading and saving of a Qwen3-VL: a directory or a hub name in, model and processor out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vlm3data.types import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, Qwen2VLImageProcessorPil

MODEL_TYPE = "qwen3_vl"


@dataclass(frozen=True, slots=True)
class Processor:
    """Tokenizer (with its chat template) and image processor.

    Not transformers' own Qwen3VLProcessor: that one holds a video processor, which needs torchvision.
    """

    tokenizer: PreTrainedTokenizerBase
    image_processor: Qwen2VLImageProcessorPil

    def token_id(self, token: str) -> int:
        """Return the id of one token of the vocabulary."""
        return self.tokenizer.get_vocab()[token]

    def save(self, out: Path) -> None:
        """Write both beside a model."""
        self.tokenizer.save_pretrained(out)
        self.image_processor.save_pretrained(out)


def load_model(name: str, dtype: str = "float32") -> PreTrainedModel:
    """Return the Qwen3-VL of a directory or a hub name, its weights as `dtype`."""
    from transformers import AutoModelForImageTextToText

    _check(name)
    try:
        return AutoModelForImageTextToText.from_pretrained(name, dtype=dtype)
    except OSError as error:
        raise UserError(f"{name}: its weights cannot be read ({_line(error)})") from error


def load_processor(name: str) -> Processor:
    """Return the tokenizer and image processor of a directory or a hub name."""
    from transformers import AutoTokenizer, Qwen2VLImageProcessorPil

    _check(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        image_processor = Qwen2VLImageProcessorPil.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise UserError(f"{name}: no tokenizer or image processor beside the model ({_line(error)})") from error
    if not tokenizer.chat_template:
        raise UserError(f"{name}: its tokenizer has no chat template; copy chat_template.jinja of the model here")
    return Processor(tokenizer, image_processor)


def _check(name: str) -> None:
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
    if config.model_type != MODEL_TYPE:
        raise UserError(f"{name}: is a {config.model_type} model; only {MODEL_TYPE} is supported")


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
