"""Samples to tensors: what a Qwen3-VL takes in, and labels on nothing but the answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import simplejpeg
import torch

from vlm3data.types import Question, Sample, UInt8Array, UserError
from vlm3train.conversation import Message, asking_messages, training_messages
from vlm3train.models import Processor

Batch = dict[str, torch.Tensor]
IGNORED = -100


class TrainCollator:
    """Turns samples into one right-padded training batch."""

    def __init__(self, processor: Processor) -> None:
        self.encoder = Encoder(processor)

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        """Return the model's inputs with `labels` that are -100 everywhere but on the answers."""
        rows, labels = [], []
        patches, grids = self.encoder.images(samples)
        for sample, grid in zip(samples, grids, strict=True):
            row = self.encoder.tokens(training_messages(sample), grid)
            rows.append(row)
            labels.append(self.encoder.labels(row, sample))
        batch = self.encoder.batch(rows, patches, grids, side="right")
        batch["labels"] = _padded(labels, IGNORED, "right")
        return batch


class AskCollator:
    """Turns questions into one left-padded batch for generation, each in a conversation of its own."""

    def __init__(self, processor: Processor) -> None:
        self.encoder = Encoder(processor)

    def __call__(self, asked: Sequence[tuple[Sample, Question]]) -> Batch:
        """Return the model's inputs for questions put to the images of the sample beside each."""
        unique = list({sample.key: sample for sample, _ in asked}.values())
        patches, grids = self.encoder.images(unique)
        of_key = {sample.key: (p, g) for sample, p, g in zip(unique, patches, grids, strict=True)}
        rows = [
            self.encoder.tokens(asking_messages(question, len(sample.images)), of_key[sample.key][1], generate=True)
            for sample, question in asked
        ]
        seen = [of_key[sample.key] for sample, _ in asked]
        return self.encoder.batch(rows, [p for p, _ in seen], [g for _, g in seen], side="left")


class Encoder:
    """The token and patch arithmetic that training and generation share."""

    def __init__(self, processor: Processor) -> None:
        self.tokenizer = processor.tokenizer
        self.image_processor = processor.image_processor
        self.image_token = processor.token_id("<|image_pad|>")
        self.end_token = processor.token_id("<|im_end|>")
        self.pad_token = processor.token_id("<|endoftext|>")
        self.answer_start = self.tokenizer("<|im_start|>assistant\n", add_special_tokens=False).input_ids

    def images(self, samples: Sequence[Sample]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Return, a sample, its images' patches (n, 1536) and their grids (images, 3) in patches."""
        patches, grids = [], []
        for sample in samples:
            pixels = [_decoded(image, sample) for image in sample.images]
            features = self.image_processor(images=pixels, return_tensors="pt")
            self._check_untouched(pixels, features["image_grid_thw"], sample.key)
            patches.append(features["pixel_values"])
            grids.append(features["image_grid_thw"])
        return patches, grids

    def tokens(self, messages: list[Message], grid: torch.Tensor, generate: bool = False) -> list[int]:
        """Return the token ids of `messages`, with one image token for every merged patch."""
        text: Any = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generate)
        merged = self.image_processor.merge_size**2
        before, *after = text.split("<|image_pad|>")
        for (_, height, width), rest in zip(grid.tolist(), after, strict=True):
            before += "<|image_pad|>" * (height * width // merged) + rest
        return self.tokenizer(before, add_special_tokens=False).input_ids

    def labels(self, row: list[int], sample: Sample) -> list[int]:
        """Return `row` with everything but the answers and the <|im_end|> after each replaced by -100."""
        labels = [IGNORED] * len(row)
        position = answers = 0
        width = len(self.answer_start)
        while position < len(row):
            if row[position : position + width] != self.answer_start:
                position += 1
                continue
            start = position + width
            position = row.index(self.end_token, start) + 1
            labels[start:position] = row[start:position]
            answers += 1
        if answers != len(sample.questions):
            raise UserError(
                f"sample {sample.key}: {len(sample.questions)} questions, but the chat template shows {answers} "
                "answers; does its text hold special tokens, or is the template not Qwen's?"
            )
        return labels

    def batch(self, rows: list[list[int]], patches: list[torch.Tensor], grids: list[torch.Tensor], side: str) -> Batch:
        """Return padded `rows` with everything the model needs to place text and images."""
        ids = _padded(rows, self.pad_token, side)
        return {
            "input_ids": ids,
            "attention_mask": _padded([[1] * len(row) for row in rows], 0, side),
            "mm_token_type_ids": (ids == self.image_token).int(),
            "pixel_values": torch.cat(patches),
            "image_grid_thw": torch.cat(grids),
        }

    def _check_untouched(self, pixels: list[UInt8Array], grids: torch.Tensor, key: str) -> None:
        """Refuse an image that the processor resized: its focal length is no longer the one asked for."""
        patch = self.image_processor.patch_size
        for image, (_, rows, columns) in zip(pixels, grids.tolist(), strict=True):
            height, width = image.shape[:2]
            if (rows * patch, columns * patch) != (height, width):
                raise UserError(
                    f"sample {key}: the model's image processor resizes {width}x{height} to "
                    f"{columns * patch}x{rows * patch}, which changes the focal length; build with --align crop "
                    "(sides in multiples of 32) and an area within the processor's min_pixels and max_pixels"
                )


def _decoded(image: bytes, sample: Sample) -> UInt8Array:
    try:
        return simplejpeg.decode_jpeg(image, "RGB")
    except ValueError as error:
        raise UserError(
            f"sample {sample.key} of {sample.dataset}: an image does not decode ({error}) although its bytes are those "
            "the build wrote; `vlm3data verify` lists all such samples: build them again"
        ) from error


def _padded(rows: Sequence[Sequence[int]], value: int, side: str) -> torch.Tensor:
    length = max(map(len, rows))
    out = np.full((len(rows), length), value, np.int64)
    for index, row in enumerate(rows):
        out[index, slice(len(row)) if side == "right" else slice(length - len(row), None)] = row
    return torch.from_numpy(out)
