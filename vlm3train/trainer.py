"""TRL's SFTTrainer on our stream: what it needs to be told so that no sample is lost, cut or counted twice."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import PrinterCallback, TrainerCallback
from trl import SFTConfig, SFTTrainer

from vlm3data.skips import Skip
from vlm3data.types import UserError
from vlm3train.collate import TrainCollator
from vlm3train.data import Layout, LocalBatches, make_loader

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from vlm3data.mixture import Mixture
    from vlm3train.families.contract import Processor
    from vlm3train.sft import SftConfig

LOG_FILE = "log.jsonl"
SKIPPED_FILE = "skipped.jsonl"


def arguments(config: SftConfig) -> SFTConfig:
    """Return the trainer's arguments for `config`."""
    on_gpu = torch.cuda.is_available()
    bf16 = config.bf16 if config.bf16 is not None else on_gpu and torch.cuda.is_bf16_supported()
    return SFTConfig(
        output_dir=config.out,
        max_steps=config.steps,
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.grad_accum,
        learning_rate=config.lr,
        warmup_steps=math.ceil(config.warmup_ratio * config.steps),
        lr_scheduler_type=config.schedule,
        max_grad_norm=config.max_grad_norm,
        weight_decay=config.weight_decay,
        adam_beta2=config.beta2,
        seed=config.seed,
        bf16=bf16,
        # Without it accelerate ignores torchrun where there is no GPU, and every process trains alone.
        use_cpu=not torch.accelerator.is_available(),
        gradient_checkpointing=config.gradient_checkpointing,
        dataloader_num_workers=config.workers,
        save_strategy="steps" if config.save_every else "no",
        save_steps=config.save_every or 1,
        save_total_limit=2,
        logging_steps=config.log_every,
        logging_nan_inf_filter=False,
        # Every batch has images, so no parameter is ever unused; looking for such costs a pass over the graph.
        ddp_find_unused_parameters=False,
        report_to="none",
        disable_tqdm=True,
        # The loader's position follows from the step: replaying the batches would cost hours and change nothing.
        ignore_data_skip=True,
        # Cut samples would lose answers, and anything but our own collator would lose the sample itself.
        max_length=None,
        remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True},
    )


class StreamTrainer(SFTTrainer):
    """Trains on positions first_step·(global batch) and on of a mixture's stream."""

    def __init__(
        self, model: PreTrainedModel, processor: Processor, mixture: Mixture, args: SFTConfig, first_step: int
    ) -> None:
        layout = Layout(args.process_index, args.world_size, args.per_device_train_batch_size)
        start = layout.position(first_step * args.gradient_accumulation_steps)
        self.samples_per_step = layout.position(args.gradient_accumulation_steps)
        self._batches = LocalBatches(mixture, layout, start)
        self._collate = TrainCollator(processor)
        self._processor = processor
        self._log = Log(Path(str(args.output_dir)) / LOG_FILE, self.samples_per_step, layout.rank == 0)
        super().__init__(
            model=model,
            args=args,
            train_dataset=_placeholder(),
            data_collator=self._collate,
            processing_class=processor.tokenizer,
            callbacks=[self._log],
        )
        self.remove_callback(PrinterCallback)
        # The class says False, and then each micro-batch is averaged by itself: answers of short batches would
        # weigh more, and the result depend on how a global batch is cut.
        self.model_accepts_loss_kwargs = True

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train, and give the terminal back however that ends."""
        try:
            return super().train(*args, **kwargs)
        finally:
            self._log.bar.stop()

    def get_train_dataloader(self) -> Any:
        """Return this process's own batches, not passed through accelerate."""
        return make_loader(self._batches, self._collate, self.args.dataloader_num_workers, self._log.note_skips)

    def _prepare_inputs(self, inputs: Any) -> dict[str, Any]:
        return self._processor.on_device(super()._prepare_inputs(inputs))

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Refuse a loss that is not a number before it reaches the weights' next update."""
        loss = super().training_step(*args, **kwargs)
        if not torch.isfinite(loss):
            raise UserError(
                f"the loss became {loss.item()} at step {self.state.global_step + 1}; lower --lr, "
                "clip gradients harder or warm up longer, and --resume from the last checkpoint"
            )
        return loss

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write none: the run's own config and log lie beside the weights."""

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        self._processor.save(Path(str(output_dir or self.args.output_dir)))


class Log(TrainerCallback):
    """Shows a bar and one line per log step, and appends the same numbers to a file."""

    def __init__(self, path: Path, samples_per_step: int, is_main: bool) -> None:
        self.path, self.samples_per_step = path, samples_per_step
        self.skipped: Counter[str] = Counter()
        self.began, self.is_main = (0, 0.0), is_main
        columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        console = Console(stderr=True)
        shown = is_main and console.is_terminal
        self.bar = Progress(*columns, console=console, transient=True, disable=not shown)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the bar."""
        if state.is_world_process_zero and self.path.exists():
            self._forget_after(state.global_step)
        self.task = self.bar.add_task("training", total=state.max_steps, completed=state.global_step)
        self.bar.start()
        self.began = (state.global_step, time.monotonic())

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Move the bar."""
        self.bar.update(self.task, completed=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Print and keep what a step brought."""
        if not state.is_world_process_zero or not logs or "loss" not in logs:
            return
        first, began = self.began
        rate = (state.global_step - first) * self.samples_per_step / (time.monotonic() - began)
        line = {
            "step": state.global_step,
            "samples": state.global_step * self.samples_per_step,
            "loss": logs["loss"],
            "token_accuracy": logs["mean_token_accuracy"],
            "grad_norm": logs["grad_norm"],
            "lr": logs["learning_rate"],
            "samples_per_s": round(rate, 2),
        }
        if self.skipped:
            line["skipped"] = dict(sorted(self.skipped.items()))
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self.bar.console.print(
            f"step {line['step']:>6}/{state.max_steps}  loss {line['loss']:.4f}  "
            f"answer tokens right {line['token_accuracy']:.3f}  gradient {line['grad_norm']:.3g}  "
            f"lr {line['lr']:.2e}  {rate:.1f} samples/s",
            highlight=False,
            soft_wrap=True,
        )

    def note_skips(self, skips: Sequence[Skip]) -> None:
        """Count damaged samples by dataset, and append each to a file beside the log, to which all ranks write.

        A line is one write at the file's end, which the system does not mix with another's. A run that is resumed
        may list a position again: it really was drawn twice.
        """
        self.skipped.update(skip.dataset for skip in skips)
        with self.path.with_name(SKIPPED_FILE).open("ab", buffering=0) as file:
            for skip in skips:
                file.write(json.dumps(skip._asdict()).encode() + b"\n")
        if self.is_main:
            for skip in skips:
                self.bar.console.print(
                    f"{skip.dataset}: sample {skip.key} at byte {skip.offset} of {skip.shard} is damaged; "
                    f"{skip.replaced_by} stands in",
                    highlight=False,
                    soft_wrap=True,
                )

    def _forget_after(self, step: int) -> None:
        """Drop what was logged between the checkpoint that a resumed run goes on from and its end."""
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        self.path.write_text("".join(line for line in lines if json.loads(line)["step"] <= step), encoding="utf-8")


def _placeholder() -> datasets.IterableDataset:
    """Return what SFTTrainer insists on looking at; the training data comes from `get_train_dataloader`.

    It has no `images` key: with one, TRL would ask for transformers' full processor, hence for torchvision.
    """
    return datasets.IterableDataset.from_generator(_nothing)


def _nothing() -> Any:
    yield {"position": 0}
