"""How fast a model answers ten questions an image: the image once for all of them, against every question by itself.

Both ways put the same questions in batches, left padded, answer greedily, and are timed in turns. Random weights end no
answer early, so each is as long as it may be.

Run: python -m benchmarks.evaluate                (1216x928 and the shape of Qwen3-VL-4B, on a GPU)
     python -m benchmarks.evaluate --quick        (a tiny model and 416x320, on a CPU)
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.bench import ratio, report
from benchmarks.train_speed import gpu, model_of_4b
from vlm3data.images import encode_jpeg
from vlm3data.types import Question, Sample

QUESTIONS, NEW_TOKENS = 10, 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--images", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int)
    arguments = parser.parse_args()
    size_px = (416, 320) if arguments.quick else (1216, 928)
    images = arguments.images or (6 if arguments.quick else 64)
    batch_size = arguments.batch_size or (30 if arguments.quick else 80)

    from vlm3train.generate import Generator
    from vlm3train.models import load_model, load_processor
    from vlm3train.quiet import quieten
    from vlm3train.tiny import example_texts, size_named, write_tiny_model

    quieten()
    with tempfile.TemporaryDirectory() as folder:
        write_tiny_model(Path(folder), size_named("tiny"), list(example_texts(count=500)), seed=0)
        processor: Any = load_processor(folder)
        model = load_model(folder) if arguments.quick else model_of_4b(Path(folder), "bfloat16")
    model.config.use_cache = True

    class Alone:
        """The processor, not known as a Qwen-VL's: every question is then asked by itself."""

        def __getattr__(self, name: str) -> Any:
            return getattr(processor, name)

    asked = [(sample, question) for sample in samples(images, size_px) for question in sample.questions]
    apart: Any = Alone()
    ways = {
        "every question by itself": Generator(model, apart, batch_size if arguments.quick else 16, NEW_TOKENS),
        "the image once for all its questions": Generator(model, processor, batch_size, NEW_TOKENS),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    texts = {name: answer(asked) for name, answer in ways.items()}  # warm, and to be compared
    for _ in range(arguments.rounds):
        for name, answer in ways.items():
            start = time.perf_counter()
            answer(asked)
            seconds[name].append(time.perf_counter() - start)
    slow, fast = seconds
    same = np.mean([one == other for one, other in zip(texts[slow], texts[fast], strict=True)])
    rows = [
        {
            "way": name,
            "questions/s": len(asked) / median(times),
            "images/s": images / median(times),
            "times as fast": ratio(seconds[slow], times),
            "same answers": float(same),
        }
        for name, times in seconds.items()
    ]
    note = f"{images} images of {size_px[0]}x{size_px[1]}, {QUESTIONS} questions each, {NEW_TOKENS} tokens, {gpu()}"
    report("evaluate_quick" if arguments.quick else "evaluate", rows, note)


def samples(count: int, size_px: tuple[int, int]) -> list[Sample]:
    """Return samples with images of noise and questions about depth."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(count):
        image = np.kron(rng.integers(0, 256, (size_px[1] // 8, size_px[0] // 8, 3)), np.ones((8, 8, 1))).astype(
            np.uint8
        )
        questions = [f"Depth at ({x}, {y})?" for x, y in rng.integers(0, 2000, (QUESTIONS, 2)).tolist()]
        sample = Sample.of({"key": str(number), "source": "noise", "scene": str(number)}, (encode_jpeg(image, 90),))
        sample.__dict__["questions"] = [Question("depth", text, "", {}) for text in questions]
        made.append(sample)
    return made


if __name__ == "__main__":
    main()
