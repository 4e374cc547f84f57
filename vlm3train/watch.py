"""A loss that is not a number is noticed without waiting for the GPU, at the latest before anything is saved."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import torch

from vlm3data.types import UserError

NAMED = 8


class _Seen(NamedTuple):
    step: int
    keys: Sequence[str]
    loss: torch.Tensor
    copied: torch.cuda.Event | None


class LossWatch:
    """Looks at the losses of batches as they arrive on the CPU."""

    def __init__(self) -> None:
        self._seen: deque[_Seen] = deque()

    def note(self, step: int, keys: Sequence[str], loss: torch.Tensor) -> None:
        """Remember the loss of a batch in optimizer step `step`, and who was in it."""
        if not loss.is_cuda:
            self._seen.append(_Seen(step, keys, loss.detach(), None))
            return
        host = torch.empty((), dtype=loss.dtype, pin_memory=True)
        host.copy_(loss.detach(), non_blocking=True)
        copied = torch.cuda.Event()
        copied.record()
        self._seen.append(_Seen(step, keys, host, copied))

    def check(self, wait: bool = False) -> None:
        """Raise UserError for the first loss that has become NaN or infinite; `wait` for those under way."""
        while self._seen and (wait or self._seen[0].copied is None or self._seen[0].copied.query()):
            step, keys, loss, copied = self._seen.popleft()
            if copied is not None:
                copied.synchronize()
            value = loss.item()
            if not math.isfinite(value):
                more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
                raise UserError(
                    f"the loss became {value} at step {step}, in a batch of the samples {', '.join(keys[:NAMED])}"
                    f"{more}; the checkpoints are of steps before. Lower --lr, clip gradients harder or warm up "
                    "longer, and --resume"
                )
