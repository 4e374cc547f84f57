"""One sample as a chat: images first, then a turn for every question; no system prompt."""

from __future__ import annotations

from typing import Any

from vlm3data.types import Question, Sample

Message = dict[str, Any]


def training_messages(sample: Sample) -> list[Message]:
    """Return the conversation a model is trained on: all questions of `sample` in their order, answered."""
    messages: list[Message] = []
    for question in sample.questions:
        num_images = 0 if messages else len(sample.images)
        messages += [_asked(question, num_images), _said("assistant", [_text(question.answer)])]
    return messages


def asking_messages(question: Question, num_images: int) -> list[Message]:
    """Return the conversation that puts `question` alone, for the model to answer."""
    return [_asked(question, num_images)]


def _asked(question: Question, num_images: int) -> Message:
    return _said("user", [{"type": "image"}] * num_images + [_text(question.question)])


def _said(role: str, content: list[dict[str, str]]) -> Message:
    return {"role": role, "content": content}


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}
