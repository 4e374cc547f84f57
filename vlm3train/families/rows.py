"""Rows of tokens to padded tensors, and images to pixels: what every family does alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from vlm3data.types import Sample, UInt8Array, UserError

Tokens = npt.NDArray[np.int64]


def pixels_of(sample: Sample) -> list[UInt8Array]:
    """Return the images of a sample, RGB pixels (h, w, 3) each; one that is damaged is named."""
    try:
        return sample.image_arrays()
    except ValueError as error:
        raise UserError(
            f"sample {sample.key} of {sample.dataset}: an image does not decode ({error}) although its bytes are those "
            "the build wrote; `vlm3data verify` lists all such samples: build them again"
        ) from error


def padded(rows: Sequence[Tokens], value: int, side: str) -> torch.Tensor:
    """Return `rows` as one tensor (rows, longest), filled up with `value` on the `side` that is named."""
    length = max(map(len, rows))
    out = np.full((len(rows), length), value, np.int64)
    for index, row in enumerate(rows):
        out[index, slice(len(row)) if side == "right" else slice(length - len(row), None)] = row
    return torch.from_numpy(out)


def attended(rows: Sequence[Tokens], side: str) -> torch.Tensor:
    """Return the attention mask of `padded` rows."""
    lengths = torch.tensor([len(row) for row in rows])[:, None]
    places = torch.arange(int(lengths.max()))[None]
    return (places < lengths if side == "right" else places >= lengths.max() - lengths).long()
