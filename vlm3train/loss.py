"""The loss: cross-entropy of the answers' tokens, with logits nowhere else."""

from __future__ import annotations

from types import MethodType
from typing import Any, NamedTuple

import torch
from torch.nn.functional import cross_entropy

from vlm3train import fast
from vlm3train.fast import Places

IGNORED = -100


class AnswerTokens(NamedTuple):
    """What the model makes of every token that carries loss, in the batch's order."""

    losses: torch.Tensor
    """(n,) cross-entropy, float32."""
    right: torch.Tensor
    """(n,) whether it is the likeliest token."""


def use_answer_loss(model: Any) -> None:
    """Let `model(**inputs, places=...)` return `AnswerTokens`; without `places` it stays what it was.

    Replacing `forward` rather than calling parts of the model keeps what wraps it at work: DDP, FSDP, autocast.
    """
    inner = fast.plain(model)
    stock = inner.forward
    if fast.is_fast(inner):
        fast.install(inner)

    def forward(self: Any, places: Places | None = None, **inputs: Any) -> Any:
        if places is None:
            return stock(**inputs)
        if fast.is_fast(self):
            states = fast.hidden_states(self, places=places, **inputs)
            logits = self.lm_head(states.flatten(0, 1).index_select(0, places.answer_at))
        else:
            whole = stock(**inputs, use_cache=False).logits
            logits = whole.flatten(0, 1).index_select(0, places.answer_at)
        right = logits.detach().argmax(-1) == places.answer_ids
        return AnswerTokens(cross_entropy(logits.float(), places.answer_ids, reduction="none"), right)

    inner.forward = MethodType(forward, inner)
