"""A training step never waits for the GPU: nothing is read back from it, and nothing is copied to it at leisure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vlm3data.mixture import Mixture
from vlm3train.batches import TrainingBatches
from vlm3train.fast import forward
from vlm3train.ledger import Ledger
from vlm3train.loss import use_answer_loss
from vlm3train.models import load_model
from vlm3train.trainer import _to

FAR = torch.device("meta")
"""Stands in for a GPU: it computes no values, so that asking it for one is an error."""


class Copies(TorchDispatchMode):
    """Keeps the names of the copies between devices that whoever asks for them waits for."""

    def __init__(self) -> None:
        super().__init__()
        self.waited_for: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        told = kwargs or {}
        made = func(*args, **told)
        if func is torch.ops.aten._to_copy.default and args[0].device != made.device and not told.get("non_blocking"):
            self.waited_for.append(f"{args[0].dtype} {tuple(args[0].shape)}")
        return made


@pytest.fixture
def no_tables():
    """Begin and end without tables of an earlier batch, or of a device that keeps nothing."""
    for cache in (forward._tables, forward._bounds):
        cache.cache_clear()
    yield
    for cache in (forward._tables, forward._bounds):
        cache.cache_clear()


@pytest.mark.usefixtures("no_tables")
def test_a_step_waits_for_nothing(model_dir, processor, mixture, make_sample, monkeypatch):
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: False)  # which knows no such device
    model = load_model(str(model_dir)).train()
    use_answer_loss(model)
    # Of one size: attention within images of several is a kernel of GPUs alone.
    samples = [replace(make_sample(f"s{i}", ["2.00", "13.75"][: 1 + i % 2]), dataset="toy") for i in range(3)]
    batch = TrainingBatches(processor, model, compiled=False)(samples)
    ledger = Ledger(Mixture.load(mixture))
    model.to(FAR)
    with Copies() as copies:
        there = {name: _to(value, FAR) for name, value in batch.items()}
        made = model(**processor.on_device(there))
        ledger.add(batch["meta"], made)
        made.losses.sum().backward()
    assert made.losses.device == FAR
    assert not copies.waited_for
