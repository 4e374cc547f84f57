"""What vLLM is called with, against a stand-in of its documented interface: it cannot be installed beside our torch."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import simplejpeg

from vlm3data.types import UserError
from vlm3train.generate_vllm import VllmGenerator


@pytest.fixture
def calls(monkeypatch):
    """Return what a stand-in of vLLM is called with."""
    calls: dict[str, object] = {}

    class LLM:
        def __init__(self, *, model, dtype, enable_prefix_caching, limit_mm_per_prompt):
            calls["model"], calls["caching"], calls["most"] = model, enable_prefix_caching, limit_mm_per_prompt
            calls["weights"] = dtype

        def generate(self, prompts, sampling_params, *, use_tqdm):
            calls["prompts"] = prompts
            return [SimpleNamespace(outputs=[SimpleNamespace(text=f"{number} m")]) for number, _ in enumerate(prompts)]

    class SamplingParams:
        def __init__(self, *, temperature, max_tokens, stop_token_ids):
            calls["sampling"] = temperature, max_tokens, stop_token_ids

    fake = ModuleType("vllm")
    fake.LLM, fake.SamplingParams = LLM, SamplingParams
    monkeypatch.setitem(sys.modules, "vllm", fake)
    return calls


def test_questions_go_in_with_their_images_and_answers_come_out_in_order(calls, model_dir, processor, make_sample):
    samples = [make_sample("a", ["1 m"] * 2), make_sample("b", ["1 m"], size=(96, 64), num_images=2)]
    asked = [(sample, question) for sample in samples for question in sample.questions]
    counted: list[int] = []
    answers = VllmGenerator(str(model_dir), 7, counted.append)(asked)
    assert (answers, counted) == (["0 m", "1 m", "2 m"], [3])
    assert (calls["model"], calls["caching"], calls["most"]["image"]) == (str(model_dir), True, 2)
    assert calls["sampling"] == (0.0, 7, processor.end_tokens)
    assert calls["weights"] == "auto"
    for (sample, question), prompt in zip(asked, calls["prompts"], strict=True):
        assert question.question in prompt["prompt"]
        assert prompt["prompt"].count("<|image_pad|>") == len(sample.images)
        for image, encoded in zip(prompt["multi_modal_data"]["image"], sample.images, strict=True):
            assert (np.asarray(image) == simplejpeg.decode_jpeg(encoded)).all()


def test_without_vllm_it_says_so(model_dir, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(UserError, match="needs vllm"):
        VllmGenerator(str(model_dir), 7)
