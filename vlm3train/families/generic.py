"""Any other image-text-to-text model: its own processor and chat template, the answers found by their characters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from vlm3data.types import Sample, UserError
from vlm3train.conversation import Message, asking_messages, training_messages
from vlm3train.families.chat import Chat, Filled, Shape
from vlm3train.families.contract import IGNORED, Asked, Batch, ImageResize, Meta
from vlm3train.families.rows import Tokens, padded, pixels_of

ENDS_LOOK = Shape(("user", "assistant") * 2, (1, 0, 0, 0), generate=False)


class _Constants(NamedTuple):
    """What is known of the constants of a shape."""

    constants: list[str]
    specials: list[int]
    """All special tokens, in order, those included that the tokenizer puts around every text."""
    ends: list[int]
    """How many characters of the constant after each text end it there, special token included."""


class Generic:
    """From samples to the inputs of a model that transformers has an `AutoProcessor` for.

    The processor resizes, crops or tiles images as it likes, and puts as many tokens for each as its model wants.
    Answers come after all images, so they are as far from the row's end as in the text that the template wrote.
    """

    def __init__(self, processor: Any, name: str) -> None:
        self.processor, self._name = processor, name
        tokenizer: Any = processor.tokenizer
        self.tokenizer = tokenizer
        templated = processor if processor.chat_template else processor.tokenizer
        if not templated.chat_template:
            raise UserError(f"{name}: neither its processor nor its tokenizer has a chat template")
        if not self.tokenizer.is_fast:
            raise UserError(
                f"{name}: its tokenizer does not tell which characters a token stands for (no tokenizer.json)"
            )
        self.chat = Chat(templated, name)
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        self.pad_token: int = tokenizer.convert_tokens_to_ids(tokenizer.pad_token)
        self._specials = {number for number, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        self._known: dict[Shape, _Constants] = {}
        self.end_tokens = self._end_tokens()

    def train(self, samples: Sequence[Sample]) -> Batch:
        """Return a right-padded batch with `labels` on the answers and the special token that ends each."""
        chats = [self.chat(training_messages(sample), False, sample.key) for sample in samples]
        features = self._processed([chat.text for chat in chats], samples, "right")
        labels, tokens = [], []
        for sample, chat, ids, mask in zip(
            samples, chats, features["input_ids"], features["attention_mask"], strict=True
        ):
            row = ids[mask.bool()].numpy()
            tokens.append(len(row))
            labels.append(self._labels(row, chat, sample.key))
        features["labels"] = padded([*labels], IGNORED, "right")
        features["meta"] = Meta(
            keys=[sample.key for sample in samples],
            datasets=[sample.dataset for sample in samples],
            tokens=tokens,
            loss_tokens=[int((row != IGNORED).sum()) for row in labels],
        )
        return features

    def ask(self, asked: Sequence[Asked]) -> Batch:
        """Return a left-padded batch for generation."""
        texts = [
            self.chat(asking_messages(question, len(sample.images)), True, sample.key).text
            for sample, question in asked
        ]
        return self._processed(texts, [sample for sample, _ in asked], "left")

    def on_device(self, batch: Batch, dtype: torch.dtype | None = None) -> dict[str, Any]:
        """Return the model's keyword arguments; images as `dtype`, where one is named."""
        inputs = {name: value for name, value in batch.items() if name != "meta"}
        return {name: _as(value, dtype) for name, value in inputs.items()} if dtype else inputs

    def save(self, out: Path) -> None:
        """Write the processor with everything it holds beside a model."""
        self.processor.save_pretrained(out)

    def _processed(self, texts: Sequence[str], samples: Sequence[Sample], side: str) -> Batch:
        images = [pixels_of(sample) for sample in samples]
        self.tokenizer.padding_side = side
        features = self.processor(
            text=list(texts),
            images=images,
            padding=True,
            add_special_tokens=self._adds_specials(texts[0]),
            return_tensors="pt",
        )
        return dict(features)

    def _labels(self, row: Tokens, chat: Filled, sample: str) -> Tokens:
        """Return labels for `row`, the tokens that the processor made of `chat` and its images."""
        known = self._of(chat)
        encoding = self.tokenizer(
            chat.text, add_special_tokens=self._adds_specials(chat.text), return_offsets_mapping=True
        )
        ids = np.array(encoding["input_ids"], np.int64)
        if [number for number in ids.tolist() if number in self._specials] != known.specials:
            raise UserError(
                f"sample {sample}: a question or an answer holds one of the tokenizer's special tokens, so the "
                "conversation would end there; answer with another wording"
            )
        learnt = self._learnt(chat, known, np.array(encoding["offset_mapping"]), sample)
        behind = len(ids) - int(np.flatnonzero(learnt)[0])
        if len(row) < behind or not np.array_equal(row[-behind:], ids[-behind:]):
            raise UserError(f"{self._name}: its processor changes the text of sample {sample} after its images")
        labels = np.full(len(row), IGNORED, np.int64)
        labels[-behind:][learnt[-behind:]] = ids[learnt]
        return labels

    def _learnt(self, chat: Filled, known: _Constants, offsets: Tokens, sample: str) -> np.ndarray:
        """Return which tokens stand for characters of an answer or its end; `offsets` (n, 2) are their characters."""
        learnt = np.zeros(len(offsets), bool)
        text, place = chat.text, 0
        for role, constant, answer, end in zip(
            chat.shape.roles, chat.constants[:-1], chat.texts, known.ends, strict=True
        ):
            start = place + len(constant)
            place = start + len(answer)
            if role != "assistant":
                continue
            inside = (offsets[:, 0] < place + end) & (offsets[:, 1] > start) & (offsets[:, 0] < offsets[:, 1])
            first = int(offsets[inside, 0].min())
            if text[first:start].strip():
                raise UserError(
                    f"sample {sample}: the tokenizer joins the start of an answer with what the chat template writes "
                    "before it; answer with another wording"
                )
            learnt |= inside
        return learnt

    def _of(self, chat: Filled) -> _Constants:
        known = self._known.get(chat.shape)
        if known is None or known.constants is not chat.constants:
            known = self._known[chat.shape] = _Constants(chat.constants, self._special(chat), self._ends(chat))
        return known

    def _special(self, chat: Filled) -> list[int]:
        text = chat._replace(texts=["x"] * len(chat.texts)).text
        ids = self.tokenizer(text, add_special_tokens=self._adds_specials(text))["input_ids"]
        return [number for number in ids if number in self._specials]

    def _ends(self, chat: Filled) -> list[int]:
        ends = []
        for role, after in zip(chat.shape.roles, chat.constants[1:], strict=True):
            end = _first_special(after, self._contents()) if role == "assistant" else 0
            if end is None:
                raise UserError(
                    f"{self._name}: its chat template writes no special token after an answer, so a model would not "
                    "learn to stop there; put the end-of-text token after each answer in its chat_template.jinja"
                )
            ends.append(end)
        return ends

    def _end_tokens(self) -> list[int]:
        """Return the special token that follows an answer, and the end of text."""
        messages: list[Message] = [
            {"role": role, "content": [{"type": "image"}] * images + [{"type": "text", "text": "x"}]}
            for role, images in zip(ENDS_LOOK.roles, ENDS_LOOK.images, strict=True)
        ]
        chat = self.chat(messages, False, "")
        last = chat.constants[-1][: self._ends(chat)[-1]].strip()
        ends = {self.tokenizer.convert_tokens_to_ids(last), self.tokenizer.eos_token_id}
        return sorted(ends - {None})

    def _contents(self) -> list[str]:
        return [self.tokenizer.convert_ids_to_tokens(number) for number in self._specials]

    def _adds_specials(self, text: str) -> bool:
        """Tell whether the tokenizer puts its own special tokens around `text`: not if the template wrote the first."""
        start = self.tokenizer.bos_token
        return start is None or not text.startswith(start)


def load(name: str, image_resize: ImageResize) -> Generic:
    """Return the processor of a directory or a hub name."""
    from transformers import AutoProcessor

    if image_resize == "refuse":
        raise UserError(
            f"{name}: its own image processor gives every image the size it likes, which changes focal lengths; say "
            "--image-resize processor to use it like that"
        )
    try:
        processor = AutoProcessor.from_pretrained(name)
    except (OSError, ValueError, ImportError) as error:
        line = str(error).strip().splitlines()[0]
        raise UserError(f"{name}: no processor beside the model can be used ({line})") from error
    if not hasattr(processor, "tokenizer") or not hasattr(processor, "image_processor"):
        raise UserError(f"{name}: there is no processor of images and text beside the model")
    return Generic(processor, name)


def _first_special(text: str, specials: Sequence[str]) -> int | None:
    """Return how many characters the first special token ends after, None if other text comes before it."""
    lead = len(text) - len(text.lstrip())
    ends = [lead + len(special) for special in specials if text.startswith(special, lead)]
    return max(ends, default=None)


def _as(value: Any, dtype: torch.dtype) -> Any:
    return value.to(dtype) if torch.is_tensor(value) and value.is_floating_point() else value
