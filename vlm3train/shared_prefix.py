"""Greedy answers to many questions about the same images, whose images go through the model once.

What all questions of a sample begin with (everything up to the last image token) is run by itself, and its keys and
values serve every question. Each row of the batch is then

    [pad ... prefix] [pad ... question, generation prompt] [answer]

The attention mask hides both stretches of padding, and every token is given the position that it would have alone:
what a model answers does not depend on which questions share its batch.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from vlm3data.types import UserError
from vlm3train.families.qwen_vl import Images, QwenVL
from vlm3train.families.rows import Tokens, attended, padded


@dataclass(frozen=True)
class Turns:
    """Questions about the same images: what all their token rows begin with, and how each goes on."""

    prefix: Tokens
    tails: list[Tokens]
    images: Images

    @classmethod
    def of(cls, rows: Sequence[Tokens], image_token: int, images: Images) -> Turns:
        """Return the token `rows` of several questions, parted behind the last image token."""
        end = int((rows[0] == image_token).nonzero()[0][-1]) + 1
        prefix = rows[0][:end]
        if any((row[:end] != prefix).any() or (row[end:] == image_token).any() for row in rows):
            raise UserError("the chat template writes something about the question before the images")
        return cls(prefix, [row[end:] for row in rows], images)

    @property
    def longest(self) -> int:
        """Return the tokens of the longest row."""
        return len(self.prefix) + max(map(len, self.tails))


@torch.inference_mode()
def answer_greedily(model: Any, processor: QwenVL, batch: Sequence[Turns], max_new_tokens: int) -> list[list[int]]:
    """Return the answers' tokens, without the one that ends each, to all questions of `batch` in their order."""
    cache, seen, position = _run_prefixes(model, processor, batch)
    of_row = torch.tensor([i for i, turns in enumerate(batch) for _ in turns.tails], device=model.device)
    cache.batch_select_indices(of_row)
    seen, position = seen[of_row], position[of_row]

    tails = [tail for turns in batch for tail in turns.tails]
    ids = padded(tails, processor.pad_token, "left").to(model.device)
    mask = attended(tails, "left").to(model.device)
    positions = position[:, None] + (mask.cumsum(1) - 1).clamp(min=0)
    position = position + mask.sum(1)
    ends = torch.tensor(processor.end_tokens, device=model.device)
    ended = torch.zeros(len(tails), dtype=torch.bool, device=model.device)
    told: list[torch.Tensor] = []
    for _ in range(max_new_tokens):
        seen = torch.cat([seen, mask], 1)
        logits = model(
            input_ids=ids,
            attention_mask=seen,
            position_ids=positions.expand(3, -1, -1),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        token = logits.argmax(-1)
        told.append(token)
        ended |= torch.isin(token, ends)
        if ended.all():
            break
        ids, positions, position = token[:, None], position[:, None], position + 1
        mask = torch.ones_like(ids)
    return [_until_end(row, processor.end_tokens) for row in torch.stack(told, 1).tolist()]


def _run_prefixes(model: Any, processor: QwenVL, batch: Sequence[Turns]) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """Return the prefixes' keys and values, the mask (samples, longest) of their padding, and the position behind."""
    from transformers import DynamicCache

    rows, images = [turns.prefix for turns in batch], [turns.images for turns in batch]
    there = {name: value.to(model.device) for name, value in processor.batch(rows, images, side="left").items()}
    inputs = processor.on_device(there)
    kinds = inputs.pop("mm_token_type_ids")
    placed = {name: inputs[name] for name in ("input_ids", "image_grid_thw", "attention_mask")}
    positions, _ = model.model.get_rope_index(mm_token_type_ids=kinds, **placed)
    cache = DynamicCache(config=model.config.get_text_config())
    model.model(**inputs, position_ids=positions, past_key_values=cache, use_cache=True)
    return cache, inputs["attention_mask"], positions.amax((0, 2)) + 1


def _until_end(row: list[int], end_tokens: Collection[int]) -> list[int]:
    return row[: next((place for place, token in enumerate(row) if token in end_tokens), len(row))]
