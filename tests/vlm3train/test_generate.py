"""What a model answers does not depend on which questions share its batch, nor on who ran its images before."""

from __future__ import annotations

import json

import pytest
import torch

from vlm3train import shared_prefix
from vlm3train.conversation import asking_messages
from vlm3train.generate import IMAGE_THREADS, Generator, _ahead
from vlm3train.models import answering_weights, load_model
from vlm3train.shared_prefix import Turns


@pytest.fixture(scope="module")
def model(model_dir):
    """Return the random model with weights so large that what it answers depends on all that it sees."""
    model = load_model(str(model_dir))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, weight in model.model.named_parameters():
            if weight.ndim == 2:
                weight.normal_(0, 1.5 / weight.shape[1] ** 0.5 if "layers" in name else 0.5, generator=generator)
        model.lm_head.weight = torch.nn.Parameter(torch.randn(model.lm_head.weight.shape, generator=generator))
    return model


@pytest.fixture
def asked(make_sample):
    """Return questions of different lengths to images of different sizes and numbers, one sample's not together."""
    samples = [
        make_sample("one", ["1 m"] * 3, size=(64, 64)),
        make_sample("wide", ["1 m"] * 4, size=(160, 32)),
        make_sample("pair", ["1 m"] * 2, size=(96, 64), num_images=2),
        make_sample("tall", ["1 m"] * 11, size=(32, 128)),
    ]
    asked = [(sample, question) for sample in samples for question in sample.questions]
    return asked[::2] + asked[1::2]


def each_alone(model, processor, asked, max_new_tokens):
    """Return the answers' tokens and logits of every question in a batch of its own, without a cache of others."""
    answers, logits = [], []
    for one in asked:
        inputs = processor.on_device(processor.ask([one]))
        told = model.generate(
            **inputs,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=processor.end_tokens,
            pad_token_id=processor.pad_token,
            output_logits=True,
            return_dict_in_generate=True,
        )
        tokens = told.sequences[0, inputs["input_ids"].shape[1] :].tolist()
        ends = [place for place, token in enumerate(tokens) if token in processor.end_tokens]
        answers.append(tokens[: ends[0]] if ends else tokens)
        logits.append(torch.cat(told.logits))
    return answers, logits


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_shared_answers_are_those_of_each_question_alone(model, processor, asked, batch_size):
    alone, _ = each_alone(model, processor, asked, 8)
    texts = processor.tokenizer.batch_decode(alone, skip_special_tokens=True)
    assert len(set(texts)) > len(texts) // 2  # a model that always says the same would prove nothing
    counted = []
    answer = Generator(model, processor, batch_size, 8, counted.append)
    assert answer(asked) == texts
    assert (sum(counted), max(counted) <= batch_size) == (len(asked), True)


def test_shared_logits_are_those_of_each_question_alone(model, processor, asked, monkeypatch):
    asked = sorted(asked, key=lambda one: one[0].key)
    _, alone = each_alone(model, processor, asked, 6)
    seen = []
    forward = model.forward

    def watched(*arguments, **named):
        out = forward(*arguments, **named)
        seen.append(out.logits[:, -1])
        return out

    monkeypatch.setattr(model, "forward", watched)
    keys = list(dict.fromkeys(sample.key for sample, _ in asked))
    batch = []
    for key in keys:
        mine = [one for one in asked if one[0].key == key]
        images = processor.images(mine[0][0])
        rows = [processor.tokens(asking_messages(q, len(s.images)), images, generate=True) for s, q in mine]
        batch.append(Turns.of(rows, processor.image_token, images))
    shared_prefix.answer_greedily(model, processor, batch, 6)
    for row, logits in enumerate(alone):
        together = torch.stack([step[row] for step in seen[: len(logits)]])
        assert torch.allclose(together, logits[: len(together)], atol=1e-4), row


def test_a_batch_holds_no_more_tokens_than_it_may(model, processor, asked):
    counted = []
    few = Generator(model, processor, 64, 8, counted.append, batch_tokens=150)(asked)
    assert max(counted) <= 4
    assert len(counted) > 4
    assert few == Generator(model, processor, 64, 8)(asked)


def test_images_are_encoded_once(model, processor, asked, monkeypatch):
    rows = []
    visual = model.model.visual.forward
    monkeypatch.setattr(
        model.model.visual,
        "forward",
        lambda patches, *a, **named: rows.append(len(patches)) or visual(patches, *a, **named),
    )
    Generator(model, processor, 64, 2)(asked)
    images = {id(sample.images): processor.images(sample) for sample, _ in asked}
    assert sum(rows) == sum(len(patches) for seen in images.values() for patches in seen.patches)


@pytest.mark.parametrize("count", [0, 1, 2 * IMAGE_THREADS, 2 * IMAGE_THREADS + 1, 50])
def test_what_threads_make_ahead_comes_in_order_and_each_once(count):
    made = []

    def make(item):
        made.append(item)
        return f"image {item[0]}"

    items = [[number] for number in range(count)]
    assert list(_ahead(make, items)) == [f"image {number}" for number in range(count)]
    assert sorted(made) == items


def test_other_families_are_asked_question_by_question(model, processor, asked):
    class Other:
        """A processor that is not a Qwen-VL's."""

        def __getattr__(self, name):
            return getattr(processor, name)

    assert Generator(model, Other(), 5, 8)(asked) == Generator(model, processor, 64, 8)(asked)


@pytest.mark.parametrize(
    ("saved", "has_bfloat16", "told", "expected"),
    [
        ("float32", True, None, "bfloat16"),
        ("float32", False, None, "auto"),
        ("float32", True, "float32", "float32"),
        ("float16", True, None, "auto"),
        ("bfloat16", True, "float32", "float32"),
    ],
)
def test_what_was_trained_in_bfloat16_answers_in_it_where_the_gpu_can(
    model_dir, tmp_path, monkeypatch, saved, has_bfloat16, told, expected
):
    config = json.loads((model_dir / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"dtype": saved}))
    monkeypatch.setattr("torch.cuda.is_available", lambda: has_bfloat16)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: has_bfloat16)
    assert answering_weights(str(tmp_path), told) == expected


def test_weights_of_bfloat16_leave_the_angles_of_positions_as_they_are(model_dir, asked):
    answer = Generator.load(str(model_dir), batch_size=4, max_new_tokens=4, weights="bfloat16")
    assert {parameter.dtype for parameter in answer.model.parameters()} == {torch.bfloat16}
    assert {buffer.dtype for name, buffer in answer.model.named_buffers() if "inv_freq" in name} == {torch.float32}
    assert len(answer(asked)) == len(asked)
