"""Every family learns exactly the answers, pads without changing anything, trains, is saved and is asked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from tests.tiny_families import WRITERS
from vlm3data.command import run_app
from vlm3data.types import UserError
from vlm3train.cli import app
from vlm3train.collate import IGNORED, AskCollator, TrainCollator
from vlm3train.families.generic import Generic, _first_special
from vlm3train.generate import Generator
from vlm3train.models import load_model, load_processor
from vlm3train.sft import SftConfig, train

ENDS = {"qwen2_5_vl": "<|im_end|>", "llava": "</s>", "idefics3": "<end_of_utterance>"}
SIDE = {"qwen2_5_vl": 28, "llava": 20, "idefics3": 30}
"""What image sides are multiples of in these tests: the patches merged by Qwen2.5-VL; anything for the others."""

OTHERS = pytest.mark.parametrize("family", [name for name in WRITERS if name != "qwen2_5_vl"], indirect=True)
"""For what is known of a Qwen's chat and asked of all others."""


@pytest.fixture(scope="module", params=list(WRITERS))
def family(request, tmp_path_factory) -> tuple[str, Path]:
    """Return a family's name and the directory of a random model of it."""
    out = tmp_path_factory.mktemp(request.param)
    try:
        WRITERS[request.param](out)
    except ImportError as error:  # older transformers have some image processors with torchvision only
        pytest.skip(str(error).strip().splitlines()[0])
    return request.param, out


@pytest.fixture(scope="module")
def its_processor(family):
    return load_processor(str(family[1]), "refuse" if family[0] == "qwen2_5_vl" else "processor")


def _samples(make_sample, side: int):
    return [
        make_sample("a", ["2.00 meters"], size=(2 * side, 2 * side)),
        make_sample("b", ["3.5 m", "", "Left: 0.25 é"], size=(3 * side, side), num_images=2),
    ]


def test_loss_is_on_exactly_the_answers_and_their_ends(family, its_processor, make_sample):
    name, _ = family
    samples = _samples(make_sample, SIDE[name])
    batch = TrainCollator(its_processor)(samples)
    end = ENDS[name]
    for row, sample in zip(batch["labels"], samples, strict=True):
        said = its_processor.tokenizer.decode(row[row != IGNORED]).split(end)
        assert [text.removeprefix(" ") for text in said] == [question.answer for question in sample.questions] + [""]
    trained = batch["labels"] != IGNORED
    assert torch.equal(batch["labels"][trained], batch["input_ids"][trained])
    assert batch["meta"].keys == ["a", "b"]
    assert batch["meta"].tokens == batch["attention_mask"].sum(1).tolist()
    assert batch["meta"].loss_tokens == trained.sum(1).tolist()
    for dtype in (torch.bfloat16, torch.float64):
        there = its_processor.on_device(batch, dtype)
        assert (there["pixel_values"].dtype, there["input_ids"].dtype) == (dtype, torch.int64)
        assert "meta" not in there
    assert its_processor.on_device(batch)["pixel_values"].dtype == torch.float32


def test_a_batch_answers_as_its_questions_do_alone(family, its_processor, make_sample):
    name, directory = family
    model = load_model(str(directory)).eval()
    asked = [(sample, question) for sample in _samples(make_sample, SIDE[name]) for question in sample.questions]
    collate = AskCollator(its_processor)
    # One image a question here: Idefics3 itself pads the images of a batch to the longest list.
    asked = [(replace(sample, images=sample.images[:1]), question) for sample, question in asked]
    with torch.no_grad():
        together = model(**its_processor.on_device(collate(asked))).logits[:, -1]
        alone = torch.cat([model(**its_processor.on_device(collate([pair]))).logits[:, -1] for pair in asked])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def test_it_trains_is_saved_and_answers(family, mixture, shards, make_sample, tmp_path):
    name, directory = family
    out = tmp_path / "run"
    settings = {"steps": 8, "batch_size": 2, "lr": 1e-2, "max_grad_norm": 1.0, "workers": 0, "log_every": 1}
    settings |= {"bf16": False, "image_resize": "processor"}  # the shards' images are in multiples of 32
    train(SftConfig.check({"model": str(directory), "mixture": mixture, "out": str(out)} | settings, "test"))
    losses = [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert len(losses) == 8
    assert losses[-1] < losses[0]
    model = AutoModelForImageTextToText.from_pretrained(out)
    processor = load_processor(str(out), "processor")
    if name != "qwen2_5_vl":  # transformers' own wants torchvision
        AutoProcessor.from_pretrained(out)
    sample = make_sample("a", ["1 m", "2 m"], size=(84, 56))
    answers = Generator(model, processor, 2, 4)([(sample, question) for question in sample.questions])
    assert len(answers) == 2


def test_a_processor_that_sizes_images_as_it_likes_is_only_used_if_asked_for(family, make_sample):
    name, directory = family
    if name == "qwen2_5_vl":
        processor = load_processor(str(directory))
        processor.images(make_sample("a", ["1 m"], size=(84, 56)))
        with pytest.raises(UserError, match=r"multiples of 28, and builds align to 32: .* --image-resize processor"):
            processor.images(make_sample("a", ["1 m"], size=(96, 64)))
    else:
        with pytest.raises(UserError, match="--image-resize processor"):
            load_processor(str(directory))


def test_the_command_scores_it_with_images_as_its_processor_likes_them(family, shards, capsys):
    asked = ["eval", "--model", str(family[1]), "--shards", shards, "--limit", "2", "--questions-per-image", "1"]
    assert run_app(app, [*asked, "--max-new-tokens", "2", "--image-resize", "processor"]) == 0
    assert "2 questions about 2 images" in capsys.readouterr().out


@OTHERS
def test_a_template_that_ends_no_answer_is_refused(family):
    """A model trained on it would never learn to stop; test_chat.py has Qwen's."""
    name, directory = family
    processor = AutoProcessor.from_pretrained(directory)
    assert Generic(processor, "m").end_tokens
    end = "{{ eos_token }}" if name == "llava" else "<end_of_utterance>"
    assert end in processor.chat_template
    processor.chat_template = processor.chat_template.replace(end, "")
    with pytest.raises(UserError, match="m: its chat template writes no special token after an answer"):
        Generic(processor, "m")


@pytest.mark.parametrize("family", ["llava"], indirect=True)
def test_an_answer_that_the_tokenizer_joins_with_the_template_is_refused(family, make_sample):
    _, directory = family
    processor = AutoProcessor.from_pretrained(directory)
    assert "{{ ' ' }}" in processor.chat_template
    processor.chat_template = processor.chat_template.replace("{{ ' ' }}", "{{ ' m' }}")
    assert len(processor.tokenizer.tokenize(" meters")) == 1
    collate = TrainCollator(Generic(processor, "m"))
    assert collate([make_sample("a", ["2 m"], size=(40, 40))])["meta"].loss_tokens[0] > 1
    with pytest.raises(UserError, match="sample b: the tokenizer joins the start of an answer"):
        collate([make_sample("b", ["eters"], size=(40, 40))])


@OTHERS
def test_padding_is_the_tokenizers_own_or_the_end_of_text(family):
    _, directory = family
    processor = AutoProcessor.from_pretrained(directory)
    tokenizer = processor.tokenizer
    tokenizer.pad_token = (other := tokenizer.convert_ids_to_tokens(max(tokenizer.get_vocab().values())))
    assert Generic(processor, "m").pad_token == tokenizer.convert_tokens_to_ids(other) != tokenizer.eos_token_id
    tokenizer.pad_token = None
    assert Generic(processor, "m").pad_token == tokenizer.eos_token_id


def test_of_special_tokens_that_begin_alike_the_longest_ends_an_answer():
    ends = ["<end>", "<end><turn>", "<begin>"]
    assert _first_special(" \n<end><turn>\n<begin>", ends) == len(" \n<end><turn>")
    assert _first_special(".<end>", ends) is None


def test_an_answer_with_special_tokens_is_refused(family, its_processor, make_sample):
    end = ENDS[family[0]]
    side = 2 * SIDE[family[0]]
    with pytest.raises(UserError, match=r"sample sly: .* special tokens"):
        TrainCollator(its_processor)([make_sample("sly", [f"1 m{end}"], size=(side, side))])


def test_a_model_with_no_processor_is_a_mistake(family, tmp_path):
    (tmp_path / "config.json").write_bytes((family[1] / "config.json").read_bytes())
    with pytest.raises(UserError, match="processor"):
        load_processor(str(tmp_path), "processor")
