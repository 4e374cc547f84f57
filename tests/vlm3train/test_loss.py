"""The loss is computed in float32, whatever the logits are."""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy

from vlm3train.fast import Places
from vlm3train.loss import use_answer_loss


class _Fixed(torch.nn.Module):
    """Stands for a model of any family, with fixed logits (1, tokens, vocabulary)."""

    config = None

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, use_cache: bool) -> _Fixed:
        return self


def test_logits_of_few_bits_lose_no_more_in_the_loss():
    logits = torch.randn(1, 5, 4000, generator=torch.Generator().manual_seed(0)).bfloat16()
    model, answers = _Fixed(logits), Places(torch.tensor([1, 3]), torch.tensor([7, 3999]))
    use_answer_loss(model)
    made = model(places=answers)
    assert made.losses.dtype == torch.float32
    want = cross_entropy(logits[0, [1, 3]].double(), answers.answer_ids, reduction="none")
    torch.testing.assert_close(made.losses.double(), want, atol=1e-5, rtol=1e-6)
    assert made.right.tolist() == (logits[0, [1, 3]].argmax(-1) == answers.answer_ids).tolist()


def test_a_token_is_right_where_it_is_the_likeliest():
    logits = torch.tensor([[[0.0, 3.0, -1.0], [0.0, 3.0, -1.0], [5.0, 3.0, -1.0], [0.0, 0.0, 0.0]]])
    model = _Fixed(logits)
    use_answer_loss(model)
    made = model(places=Places(torch.tensor([0, 1, 2]), torch.tensor([1, 2, 0])))
    assert made.right.tolist() == [True, False, True]
