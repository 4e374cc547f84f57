"""The models that need no download: of the size that they are said to be, from positions that are waves on demand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText

from vlm3data.types import UserError
from vlm3train.tiny import SIZES, example_texts, size_named, waves, write_tiny_model


def test_waves_are_as_large_as_said_and_alike_for_neighbours() -> None:
    table = waves(16, 96)
    assert table.shape == (256, 96)
    torch.testing.assert_close((table**2).mean().sqrt(), torch.tensor(0.5))
    grid = table.view(16, 16, 96)
    alike = (grid * grid[5, 5]).sum(-1)
    assert alike.argmax() == 5 * 16 + 5
    assert alike[5, 6] > alike[5, 7] > alike[5, 9]
    torch.testing.assert_close(grid[:, 3] - grid[:, 4], (grid[:1, 3] - grid[:1, 4]).expand(16, -1))
    torch.testing.assert_close(grid[3] - grid[4], (grid[3] - grid[4])[:1].expand(16, -1))


@pytest.mark.parametrize("smooth", [False, True])
def test_a_model_begins_with_the_positions_of_its_preset(tmp_path: Path, smooth: bool) -> None:
    size = replace(SIZES["tiny"], smooth_positions=smooth)
    parameters = write_tiny_model(tmp_path / "model", size, list(example_texts(0, 200)), seed=0)
    assert 1.0e6 < parameters < 1.3e6
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "model")
    table = model.model.visual.pos_embed.weight.detach()
    assert torch.equal(table, waves(16, size.vision_hidden)) == smooth


def test_an_unknown_size_names_the_known_ones() -> None:
    with pytest.raises(UserError, match="mini, mini-smooth"):
        size_named("huge")
