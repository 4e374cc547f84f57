"""A loss or gradient that is no number is noticed without waiting for the GPU, at the latest before a save."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch.distributed.tensor import DTensor

from vlm3data.types import UserError

NAMED = 8


class _Seen(NamedTuple):
    what: str
    step: int
    keys: Sequence[str]
    value: torch.Tensor
    copied: torch.cuda.Event | None


class LossWatch:
    """Looks at the losses of batches and the norms of gradients as they arrive on the CPU."""

    def __init__(self) -> None:
        self._seen: deque[_Seen] = deque()
        self._keys: list[str] = []

    def note(self, step: int, keys: Sequence[str], loss: torch.Tensor) -> None:
        """Remember the loss of a batch in optimizer step `step`, and who was in it."""
        self._keys += keys
        self._remember("loss", step, keys, loss)

    def note_norm(self, step: int, norm: torch.Tensor) -> None:
        """Remember the norm of the gradients of optimizer step `step`, that of all batches since the last.

        One that is infinite makes the weights NaN in this very step, though its loss was none; and it is the same on
        every process, so that none of them saves what another one's loss has spoilt.
        """
        self._remember("gradients' norm", step, self._keys, norm)
        self._keys = []

    def check(self, wait: bool = False) -> None:
        """Raise UserError for the first that has become NaN or infinite; `wait` for those under way."""
        while self._seen and (wait or self._seen[0].copied is None or self._seen[0].copied.query()):
            what, step, keys, noted, copied = self._seen.popleft()
            if copied is not None:
                copied.synchronize()
            value = noted.item()
            if not math.isfinite(value):
                more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
                raise UserError(
                    f"the {what} became {value} at step {step}, in a batch of the samples {', '.join(keys[:NAMED])}"
                    f"{more}; the checkpoints are of steps before. Lower --lr, clip gradients harder or warm up "
                    "longer, and --resume"
                )

    def _remember(self, what: str, step: int, keys: Sequence[str], value: torch.Tensor) -> None:
        value = value.detach()
        if isinstance(value, DTensor):  # a norm of gradients that are spread over the processes
            value = value.full_tensor()
        if not value.is_cuda:
            self._seen.append(_Seen(what, step, keys, value, None))
            return
        host = torch.empty((), dtype=value.dtype, pin_memory=True)
        host.copy_(value, non_blocking=True)
        copied = torch.cuda.Event()
        copied.record()
        self._seen.append(_Seen(what, step, keys, host, copied))
