"""A run's speed is that of the time since the last line, what it waited for and what it computed in it."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
import torch

from vlm3train.flops import Arithmetic, peak_flops
from vlm3train.meter import Meter
from vlm3train.models import load_model


@pytest.fixture
def clock(monkeypatch):
    """Return a clock that the test turns."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    return clock


def test_waiting_is_a_share_of_the_time_since_the_last_line(model_dir, clock):
    meter = Meter(load_model(str(model_dir)))
    clock.now += 10
    assert meter.take(waited_s=2.0) == pytest.approx({"seconds": 10.0, "data_wait": 0.2})
    clock.now += 5
    meter.leave_out(1.0)
    assert meter.take(waited_s=3.0) == pytest.approx({"seconds": 4.0, "data_wait": 0.25})
    clock.now += 0.25
    assert meter.take(waited_s=3.125) == pytest.approx({"seconds": 0.25, "data_wait": 0.5})


def test_mfu_is_of_the_gpus_peak_in_this_time(model_dir, clock, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H200")
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 3 << 30)
    model = load_model(str(model_dir))
    meter = Meter(model)
    for _ in range(2):
        meter.count([30, 20], [(4, 4)])
        clock.now += 4
        taken = meter.take(waited_s=0.0)
        flops = Arithmetic(model.config).training_step([30, 20], [(4, 4)])
        assert taken["mfu"] == pytest.approx(flops / 4 / (peak_flops("NVIDIA H200") or 0))
        assert taken["memory_gib"] == 3.0
    next(model.parameters()).requires_grad_(False)
    assert "mfu" not in Meter(model).take(0.0), "what is frozen needs less than is counted"
