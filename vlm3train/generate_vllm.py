"""Greedy answers from vLLM, where it is installed: its own prefix cache serves all questions about the same images.

Not run by the project's tests, which hold its calls against a stand-in of the documented interface (vllm.LLM,
vllm.SamplingParams, offline inference with multi_modal_data).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image

from vlm3data.types import UserError
from vlm3train.conversation import asking_messages
from vlm3train.families.contract import Asked
from vlm3train.families.qwen_vl import QwenVL
from vlm3train.families.rows import pixels_of
from vlm3train.models import Weights, answering_weights, load_processor

MOST_IMAGES = 2
"""In one question: a pair of views."""


class VllmGenerator:
    """Answers questions as `generate.Generator` does; vLLM batches them by itself."""

    def __init__(
        self,
        name: str,
        max_new_tokens: int,
        advance: Callable[[int], object] = lambda count: None,
        weights: Weights | None = None,
    ) -> None:
        try:
            import vllm  # pyright: ignore[reportMissingImports]
        except ModuleNotFoundError as error:
            raise UserError("--engine vllm needs vllm, in an environment of its own: pip install vllm") from error
        processor = load_processor(name)
        if not isinstance(processor, QwenVL):
            raise UserError(f"{name}: --engine vllm knows Qwen-VL models only; leave it out")
        self.processor, self.advance = processor, advance
        self.llm: Any = vllm.LLM(
            model=name,
            dtype=answering_weights(name, weights),
            enable_prefix_caching=True,
            limit_mm_per_prompt={"image": MOST_IMAGES, "video": 0},
        )
        self.sampling = vllm.SamplingParams(
            temperature=0.0, max_tokens=max_new_tokens, stop_token_ids=list(processor.end_tokens)
        )

    def __call__(self, asked: Sequence[Asked]) -> list[str]:
        """Return the answer to every question."""
        shown: dict[int, list[Image.Image]] = {}
        prompts = []
        for sample, question in asked:
            if id(sample.images) not in shown:
                self.processor.images(sample)  # refuses images that a processor would resize
                shown[id(sample.images)] = [Image.fromarray(pixels) for pixels in pixels_of(sample)]
            messages = asking_messages(question, len(sample.images))
            text = self.processor.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            prompts.append({"prompt": text, "multi_modal_data": {"image": shown[id(sample.images)]}})
        outputs = self.llm.generate(prompts, self.sampling, use_tqdm=False)
        self.advance(len(asked))
        return [output.outputs[0].text for output in outputs]
