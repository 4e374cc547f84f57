"""A chat template as the constants around a conversation's texts, so that filling in replaces rendering.

Nothing is trusted: a template whose constants depend on the texts (it strips them, or takes thinking apart) or on the
date is rendered for every sample, and a text that it changes on the way is refused.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

from jinja2 import TemplateError

from vlm3data.types import UserError
from vlm3train.conversation import Message

logger = logging.getLogger(__name__)

PROBES = (
    "",
    " x ",
    "\n\nx\n",
    "\tx\r\n",
    "<think> x </think>\n\n<answer> x </answer>",
    "{{ x }}{% x %}<&>\"'",
    "é\u2028名",
)
"""Texts that a template might treat in a way of its own."""
CHECKED_EVERY = 1000


class Shape(NamedTuple):
    """What a template can know of a conversation beside its texts."""

    roles: tuple[str, ...]
    images: tuple[int, ...]
    """Images at the head of each message."""
    generate: bool


class Filled(NamedTuple):
    """A rendered conversation: `constants[i]` stands before `texts[i]`, the last one after them all."""

    shape: Shape
    constants: list[str]
    texts: list[str]

    @property
    def text(self) -> str:
        """Return what the template wrote."""
        pairs = zip(self.constants, self.texts, strict=False)
        return "".join(part for pair in pairs for part in pair) + self.constants[-1]


class Chat:
    """Renders conversations of one text a message, with images before it."""

    def __init__(self, templated: Any, name: str) -> None:
        """Take a tokenizer or processor with a chat template; `name` is the model's, for messages."""
        self._templated, self._name = templated, name
        self._constants: dict[Shape, list[str]] = {}
        self._steady = "strftime_now" not in str(templated.chat_template)
        self._count = 0
        if not self._steady or not self._holds(_probe_shape()):
            self._steady = False
            logger.warning(
                "%s: its chat template depends on the texts or the date, so it is rendered for every sample", name
            )

    def __call__(self, messages: Sequence[Message], generate: bool, sample: str) -> Filled:
        """Return what the template makes of `messages`; an altered text is an error that names `sample`."""
        shape, texts = _taken_apart(messages, generate)
        new = shape not in self._constants
        self._count += 1
        if new:
            self._constants[shape] = self._constants_of(shape)
            self._steady = self._steady and self._holds(shape)
        filled = Filled(shape, self._constants[shape], texts)
        checked = new or not self._steady or self._count % CHECKED_EVERY == 0
        if checked and self._render(messages, generate) != filled.text:
            self._constants[shape] = self._constants_of(shape)  # the date may have changed
            filled = Filled(shape, self._constants[shape], texts)
            if self._render(messages, generate) != filled.text:
                raise UserError(
                    f"sample {sample}: the chat template of {self._name} changes a question or an answer (it strips "
                    "it, or takes its thinking out), so another text would be learnt; answer with another wording"
                )
        return filled

    def _render(self, messages: Sequence[Message], generate: bool) -> str:
        try:
            return self._templated.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=generate, return_dict=False
            )
        except (TemplateError, TypeError) as error:
            raise UserError(f"{self._name}: its chat template does not take images and text ({error})") from error

    def _holds(self, shape: Shape) -> bool:
        """Tell whether the constants of `shape` are the same whatever the texts."""
        constants = self._constants_of(shape)
        for probe in PROBES:
            filled = Filled(shape, constants, [probe] * len(shape.roles))
            if self._render(_conversation(shape, filled.texts), shape.generate) != filled.text:
                return False
        return True

    def _constants_of(self, shape: Shape) -> list[str]:
        """Return what the template writes around marks that no text holds."""
        marks = [f"\ue000{place}\ue001" for place in range(len(shape.roles))]
        rest = self._render(_conversation(shape, marks), shape.generate)
        constants = []
        for mark in marks:
            before, found, rest = rest.partition(mark)
            if not found:
                raise UserError(
                    f"{self._name}: its chat template does not show every text of a conversation in its order"
                )
            constants.append(before)
        return [*constants, rest]


def _taken_apart(messages: Sequence[Message], generate: bool) -> tuple[Shape, list[str]]:
    roles, images, texts = [], [], []
    for message in messages:
        *before, text = message["content"]
        roles.append(message["role"])
        images.append(len(before))
        texts.append(text["text"])
    return Shape(tuple(roles), tuple(images), generate), texts


def _conversation(shape: Shape, texts: Sequence[str]) -> list[Message]:
    return [
        {"role": role, "content": [{"type": "image"}] * images + [{"type": "text", "text": text}]}
        for role, images, text in zip(shape.roles, shape.images, texts, strict=True)
    ]


def _probe_shape() -> Shape:
    return Shape(("user", "assistant") * 2, (1, 0, 0, 0), generate=False)
