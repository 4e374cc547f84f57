"""What a family of models does for training and asking, whatever its image processor and chat template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from vlm3data.types import Question, Sample

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

Batch = dict[str, Any]
"""Tensors by name, as a worker hands them over; a training batch also holds its `Meta` as `meta`."""
Asked = tuple[Sample, Question]
ImageResize = Literal["refuse", "processor"]
IGNORED = -100
"""The label of a token that carries no loss."""


@dataclass(frozen=True, slots=True)
class Meta:
    """Who is in a training batch, row by row: plain numbers and names, that no device ever sees."""

    keys: list[str]
    datasets: list[str]
    tokens: list[int]
    """Tokens of each row, padding left out."""
    loss_tokens: list[int]

    def longest(self) -> str:
        """Return the name and length of the longest row, for a message about memory."""
        row = max(range(len(self.keys)), key=self.tokens.__getitem__)
        return f"{self.keys[row]} of {self.datasets[row] or 'its dataset'} with {self.tokens[row]} tokens"


class Processor(Protocol):
    """The way from samples to a model's inputs: `train` and `ask` in a worker, `on_device` where the model is."""

    tokenizer: PreTrainedTokenizerBase
    pad_token: int
    end_tokens: list[int]
    """What ends an answer when the model generates."""

    def train(self, samples: Sequence[Sample]) -> Batch:
        """Return a right-padded batch with `labels` that are -100 everywhere but on the answers, and its `meta`."""
        ...

    def ask(self, asked: Sequence[Asked]) -> Batch:
        """Return a left-padded batch for generation, every question in a conversation of its own."""
        ...

    def on_device(self, batch: Batch, dtype: torch.dtype | None = None) -> dict[str, Any]:
        """Return the keyword arguments of the model's `forward`, from a batch that lies on the model's device.

        Images are float32, or `dtype`: not every model takes others than its weights are.
        """
        ...

    def save(self, out: Path) -> None:
        """Write tokenizer, chat template and image processor beside a model."""
        ...
