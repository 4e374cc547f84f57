"""Greedy answers from a model, a batch of independent questions at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers import GenerationConfig

from vlm3train.collate import AskCollator
from vlm3train.models import Processor, load_model, load_processor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from vlm3train.evaluate import Asked


class Generator:
    """Answers questions with `model`; `advance` is called with the number of questions each batch answered."""

    def __init__(
        self,
        model: PreTrainedModel,
        processor: Processor,
        batch_size: int,
        max_new_tokens: int,
        advance: Callable[[int], object] = lambda count: None,
    ) -> None:
        self.model: Any = model.eval()
        self.tokenizer = processor.tokenizer
        self.collate = AskCollator(processor)
        self.batch_size, self.advance = batch_size, advance
        # In place of the model's own, which may sample.
        model.generation_config = GenerationConfig(
            do_sample=False,
            max_new_tokens=max_new_tokens,
            eos_token_id=[processor.token_id(token) for token in ("<|im_end|>", "<|endoftext|>")],
            pad_token_id=processor.token_id("<|endoftext|>"),
        )

    @classmethod
    def load(cls, name: str, batch_size: int, max_new_tokens: int, advance: Callable[[int], object]) -> Generator:
        """Return a generator with the model of a directory or hub name, on the GPU where there is one."""
        processor = load_processor(name)
        model: Any = load_model(name, dtype="auto")
        if torch.cuda.is_available():
            model = model.to("cuda")
        return cls(model, processor, batch_size, max_new_tokens, advance)

    def __call__(self, asked: Sequence[Asked]) -> list[str]:
        """Return the answer to every question, without the tokens that end it."""
        texts: list[str] = []
        for start in range(0, len(asked), self.batch_size):
            batch = asked[start : start + self.batch_size]
            texts += self._answers(batch)
            self.advance(len(batch))
        return texts

    @torch.inference_mode()
    def _answers(self, batch: Sequence[Asked]) -> list[str]:
        inputs = {name: value.to(self.model.device) for name, value in self.collate(batch).items()}
        tokens = self.model.generate(**inputs)[:, inputs["input_ids"].shape[1] :]
        return self.tokenizer.batch_decode(tokens, skip_special_tokens=True)
