"""Greedy answers from a model: the images once for all their questions where the architecture allows it."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import simplejpeg
import torch
from transformers import GenerationConfig

from vlm3train.conversation import asking_messages
from vlm3train.families.contract import ImageResize, Processor
from vlm3train.families.qwen_vl import Images, QwenVL
from vlm3train.models import Weights, answering_weights, load_model, load_processor
from vlm3train.shared_prefix import Turns, answer_greedily

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from vlm3data.types import Sample
    from vlm3train.families.contract import Asked

BATCH_TOKENS = 131_072
"""Of keys and values held at a time: 19 GB in a 4B Qwen3-VL at bfloat16."""
IMAGE_THREADS = 4


class Generator:
    """Answers questions with `model`; `advance` is called with the number of questions each batch answered.

    A batch holds at most `batch_size` questions and `batch_tokens` tokens, padding and answers included.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        processor: Processor,
        batch_size: int,
        max_new_tokens: int,
        advance: Callable[[int], object] = lambda count: None,
        batch_tokens: int = BATCH_TOKENS,
    ) -> None:
        self.model: Any = model.eval()
        self.processor, self.advance = processor, advance
        self.batch_size, self.batch_tokens, self.max_new_tokens = batch_size, batch_tokens, max_new_tokens
        # In place of the model's own, which may sample.
        model.generation_config = GenerationConfig(
            do_sample=False,
            max_new_tokens=max_new_tokens,
            eos_token_id=processor.end_tokens,
            pad_token_id=processor.pad_token,
        )

    @classmethod
    def load(
        cls,
        name: str,
        batch_size: int,
        max_new_tokens: int,
        advance: Callable[[int], object] = lambda count: None,
        batch_tokens: int = BATCH_TOKENS,
        image_resize: ImageResize = "refuse",
        weights: Weights | None = None,
    ) -> Generator:
        """Return a generator with the model of a directory or hub name, on the GPU where there is one.

        `image_resize` is what becomes of an image that its processor would resize, `weights` as of `answering_weights`.
        """
        processor = load_processor(name, image_resize)
        model: Any = load_model(name, answering_weights(name, weights))
        if torch.cuda.is_available():
            model = model.to("cuda")
        return cls(model, processor, batch_size, max_new_tokens, advance, batch_tokens)

    def __call__(self, asked: Sequence[Asked]) -> list[str]:
        """Return the answer to every question, without the tokens that end it."""
        texts = [""] * len(asked)
        processor = self.processor
        batches = self._shared(processor, asked) if isinstance(processor, QwenVL) else self._each(asked)
        for places, answers in batches:
            for place, answer in zip(places, answers, strict=True):
                texts[place] = answer
            self.advance(len(places))
        return texts

    def _shared(self, processor: QwenVL, asked: Sequence[Asked]) -> Iterator[tuple[list[int], list[str]]]:
        """Yield places in `asked` and their answers, a batch at a time, every image encoded once."""
        batch: list[tuple[list[int], Turns]] = []
        for group in self._turns(processor, asked):
            if batch and not self._fits([*batch, group]):
                yield self._answered(processor, batch)
                batch = []
            batch.append(group)
        if batch:
            yield self._answered(processor, batch)

    def _turns(self, processor: QwenVL, asked: Sequence[Asked]) -> Iterator[tuple[list[int], Turns]]:
        """Yield the questions to the same images, with their places in `asked`; images of one size together."""
        by_images: dict[int, list[int]] = defaultdict(list)
        for place, (sample, _) in enumerate(asked):
            by_images[id(sample.images)].append(place)
        groups = sorted(by_images.values(), key=lambda places: _size(asked[places[0]][0]))
        prepared = _ahead(lambda group: processor.images(asked[group[0]][0]), groups)
        for places, images in zip(groups, prepared, strict=True):
            turns = _turn(processor, [asked[place] for place in places], images)
            room = min(self.batch_size, max(1, self.batch_tokens // (turns.longest + self.max_new_tokens)))
            for first in range(0, len(places), room):
                part = slice(first, first + room)
                yield places[part], replace(turns, tails=turns.tails[part])

    def _fits(self, batch: Sequence[tuple[list[int], Turns]]) -> bool:
        every = [turns for _, turns in batch]
        questions = sum(len(turns.tails) for turns in every)
        longest = max(len(turns.prefix) for turns in every) + max(turns.longest - len(turns.prefix) for turns in every)
        return questions <= self.batch_size and questions * (longest + self.max_new_tokens) <= self.batch_tokens

    def _answered(self, processor: QwenVL, batch: Sequence[tuple[list[int], Turns]]) -> tuple[list[int], list[str]]:
        tokens = answer_greedily(self.model, processor, [turns for _, turns in batch], self.max_new_tokens)
        texts = processor.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return [place for places, _ in batch for place in places], texts

    @torch.inference_mode()
    def _each(self, asked: Sequence[Asked]) -> Iterator[tuple[list[int], list[str]]]:
        """Yield places in `asked` and their answers, every question with its images by itself."""
        for start in range(0, len(asked), self.batch_size):
            batch = asked[start : start + self.batch_size]
            there = {name: value.to(self.model.device) for name, value in self.processor.ask(batch).items()}
            inputs = self.processor.on_device(there, self.model.dtype)
            tokens = self.model.generate(**inputs)[:, inputs["input_ids"].shape[1] :]
            texts = self.processor.tokenizer.batch_decode(tokens, skip_special_tokens=True)
            yield list(range(start, start + len(batch))), texts


def _turn(processor: QwenVL, asked: Sequence[Asked], images: Images) -> Turns:
    rows = [
        processor.tokens(asking_messages(question, len(sample.images)), images, generate=True)
        for sample, question in asked
    ]
    return Turns.of(rows, processor.image_token, images)


def _size(sample: Sample) -> list[tuple[Any, Any]]:
    """Return what puts images of one size side by side: padded less, they cost less."""
    try:
        return [simplejpeg.decode_jpeg_header(image)[:2] for image in sample.images]
    except ValueError:
        return []  # the processor says what is wrong with it


def _ahead(make: Callable[[list[int]], Images], items: Sequence[list[int]]) -> Iterator[Images]:
    """Yield `make` of every item in order; the next ones are made by threads while the model answers."""
    with ThreadPoolExecutor(IMAGE_THREADS) as pool:
        waiting = deque(pool.submit(make, item) for item in items[: 2 * IMAGE_THREADS])
        for item in [*items[2 * IMAGE_THREADS :], *([None] * len(waiting))]:
            made = waiting.popleft().result()
            if item is not None:
                waiting.append(pool.submit(make, item))
            yield made
