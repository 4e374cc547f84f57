"""What a run has used of each dataset: samples, tokens, loss and damage, summed on every rank without waiting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.distributed

from vlm3data.mixture import Mixture
from vlm3data.skips import Skip
from vlm3train.collate import Meta
from vlm3train.loss import AnswerTokens


class Account(NamedTuple):
    """Sums over the samples of one dataset since they were last asked for, of all ranks."""

    samples: int
    tokens: int
    """Of text and image, without padding."""
    answer_tokens: int
    loss: float
    """Mean over the answers' tokens; NaN without any."""
    right: float
    """Share of the answers' tokens that were the likeliest."""
    skipped: int
    """Damaged samples that others stood in for."""


class Ledger:
    """Accounts of the datasets of a mixture, by name."""

    def __init__(self, mixture: Mixture) -> None:
        self.names = list(dict.fromkeys(part.dataset.name for part in mixture.parts if part.dataset is not None))
        self._number = {name: number for number, name in enumerate(self.names)}
        self._counts = torch.zeros(len(self.names), 4, dtype=torch.float64)
        self._sums: torch.Tensor | None = None

    def add(self, meta: Meta, made: AnswerTokens) -> None:
        """Count a batch; its losses stay on the GPU until `take`."""
        of = torch.tensor([self._number[name] for name in meta.datasets])
        tokens, answers = torch.tensor(meta.tokens), torch.tensor(meta.loss_tokens)
        counts = torch.stack([torch.ones_like(tokens), tokens, answers, torch.zeros_like(tokens)], dim=1)
        self._counts.index_add_(0, of, counts.double())
        if self._sums is None:
            self._sums = torch.zeros(len(self.names), 2, dtype=_widest(made.losses.device), device=made.losses.device)
        row = of.repeat_interleave(answers).to(self._sums.device, non_blocking=True)
        self._sums.index_add_(0, row, torch.stack([made.losses.detach(), made.right], dim=1).to(self._sums.dtype))

    def skip(self, skips: Sequence[Skip]) -> None:
        """Count damaged samples."""
        for skip in skips:
            self._counts[self._number[skip.dataset.partition("#")[0]], 3] += 1

    def take(self) -> dict[str, Account]:
        """Return the accounts of all ranks and begin anew; every rank must call it."""
        sums = torch.zeros(len(self.names), 2, dtype=torch.float64) if self._sums is None else self._sums
        # In float64: in float32, counts of tokens are rounded from 16.8 million on.
        whole = torch.cat([self._counts.to(sums), sums], dim=1)
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(whole)
        self._counts.zero_()
        self._sums = None
        accounts = {}
        for name, (samples, tokens, answers, skipped, loss, right) in zip(self.names, whole.tolist(), strict=True):
            mean = (loss / answers, right / answers) if answers else (float("nan"), float("nan"))
            accounts[name] = Account(int(samples), int(tokens), int(answers), *mean, int(skipped))
        return accounts


def _widest(device: torch.device) -> torch.dtype:
    """Return the widest floats a device can add up: Apple's GPUs have no float64."""
    return torch.float32 if device.type == "mps" else torch.float64
