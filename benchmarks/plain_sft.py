"""TRL's SFTTrainer as its documentation has it, on the samples of a mixture: what the product is measured against."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import datasets
import torch
from PIL import Image
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer

from vlm3data.mixture import Mixture
from vlm3data.stream import Stream
from vlm3train.families.contract import Processor
from vlm3train.flops import Arithmetic, peak_flops
from vlm3train.sft import SftConfig

SHARDS = 64
"""Of the dataset object, which its workers share out among themselves."""


def plain_trainer(model: Any, processor: Processor, mixture: Mixture, config: SftConfig) -> SFTTrainer:
    """Return the trainer with its own collator and loss, logging what the product's log holds."""
    full = _full_processor(processor)
    mixture.schedule()
    rows = datasets.IterableDataset.from_generator(
        _rows, gen_kwargs={"mixture": [mixture] * SHARDS, "first": list(range(SHARDS))}
    )
    args = SFTConfig(
        output_dir=config.out,
        max_steps=config.steps,
        per_device_train_batch_size=config.batch_size,
        learning_rate=config.lr,
        bf16=config.weights == "float32" and torch.cuda.is_available(),
        use_cpu=not torch.cuda.is_available(),
        gradient_checkpointing=config.gradient_checkpointing,
        dataloader_num_workers=config.workers,
        logging_steps=config.log_every,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        max_length=None,
    )
    return SFTTrainer(
        model=model, args=args, train_dataset=rows, processing_class=full, callbacks=[_Speed(Path(config.out), config)]
    )


def _rows(mixture: list[Mixture], first: list[int]) -> Iterator[dict[str, Any]]:
    """Yield conversations as TRL wants them: messages, and the images that they name."""
    for whole, begin in zip(mixture, first, strict=True):
        with Stream(whole, count(begin, SHARDS)) as stream:
            for _, sample in stream:
                messages = []
                for number, question in enumerate(sample.questions):
                    text = {"type": "text", "text": question.question}
                    seen = [{"type": "image"}] if number == 0 else []
                    messages.append({"role": "user", "content": [*seen, text]})
                    messages.append({"role": "assistant", "content": [{"type": "text", "text": question.answer}]})
                yield {"messages": messages, "images": [Image.open(io.BytesIO(image)) for image in sample.images]}


def _full_processor(processor: Any) -> Any:
    """Return transformers' own processor; it needs torchvision."""
    from transformers import Qwen3VLProcessor, Qwen3VLVideoProcessor

    return Qwen3VLProcessor(
        image_processor=processor.image_processor,
        tokenizer=processor.tokenizer,
        video_processor=Qwen3VLVideoProcessor(),
        chat_template=processor.tokenizer.chat_template,
    )


class _Speed(TrainerCallback):
    """Writes samples a second and MFU of the steps between two lines of log."""

    def __init__(self, out: Path, config: SftConfig) -> None:
        self.path, self.batch, self.every = out / "log.jsonl", config.batch_size, config.log_every
        self.began = time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, model: Any = None, **_: Any) -> None:
        if not logs or "loss" not in logs:
            return
        now = time.monotonic()
        rate = self.batch * self.every / (now - self.began)
        self.began = now
        line = {"step": state.global_step, "samples_per_s": rate}
        if torch.cuda.is_available():
            # The trainer counts tokens; images are all of one size here.
            tokens = logs["num_tokens"] / (self.batch * state.global_step)
            a_sample = Arithmetic(model.config).training_step([tokens], [(58, 76)])  # type: ignore[list-item]
            line["mfu"] = rate * a_sample / (peak_flops(torch.cuda.get_device_name()) or float("nan"))
            line |= {"memory_gib": torch.cuda.max_memory_allocated() / 2**30, "length": tokens}
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
