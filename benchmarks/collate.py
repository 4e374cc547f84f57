"""What collating costs a worker: our way, the stock processor's, and the floor of decoding and tokenising alone.

All on one core, from JPEG bytes and a record to a batch; no question comes twice. The stock way is transformers' own
image processor and chat template, with the answers found among the tokens. Processor time is taken, not wall time, and
the contenders take turns.

Run: python -m benchmarks.collate [--quick]
"""

from __future__ import annotations

import io
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import orjson
import simplejpeg
import torch
import yaml
from PIL import Image

from benchmarks.bench import alternate, one_core, ratio, report
from benchmarks.inputs import frames_1600x900
from vlm3data.types import Sample
from vlm3data.wording import PACKS
from vlm3train.collate import IGNORED, TrainCollator
from vlm3train.conversation import training_messages
from vlm3train.models import load_processor
from vlm3train.quiet import quieten
from vlm3train.tiny import example_texts, size_named, write_tiny_model

SIZES = (((256, 192), 16), ((1216, 928), 4))
"""(width, height), and samples a batch."""
QUESTIONS, QUALITY, WARM = 10, 95, 512


def main() -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    quieten()
    one_core()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    photos, origin = frames_1600x900()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        write_tiny_model(Path(scratch), size_named("tiny"), example_texts(), seed=0)
        processor = load_processor(scratch)
        for size, batch in SIZES:
            rows += _measured(processor, _endless(photos, size), size, batch, 5 if "--quick" in sys.argv else 31)
    report("collate", rows, f"one core, {QUESTIONS} questions a sample, JPEG quality {QUALITY}, {origin}")


def _measured(processor, samples: Iterator[Sample], size: tuple[int, int], batch: int, rounds: int) -> list[dict]:
    collate = TrainCollator(processor)
    for _ in range(WARM // batch):  # a worker has met most words within its first seconds
        collate([next(samples) for _ in range(batch)])
    contenders = {
        "stock processor": lambda batch: _stock(processor, batch),
        "ours": collate,
        "floor: decode and tokenise": lambda batch: [_floor(processor, sample) for sample in batch],
        "decode": lambda batch: [simplejpeg.decode_jpeg(sample.images[0], "RGB") for sample in batch],
    }
    fresh = {name: [[next(samples) for _ in range(batch)] for _ in range(rounds + 1)] for name in contenders}
    seconds = alternate({name: lambda n=name: contenders[n](fresh[n].pop()) for name in contenders}, rounds)
    return [
        {
            "image": f"{size[0]}x{size[1]}",
            "way": name,
            "samples/s": batch / statistics.median(times),
            "ms per sample": 1e3 * statistics.median(times) / batch,
            "times as fast as stock": ratio(seconds["stock processor"], times),
            "share that is decoding": ratio(seconds["decode"], times),
        }
        for name, times in seconds.items()
    ]


def _stock(processor, samples: list[Sample]) -> dict[str, torch.Tensor]:
    """Return the batch as transformers' parts make it."""
    tokenizer, image_processor = processor.tokenizer, processor.image_processor
    images = [Image.open(io.BytesIO(sample.images[0])).convert("RGB") for sample in samples]
    features = image_processor(images=images, return_tensors="pt")
    texts = []
    for sample, (_, rows, columns) in zip(samples, features["image_grid_thw"].tolist(), strict=True):
        text = tokenizer.apply_chat_template(training_messages(sample), tokenize=False)
        texts.append(text.replace("<|image_pad|>", "<|image_pad|>" * (rows * columns // 4)))
    batch = tokenizer(texts, padding=True, padding_side="right", add_special_tokens=False, return_tensors="pt")
    labels = torch.full_like(batch["input_ids"], IGNORED)
    start = tokenizer("<|im_start|>assistant\n", add_special_tokens=False)["input_ids"]
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    for row, ids in enumerate(batch["input_ids"].tolist()):
        place = 0
        while start[0] in ids[place:]:
            place = ids.index(start[0], place)
            if ids[place : place + len(start)] == start:
                stop = ids.index(end, place) + 1
                labels[row, place + len(start) : stop] = batch["input_ids"][row, place + len(start) : stop]
            place += 1
    return {**batch, **features, "labels": labels}


def _floor(processor, sample: Sample) -> None:
    simplejpeg.decode_jpeg(sample.images[0], "RGB")
    for question in sample.questions:
        processor.tokenizer.backend_tokenizer.encode(question.question, add_special_tokens=False)
        processor.tokenizer.backend_tokenizer.encode(question.answer, add_special_tokens=False)


def _endless(photos: list[bytes], size: tuple[int, int]) -> Iterator[Sample]:
    """Yield samples with questions of the depth task at pixels that differ each time."""
    images = [_resized(photo, size) for photo in photos[:12]]
    wordings = yaml.safe_load((PACKS / "depth.yaml").read_text())["wordings"]
    rng = np.random.default_rng(0)
    while True:
        questions = []
        for _ in range(QUESTIONS):
            wording = wordings[rng.integers(len(wordings))]
            truth = {
                "x": int(rng.integers(2000)),
                "y": int(rng.integers(2000)),
                "grid": 2000,
                "depth_m": rng.gamma(2, 5),
            }
            asked = {part: wording[part].format(**truth) for part in ("question", "answer")}
            questions.append({"task": "depth", **asked, "truth": truth})
        record = {"key": "key", "source": "photos", "scene": "scene", "questions": questions}
        yield Sample(key="key", images=(images[rng.integers(len(images))],), record_json=orjson.dumps(record))


def _resized(photo: bytes, size: tuple[int, int]) -> bytes:
    image = cv2.resize(simplejpeg.decode_jpeg(photo, "RGB"), size, interpolation=cv2.INTER_AREA)
    return simplejpeg.encode_jpeg(image, QUALITY)


if __name__ == "__main__":
    main()
