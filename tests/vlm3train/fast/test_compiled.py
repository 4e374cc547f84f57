"""Compiled blocks: a mixture of many image sizes must not compile for each of them."""

from __future__ import annotations

from functools import partialmethod

import pytest
import torch

from vlm3train.collate import TrainCollator
from vlm3train.fast import compile_blocks, hidden_states, install, places_of
from vlm3train.models import load_model

SIZES = [(64, 64), (96, 64), (64, 128), (160, 96), (128, 160), (192, 64)]
KNOWN_AFTER = 4


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch):
    """Let torch trace and not generate code, which takes a minute; return a counter of what was traced."""
    from torch import _dynamo
    from torch._dynamo.utils import counters

    _dynamo.reset()
    monkeypatch.setattr(torch.nn.Module, "compile", partialmethod(torch.nn.Module.compile, backend="eager"))
    yield lambda: counters["stats"]["unique_graphs"]
    _dynamo.reset()


def test_from_some_size_on_no_other_is_compiled_for(model_dir, processor, make_sample, graphs):
    model = load_model(str(model_dir)).train()
    install(model)
    plain = load_model(str(model_dir)).train()
    install(plain)
    compile_blocks(model)
    merge, traced = model.config.vision_config.spatial_merge_size, []
    for number, size in enumerate(SIZES):
        made = TrainCollator(processor)([make_sample(f"{number}.{i}", ["2.00"], size) for i in range(2)])
        batch = processor.on_device(made, dtype=torch.float32)
        token = model.config.image_token_id
        places = places_of(batch["input_ids"], batch["labels"], batch["image_grid_thw"], token, merge)
        given = {"input_ids": batch["input_ids"], "pixel_values": batch["pixel_values"], "places": places}
        torch.testing.assert_close(hidden_states(model, **given), hidden_states(plain, **given), atol=1e-5, rtol=1e-5)
        traced.append(graphs())
    assert traced[0] > 0
    assert traced[-1] == traced[KNOWN_AFTER - 1], traced
