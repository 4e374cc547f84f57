"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL: one way of cutting patches and one chat format, with other numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from vlm3data.types import Sample, UInt8Array, UserError
from vlm3train.conversation import Message, asking_messages, training_messages
from vlm3train.families.chat import Chat
from vlm3train.families.contract import IGNORED, Asked, Batch, ImageResize, Meta
from vlm3train.families.marks import Marks
from vlm3train.families.patches import PatchFacts, laid_out, normalised
from vlm3train.families.rows import Tokens, attended, padded, pixels_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, Qwen2VLImageProcessorPil

PROCESSOR_FILES = (
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "chat_template.json",
)
BUILT_PX = 32
"""What builds align the sides of images to, as Qwen3-VL takes them."""
Grid = tuple[int, int, int]
"""An image's size in patches: time, rows, columns."""


class Images(NamedTuple):
    """The images of one sample: uint8 patches, and the grid of each."""

    patches: list[UInt8Array]
    grids: list[Grid]


class QwenVL:
    """From samples to a Qwen-VL's inputs; images travel as uint8 patches (n, patch·patch·3).

    Not transformers' own Qwen3VLProcessor: that one holds a video processor, which needs torchvision.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        image_processor: Qwen2VLImageProcessorPil,
        image_resize: ImageResize = "refuse",
        files: Mapping[str, bytes] | None = None,
    ) -> None:
        """Take the parts of a checkpoint's processor, and `files` that a save copies as they are."""
        self._files = files or {}
        self.tokenizer, self.image_processor, self.image_resize = tokenizer, image_processor, image_resize
        self.facts = PatchFacts.of(image_processor)
        self.image_token = self._token_id("<|image_pad|>")
        self.pad_token = self._token_id("<|endoftext|>")
        self.end_tokens = [self._token_id("<|im_end|>"), self.pad_token]
        self.chat = Chat(tokenizer, tokenizer.name_or_path)
        self._marks = Marks(tokenizer, self.end_tokens[0])
        self._grids: dict[tuple[int, int], Grid] = {}

    def _token_id(self, token: str) -> int:
        number: Any = self.tokenizer.convert_tokens_to_ids(token)
        if self.tokenizer.convert_ids_to_tokens(number) != token:
            raise UserError(f"{self.tokenizer.name_or_path}: its tokenizer has no {token}, so it is not a Qwen-VL's")
        return number

    def train(self, samples: Sequence[Sample]) -> Batch:
        """Return a right-padded batch with `labels` on the answers and the <|im_end|> after each."""
        images = [self.images(sample) for sample in samples]
        rows, labels = [], []
        for sample, seen in zip(samples, images, strict=True):
            chat = self.chat(training_messages(sample), False, sample.key)
            ids = self._marks.encoded(chat)
            answers = self._marks.labels(ids, chat, sample.key)
            counts = self._counts(ids, seen)
            rows.append(np.repeat(ids, counts))
            labels.append(np.repeat(answers, counts))
        batch = self.batch(rows, images, side="right")
        batch["labels"] = padded(labels, IGNORED, "right")
        batch["meta"] = Meta(
            keys=[sample.key for sample in samples],
            datasets=[sample.dataset for sample in samples],
            tokens=[len(row) for row in rows],
            loss_tokens=[int((row != IGNORED).sum()) for row in labels],
        )
        return batch

    def ask(self, asked: Sequence[Asked]) -> Batch:
        """Return a left-padded batch; an image that several questions are about is decoded once."""
        # By the images, not by the key: for a control a sample is asked about with another one's.
        unique = {id(sample.images): sample for sample, _ in asked}
        seen_of = {which: self.images(sample) for which, sample in unique.items()}
        images = [seen_of[id(sample.images)] for sample, _ in asked]
        rows = [
            self.tokens(asking_messages(question, len(sample.images)), seen, True, sample.key)
            for (sample, question), seen in zip(asked, images, strict=True)
        ]
        return self.batch(rows, images, side="left")

    def on_device(self, batch: Batch, dtype: torch.dtype | None = None) -> dict[str, Any]:
        """Return the model's keyword arguments: patches become normalised `pixel_values` here."""
        inputs = {name: value for name, value in batch.items() if name not in ("pixel_patches", "meta")}
        return inputs | {"pixel_values": normalised(batch["pixel_patches"], self.facts).to(dtype)}

    def save(self, out: Path) -> None:
        """Write tokenizer, chat template and image processor beside a model.

        What the checkpoint said of its processor goes along unchanged, that of videos too: where torchvision is,
        transformers' own `AutoProcessor` reads the result as it read the checkpoint.
        """
        self.tokenizer.save_pretrained(out)
        self.image_processor.save_pretrained(out)
        for name, content in self._files.items():
            (out / name).write_bytes(content)

    def images(self, sample: Sample) -> Images:
        """Return the patches of a sample's images."""
        patches, grids = [], []
        for pixels in pixels_of(sample):
            grid = self._grid(pixels.shape[0], pixels.shape[1], sample)
            size = grid[1] * self.facts.patch_size, grid[2] * self.facts.patch_size
            patches.append(laid_out(pixels if pixels.shape[:2] == size else self._resized(pixels), self.facts))
            grids.append(grid)
        return Images(patches, grids)

    def tokens(self, messages: list[Message], images: Images, generate: bool = False, sample: str = "") -> Tokens:
        """Return the token ids of `messages`, with one image token for every merged patch."""
        filled = self.chat(messages, generate, sample)
        ids = self._marks.encoded(filled)
        self._marks.checked(ids, filled, sample)
        return np.repeat(ids, self._counts(ids, images))

    def batch(self, rows: Sequence[Tokens], images: Sequence[Images], side: str) -> Batch:
        """Return padded `rows` with everything the model needs to place text and images."""
        ids = padded(rows, self.pad_token, side)
        return {
            "input_ids": ids,
            "attention_mask": attended(rows, side),
            "mm_token_type_ids": (ids == self.image_token).int(),
            "pixel_patches": torch.from_numpy(np.concatenate([patch for seen in images for patch in seen.patches])),
            "image_grid_thw": torch.tensor([grid for seen in images for grid in seen.grids]),
        }

    def _counts(self, ids: Tokens, images: Images) -> Tokens:
        """Return how often each token stands in the model's input: once, but an image's once for a merged patch."""
        counts = np.ones(len(ids), np.int64)
        counts[ids == self.image_token] = [
            rows * columns // self.facts.merge_size**2 for _, rows, columns in images.grids
        ]
        return counts

    def _grid(self, height: int, width: int, sample: Sample) -> Grid:
        """Return the patches the processor cuts an image into; refuse one that it would resize to do so."""
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

        if (height, width) not in self._grids:
            stock: Any = self.image_processor
            limits = stock.size["shortest_edge"], stock.size["longest_edge"]
            try:
                rows_px, columns_px = smart_resize(height, width, self.facts.factor, *limits)
            except ValueError as error:
                raise UserError(
                    f"sample {sample.key}: the image processor refuses {width}x{height}: {error}"
                ) from error
            if self.image_resize == "refuse" and (rows_px, columns_px) != (height, width):
                factor = self.facts.factor
                what_to_do = (
                    f"build with --align crop (sides in multiples of {BUILT_PX}) and an area within the processor's "
                    "min_pixels and max_pixels"
                    if factor == BUILT_PX
                    else f"it takes sides in multiples of {factor}, and builds align to {BUILT_PX}: allow it with "
                    "--image-resize processor"
                )
                raise UserError(
                    f"sample {sample.key}: the model's image processor resizes {width}x{height} to "
                    f"{columns_px}x{rows_px}, which changes the focal length; {what_to_do}"
                )
            patch = self.facts.patch_size
            self._grids[height, width] = 1, rows_px // patch, columns_px // patch
        return self._grids[height, width]

    def _resized(self, pixels: UInt8Array) -> UInt8Array:
        """Return the image as the stock processor resizes it, which gives uint8 again."""
        stock: Any = self.image_processor
        channels_first = np.moveaxis(pixels, -1, 0)
        resized = stock.resize(channels_first, size=stock.size, resample=stock.resample, factor=self.facts.factor)
        return np.moveaxis(resized, 0, -1)


def load(name: str, image_resize: ImageResize) -> QwenVL:
    """Return the processor of a directory or a hub name."""
    from transformers import AutoTokenizer, Qwen2VLImageProcessorPil
    from transformers.utils import cached_file

    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        image_processor = Qwen2VLImageProcessorPil.from_pretrained(name)
        found = {file: cached_file(name, file, _raise_exceptions_for_missing_entries=False) for file in PROCESSOR_FILES}
        files = {file: Path(path).read_bytes() for file, path in found.items() if path}
    except (OSError, ValueError) as error:
        line = str(error).strip().splitlines()[0]
        raise UserError(f"{name}: no tokenizer or image processor beside the model ({line})") from error
    if not tokenizer.chat_template:
        raise UserError(f"{name}: its tokenizer has no chat template; copy chat_template.jinja of the model here")
    return QwenVL(tokenizer, image_processor, image_resize, files)
