"""Frozen parts stay as they are, adapters learn, and what is merged is a plain model again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText

from vlm3data.types import UserError
from vlm3train import parts
from vlm3train.collate import TrainCollator
from vlm3train.models import load_model
from vlm3train.parts import LoraSettings, merged, part_of, prepared


@pytest.fixture
def model(model_dir: Path):
    return load_model(str(model_dir))


def _stepped(model, processor, make_sample, steps: int = 2) -> None:
    batch = processor.on_device(TrainCollator(processor)([make_sample("a", ["1.5 m", "20 m"])]))
    optimizer = torch.optim.AdamW([w for w in model.parameters() if w.requires_grad], lr=1e-2)
    for _ in range(steps):
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("freeze", [("vision",), ("projector",), ("language",), ("vision", "projector"), ()])
def test_frozen_parts_stay_as_they_are_and_all_others_move(model, processor, make_sample, freeze):
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    model = prepared(model, None, freeze)
    _stepped(model, processor, make_sample)
    moved = dict.fromkeys(("vision", "projector", "language"), False)
    for name, weight in model.named_parameters():
        moved[part_of(name)] |= not torch.equal(weight, before[name])
    assert moved == {part: part not in freeze for part in moved}


def test_adapters_are_what_learns_what_is_saved_and_what_merging_adds(model, processor, make_sample, tmp_path):
    peft = pytest.importorskip("peft")
    before = {name: weight.detach().clone() for name, weight in model.state_dict().items()}
    adapted = prepared(model, LoraSettings(rank=4, alpha=8.0))
    learning = {name for name, weight in adapted.named_parameters() if weight.requires_grad}
    assert learning
    assert all("lora_" in name and part_of(name) == "language" for name in learning)
    _stepped(adapted, processor, make_sample)
    adapted.save_pretrained(tmp_path / "adapter")
    batch = processor.on_device(TrainCollator(processor)([make_sample("b", ["3 m"], size=(96, 64))]))
    adapted.eval()
    with torch.no_grad():
        expected = adapted(**batch).logits
    assert (tmp_path / "adapter" / "adapter_model.safetensors").stat().st_size < 100_000

    again = load_model(model.config.name_or_path)
    reloaded = peft.PeftModel.from_pretrained(again, tmp_path / "adapter").eval()
    merged(adapted).save_pretrained(tmp_path / "merged")
    plain = AutoModelForImageTextToText.from_pretrained(tmp_path / "merged").eval()
    with torch.no_grad():
        for other in (reloaded, plain):
            torch.testing.assert_close(other(**batch).logits, expected, atol=1e-4, rtol=1e-4)
    after = plain.state_dict()
    changed = {name for name, weight in before.items() if not torch.allclose(after[name], weight)}
    assert changed
    assert all(part_of(name) == "language" and name.endswith("proj.weight") for name in changed)


def test_adapters_begin_alike_whatever_was_drawn_before(model_dir):
    pytest.importorskip("peft")
    weights = []
    for _ in range(2):
        torch.rand(7)
        adapted = prepared(load_model(str(model_dir)), LoraSettings(targets=("q_proj",)), ("vision",), seed=3)
        weights.append({name: weight for name, weight in adapted.named_parameters() if "lora_A" in name})
    assert len(weights[0]) == 2
    assert all(torch.equal(weights[1][name], weight) for name, weight in weights[0].items())


def test_what_adapters_add_is_scaled_by_alpha_over_rank(model):
    lora = pytest.importorskip("peft.tuners.lora")
    adapted = prepared(model, LoraSettings(rank=4, alpha=6.0))
    assert {module.scaling["default"] for module in adapted.modules() if isinstance(module, lora.Linear)} == {1.5}


@pytest.mark.parametrize(
    ("lora", "freeze", "said"),
    [
        (None, ("vision", "projector", "language"), "is the whole model"),
        (LoraSettings(targets=("no_proj",)), (), "lora: no linear layer .* belongs to no_proj"),
        (LoraSettings(), ("language",), "lora: no linear layer that is not frozen"),
    ],
)
def test_nothing_to_train_is_a_mistake(model, lora, freeze, said):
    with pytest.raises(UserError, match=said):
        prepared(model, lora, freeze)


def test_without_peft_it_says_what_to_install(model, monkeypatch):
    monkeypatch.setattr(parts, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'vlm3\[lora\]'"):
        prepared(model, LoraSettings())
