"""Where everything in a batch lies: image tokens, answers, and the three position numbers of every token."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from vlm3data.types import Int64Array

IGNORED = -100


class Places(NamedTuple):
    """What the forward pass would otherwise have to ask the GPU for; flat places count through (batch, tokens).

    What belongs to images is left out for models whose own forward pass finds it.
    """

    answer_at: torch.Tensor
    """(n,): flat places of the tokens from which the tokens that carry loss are predicted."""
    answer_ids: torch.Tensor
    """(n,): those tokens."""
    position_ids: torch.Tensor | None = None
    """(3, batch, tokens): time, row and column of every token, Qwen's multimodal rotary positions."""
    image_at: torch.Tensor | None = None
    """(image tokens,): flat places of the image tokens, in order."""
    grids: tuple[tuple[int, int], ...] = ()
    """Rows and columns of every image, in patches."""


def places_of(
    input_ids: torch.Tensor, labels: torch.Tensor, grids: torch.Tensor, image_token: int, merge_size: int
) -> Places:
    """Return the places of a right-padded batch.

    `input_ids` and `labels` are (batch, tokens), -100 in the labels where there is no loss; `grids` is (images, 3) in
    patches, in the order in which the rows' image tokens name them.
    """
    images = [(int(rows), int(columns)) for _, rows, columns in grids.tolist()]
    merged = iter([(rows // merge_size, columns // merge_size) for rows, columns in images])
    is_image = input_ids.numpy() == image_token
    positions = np.stack([rotary_positions(row, merged) for row in is_image], axis=1)
    return answers_of(labels)._replace(
        position_ids=torch.from_numpy(positions),
        image_at=torch.from_numpy(np.flatnonzero(is_image)),
        grids=tuple(images),
    )


def answers_of(labels: torch.Tensor) -> Places:
    """Return where the loss of a batch with these labels (batch, tokens) lies, and nothing else."""
    flat, width = labels[:, 1:].flatten(), labels.shape[1] - 1
    (at,) = torch.nonzero(flat != IGNORED, as_tuple=True)
    # A label's place among those shifted by one, back in rows that are one longer.
    return Places(at + torch.div(at, width, rounding_mode="floor"), flat[at])


def rotary_positions(is_image: npt.NDArray[np.bool_], grids: Iterator[tuple[int, int]]) -> Int64Array:
    """Return the (3, tokens) positions of one row: text counts on, an image spans rows and columns from its beginning.

    After an image, text goes on behind its longer side (Qwen2-VL, arXiv 2409.12191, section 2.1). `grids` yields
    the (rows, columns) of the images in merged patches; padding behind the text counts on as text does.
    """
    out = np.empty((3, len(is_image)), np.int64)
    # Where image tokens begin and end: images follow each other with text between them.
    edges = np.flatnonzero(np.diff(is_image, prepend=False, append=False)).reshape(-1, 2)
    done = position = 0
    for begin, end in edges.tolist():
        rows, columns = next(grids)
        out[:, done:begin] = np.arange(position, position + begin - done)
        position += begin - done
        out[0, begin:end] = position
        out[1, begin:end] = position + np.repeat(np.arange(rows), columns)
        out[2, begin:end] = position + np.tile(np.arange(columns), rows)
        position += max(rows, columns)
        done = end
    out[:, done:] = np.arange(position, position + len(is_image) - done)
    return out
