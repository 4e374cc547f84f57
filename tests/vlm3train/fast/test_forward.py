"""The forward pass that does not wait is the stock one: same states, same gradients, same positions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vlm3train.collate import TrainCollator
from vlm3train.fast import answers_of, hidden_states, install, is_fast, places_of
from vlm3train.models import load_model


@pytest.fixture(scope="module")
def model(model_dir):
    # In float64 what the two round differently is gone; only the norms go through float32, there and here.
    return load_model(str(model_dir), "float64").train()


@pytest.fixture(scope="module", params=["one size", "several sizes", "two images"])
def batch(request, processor, make_sample):
    sizes = {"one size": [(64, 64)] * 3, "several sizes": [(64, 64), (96, 32), (32, 64)], "two images": [(64, 96)] * 2}
    samples = [
        make_sample(f"s{i}", ["2.00", "13.75"][: 1 + i % 2], size, 2 if request.param == "two images" else 1)
        for i, size in enumerate(sizes[request.param])
    ]
    batch = TrainCollator(processor)(samples)
    return processor.on_device(batch, dtype=torch.float64)


def _fast(model, batch):
    merge = model.config.vision_config.spatial_merge_size
    places = places_of(batch["input_ids"], batch["labels"], batch["image_grid_thw"], model.config.image_token_id, merge)
    return places, hidden_states(model, input_ids=batch["input_ids"], pixel_values=batch["pixel_values"], places=places)


def test_states_are_those_of_the_stock_forward(model, batch):
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    with torch.no_grad():
        stock = model.model(**inputs).last_hidden_state
        _, ours = _fast(model, batch)
    seen = batch["attention_mask"].bool()
    torch.testing.assert_close(ours[seen], stock[seen], atol=5e-7, rtol=0)  # two steps of float32 at the largest


def test_gradients_are_those_of_the_stock_forward(model, batch):
    stock = model(**batch).loss
    stock.backward()
    want = {name: value.grad.clone() for name, value in model.named_parameters()}
    model.zero_grad()
    places, states = _fast(model, batch)
    rows = states.flatten(0, 1).index_select(0, places.answer_at)
    torch.nn.functional.cross_entropy(model.lm_head(rows).float(), places.answer_ids).backward()
    for name, value in model.named_parameters():
        torch.testing.assert_close(value.grad, want[name], atol=1e-8, rtol=1e-6, msg=name)
    model.zero_grad()


def test_positions_are_those_of_the_stock_model(model, batch):
    want, _ = model.model.get_rope_index(
        batch["input_ids"], batch["mm_token_type_ids"], batch["image_grid_thw"], attention_mask=batch["attention_mask"]
    )
    places, _ = _fast(model, batch)
    seen = batch["attention_mask"].bool()
    assert torch.equal(places.position_ids[:, seen], want[:, seen])


def test_loss_is_predicted_one_token_ahead(model, batch):
    places, _ = _fast(model, batch)
    flat = batch["labels"].flatten()
    assert torch.equal(flat[places.answer_at + 1], places.answer_ids)
    assert len(places.answer_ids) == int((flat != -100).sum())


def test_answers_are_found_wherever_they_are_in_a_batch_of_many_rows():
    rng = np.random.default_rng(0)
    ids = torch.from_numpy(rng.integers(50, size=(40, 9)))
    labels = torch.where(torch.from_numpy(rng.random((40, 9)) < 0.4), ids, -100)
    labels[:, 0] = -100  # nothing comes before it
    places = answers_of(labels)
    assert torch.equal(places.answer_at + 1, torch.nonzero(labels.flatten() != -100)[:, 0])
    assert torch.equal(places.answer_ids, labels[labels != -100])


def test_the_installed_model_still_answers_as_before(model_dir, batch):
    plain, ours = load_model(str(model_dir)), load_model(str(model_dir))
    install(ours)
    assert is_fast(ours)
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    with torch.no_grad():
        np.testing.assert_allclose(ours(**inputs).logits, plain(**inputs).logits, atol=2e-6)


def test_a_checkpoint_that_asks_for_eager_attention_does_not_look_ahead(model_dir, batch, model):
    eager = load_model(str(model_dir), "float64").train()
    eager.set_attn_implementation("eager")
    install(eager)
    with torch.no_grad():
        (_, want), (_, states) = _fast(model, batch), _fast(eager, batch)
    seen = batch["attention_mask"].bool()
    torch.testing.assert_close(states[seen], want[seen], atol=2e-6, rtol=1e-5)
