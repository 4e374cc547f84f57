"""Frames to measure on: real ones where they lie beside the project, otherwise made to have a photograph's detail."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image

REALDATA = Path(os.environ.get("REALDATA", Path(__file__).parents[2] / "shared" / "realdata"))


def frames_1600x900() -> tuple[list[bytes], str]:
    """Return 1600x900 JPEGs and where they are from."""
    real = sorted((REALDATA / "nuscenes" / "samples").glob("CAM_*/*.jpg"))
    if real:
        return [path.read_bytes() for path in real], f"{len(real)} real nuScenes frames"
    return [_noise(seed) for seed in range(6)], "1/f noise (no real frames here)"


def _noise(seed: int, width: int = 1600, height: int = 900) -> bytes:
    """Return a JPEG whose amplitude spectrum falls as 1/f, as that of photographs does."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    spectrum = np.fft.rfft2(rng.normal(size=(3, height, width))) / np.maximum(frequency, 1 / width)
    image = np.fft.irfft2(spectrum, (height, width))
    image = 128 + 50 * image / image.std()
    file = io.BytesIO()
    Image.fromarray(np.clip(image, 0, 255).astype(np.uint8).transpose(1, 2, 0)).save(file, "JPEG", quality=90)
    return file.getvalue()
