"""How large the images of each sample are, before any is read: what batches are dealt out by."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import pyarrow.parquet as pq

from vlm3data.geometry.focal import Align
from vlm3data.mixture import Mixture
from vlm3data.shards import Dataset
from vlm3data.types import Float64Array

PATCHES_PX = 32
"""Sides are cut or padded to multiples of this."""


class ImageSizes:
    """Pixels of the samples of a mixture, four bytes a sample where a dataset has images of several sizes."""

    def __init__(self, mixture: Mixture) -> None:
        self._schedule = mixture.schedule()
        self._pixels = [_pixels(part.dataset) if part.dataset is not None else 0 for part in mixture.parts]
        self._selected = [part.selected for part in mixture.parts]
        self._all_alike = all(isinstance(pixels, int) for pixels in self._pixels) and len(set(self._pixels)) == 1

    def order(self, positions: Sequence[int]) -> list[int]:
        """Return stream positions by the size of their images, ascending; those of one size in their own order."""
        if self._all_alike:
            return list(positions)
        return sorted(positions, key=self._size)

    def _size(self, position: int) -> int:
        part, _, place = self._schedule.locate(position)
        pixels, selected = self._pixels[part], self._selected[part]
        return pixels if isinstance(pixels, int) else int(pixels[place if selected is None else selected[place]])


def _aligned(sides_px: Float64Array, align: Align) -> Float64Array:
    if align == "none":
        return sides_px
    return (np.ceil if align == "pad" else np.floor)(sides_px / PATCHES_PX) * PATCHES_PX


def _pixels(dataset: Dataset) -> int | np.ndarray[tuple[int], np.dtype[np.uint32]]:
    """Return the pixels of all views of each sample; one number where all have as many in one view."""
    columns = ["width_px", "height_px", "views", "source_focal_px"]
    found = dataset.index_parquet()
    table = pq.read_table(found if isinstance(found, str) else io.BytesIO(found), columns=columns)
    width, height, views = (table[name].to_numpy().astype(np.uint32) for name in columns[:3])
    config = dataset.about["config"]
    if dataset.unifier is not None and config["focal_mode"] != "none":
        # The index has the stored images; what is dealt out are those that they become.
        scale = (dataset.unify.focal_px or config["focal_px"]) / table["source_focal_px"].to_numpy()
        align = dataset.unify.align or config["align"]
        width, height = (_aligned(side * scale // 1, align).astype(np.uint32) for side in (width, height))
    pixels = width * height * views
    return int(pixels[0]) if len(pixels) and (pixels == pixels[0]).all() else pixels
