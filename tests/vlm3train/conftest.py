"""A model too small to be good at anything, and shards small enough to read in a blink."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlm3data.build import BuildConfig, build
from vlm3data.types import Sample
from vlm3train.families.contract import Processor
from vlm3train.models import load_processor
from vlm3train.quiet import quieten
from vlm3train.tiny import NANO, example_texts, write_tiny_model

quieten()


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with a random model, its tokenizer and its image processor."""
    out = tmp_path_factory.mktemp("model")
    write_tiny_model(out, NANO, list(example_texts(count=300)), seed=0)
    return out


@pytest.fixture(scope="session")
def processor(model_dir: Path) -> Processor:
    """Return the random model's processor."""
    return load_processor(str(model_dir))


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a finished dataset of a dozen generated images, of several sizes."""
    out = str(tmp_path_factory.mktemp("shards") / "train")
    config = BuildConfig.check(
        {
            "source": "synthetic",
            "root": "",
            "options": {"width_px": 96, "height_px": 96, "scenes": 6},
            "tasks": {"depth": {}},
            "focal_px": 80.0,
            "limit": 12,
            "seed": 0,
        },
        where="test",
    )
    build(config, out, workers=1)
    return out


@pytest.fixture(scope="session")
def mixture(shards: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the path of a mixture of those shards, three questions a sample."""
    path = tmp_path_factory.mktemp("mixture") / "mix.yaml"
    path.write_text(f"seed: 5\ndatasets:\n  toy: {{shards: {shards}, weight: 1.0, pixels: 3}}\n")
    return str(path)


@pytest.fixture(scope="session")
def make_sample() -> Callable[..., Sample]:
    """Return a maker of samples with depth questions about flat grey images."""

    def make(
        key: str,
        answers: list[str],
        size: tuple[int, int] = (64, 64),
        num_images: int = 1,
        depth_m: float = 2.0,
        scene: str = "",
    ) -> Sample:
        questions = [
            {
                "task": "depth",
                "question": f"Depth at ({100 * i}, {50 * i})?",
                "answer": answer,
                "truth": {"grid_xy": [100 * i, 50 * i], "grid": 2000, "depth_m": depth_m},
            }
            for i, answer in enumerate(answers)
        ]
        images = []
        for number in range(num_images):
            file = io.BytesIO()
            Image.fromarray(np.full((size[1], size[0], 3), 40 * number + 60, np.uint8)).save(file, "JPEG")
            images.append(file.getvalue())
        record = json.dumps({"key": key, "source": "toy", "scene": scene or key, "questions": questions}).encode()
        return Sample(key=key, images=tuple(images), record_json=record)

    return make
