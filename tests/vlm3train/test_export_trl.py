"""TRL's own SFTTrainer reads the Parquet export: no code of ours between the file and the step."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlm3data.export import export
from vlm3data.export.drawn import of_mixture


def test_trl_takes_a_step_on_the_parquet_export(mixture, model_dir: Path, tmp_path):
    datasets = pytest.importorskip("datasets")
    trl = pytest.importorskip("trl")
    from transformers import AutoTokenizer, Qwen2VLImageProcessorPil, Qwen3VLForConditionalGeneration
    from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor

    class ImageProcessor(Qwen3VLProcessor):
        """The stock processor less the one for videos, which needs torchvision."""

        def check_argument_for_proper_class(self, argument_name: str, argument: object) -> None:
            """Let a missing video processor pass."""

    export(of_mixture(mixture, 8), "parquet", str(tmp_path / "x"), lambda done, total: None)
    rows = datasets.load_dataset(str(tmp_path / "x"), split="train", cache_dir=str(tmp_path / "hf"))
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    images = Qwen2VLImageProcessorPil.from_pretrained(model_dir)
    trainer = trl.SFTTrainer(
        model=Qwen3VLForConditionalGeneration.from_pretrained(model_dir),
        processing_class=ImageProcessor(images, tokenizer, None, chat_template=tokenizer.chat_template),
        train_dataset=rows,
        args=trl.SFTConfig(
            output_dir=str(tmp_path / "run"),
            max_steps=1,
            per_device_train_batch_size=2,
            max_length=None,
            use_cpu=True,
            bf16=False,
            report_to=[],
            save_strategy="no",
        ),
    )
    batch = next(iter(trainer.get_train_dataloader()))
    merged = batch["image_grid_thw"].prod(-1).sum() // 4
    assert (batch["input_ids"] == tokenizer.convert_tokens_to_ids("<|image_pad|>")).sum() == merged
    turns = [tokenizer.decode(row).count("<|im_start|>user") for row in batch["input_ids"]]
    assert turns == [3, 3]
    assert trainer.train().training_loss > 0
