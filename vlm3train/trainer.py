"""TRL's SFTTrainer on our stream: what it needs to be told so that no sample is lost, cut or counted twice."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import torch
from safetensors import SafetensorError
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict
from transformers import PrinterCallback
from trl import SFTConfig, SFTTrainer

from vlm3data.types import UserError
from vlm3train import fast
from vlm3train.batches import TrainingBatches
from vlm3train.data import Layout, LocalBatches, make_loader, said_if_a_worker_dies
from vlm3train.ledger import Ledger
from vlm3train.log import LOG_FILE, Log
from vlm3train.loss import use_answer_loss
from vlm3train.meter import Meter
from vlm3train.parts import merged
from vlm3train.watch import LossWatch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from vlm3data.mixture import Mixture
    from vlm3train.families.contract import Processor


SETTINGS = ("initial_lr", "betas", "weight_decay")
"""What a run says of its optimizer; the learning rate follows from the first."""
SPREAD_STATE = "optimizer.bin"
"""What accelerate calls the state of an optimizer that is spread over processes; that of any other is in a .pt."""


class StreamTrainer(SFTTrainer):
    """Trains on positions first_step·(global batch) and on of a mixture's stream."""

    def __init__(
        self,
        model: PreTrainedModel,
        processor: Processor,
        mixture: Mixture,
        args: SFTConfig,
        first_step: int,
        compiled: bool = False,
    ) -> None:
        accumulated = args.gradient_accumulation_steps
        layout = Layout(args.process_index, args.world_size, args.per_device_train_batch_size, accumulated)
        self.samples_per_step = layout.per_step
        self._batches = LocalBatches(mixture, layout, first_step * layout.per_step)
        self._collate = TrainingBatches(processor, model, compiled)
        self._processor = processor
        self._dtype = None if args.bf16 else model.dtype
        self._ledger, self._meter, self._watch = Ledger(mixture), Meter(model), LossWatch()
        self._log = Log(Path(str(args.output_dir)) / LOG_FILE, mixture, layout)
        if args.fsdp:
            _name_layers_there(model)
        with _said_if_too_large():
            super().__init__(
                model=model,
                args=args,
                train_dataset=_placeholder(),
                data_collator=self._collate,
                processing_class=processor.tokenizer,
            )
        # First of all, so that it completes what the other loggers are told.
        self.callback_handler.callbacks.insert(0, self._log)
        self.remove_callback(PrinterCallback)
        use_answer_loss(model)
        if compiled:
            fast.compile_blocks(fast.plain(model))
        # The class says False, and then each micro-batch is averaged by itself: answers of short batches would
        # weigh more, and the result depend on how a global batch is cut.
        self.model_accepts_loss_kwargs = True

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train, and give the terminal back however that ends."""
        try:
            with _said_if_too_large(), said_if_a_worker_dies():
                done = super().train(*args, **kwargs)
            self._watch.check(wait=True)
            return done
        finally:
            self._log.bar.stop()

    def get_train_dataloader(self) -> Any:
        """Return this process's own batches, not passed through accelerate."""
        self._loader = make_loader(self._batches, self._collate, self.args.dataloader_num_workers, self._note_skips)
        return self._loader

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """Train to the end; where a run was stopped between its last step and the final model, do no step more."""
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
        else:
            super()._run_epoch(*args, **kwargs)

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """Train on a batch; a loss that is no number stops the run before anything of it is saved."""
        self._watch.check()
        meta, grids = inputs["meta"], inputs["places"].grids
        try:
            loss = super().training_step(model, inputs, num_items_in_batch)
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"a batch of {len(meta.keys)} samples does not fit into the GPU's memory; the longest is "
                f"{meta.longest()}. Lower --batch-size and raise --grad-accum, or say --gradient-checkpointing"
            ) from error
        self._watch.note(self.state.global_step + 1, meta.keys, loss)
        self._meter.count(meta.tokens, grids)
        return loss

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        norm: Any = super()._get_grad_norm(model, grad_norm)
        self._watch.note_norm(self.state.global_step + 1, norm)
        return norm

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the batch's share of the mean over all answer tokens of the global batch."""
        made = model(**self._processor.on_device(inputs, dtype=self._dtype))
        self._ledger.add(inputs["meta"], made)
        # Gradients of several processes are averaged; what is wanted is their sum.
        return made.losses.sum() / num_items_in_batch * self.args.world_size

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add what was measured since the last line to what the trainer logs."""
        if "loss" in logs:
            self._watch.check(wait=True)
            self._log.accounts = self._ledger.take()
            self._log.speed = self._meter.take(self._loader.waited_s)
        super().log(logs, start_time)

    def save_whole(self, out: Path) -> None:
        """Write the model as it is now, in a folder of its own first: `out` never holds half of one."""
        unfinished = out / "unfinished"
        if self.is_world_process_zero():
            shutil.rmtree(unfinished, ignore_errors=True)
        _written(unfinished, lambda: self._save_final(unfinished))
        if self.is_world_process_zero():
            # What makes a directory loadable goes last.
            for path in sorted(unfinished.iterdir(), key=lambda path: ("safetensors" in path.name, path.name)):
                path.replace(out / path.name)
            shutil.rmtree(unfinished)

    def _save_final(self, out: Path) -> None:
        model = self.accelerator.unwrap_model(self.model)
        if fast.plain(model) is model:
            self.save_model(str(out), _internal_call=True)
        elif self.is_world_process_zero():
            # Adapters are added to the weights: nobody who loads the model needs peft.
            merged(model).save_pretrained(str(out))
            self._processor.save(out)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write none: the run's own config and log lie beside the weights."""

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> torch.Tensor:
        answers = torch.tensor(sum(sum(batch["meta"].loss_tokens) for batch in batch_samples), dtype=torch.float32)
        answers = answers.to(device, non_blocking=True)
        if self.args.world_size > 1:
            torch.distributed.all_reduce(answers)
        return answers.clamp(min=1)

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return {name: _to(value, self.args.device) for name, value in inputs.items()}

    def _note_skips(self, skips: list[Any]) -> None:
        self._ledger.skip(skips)
        self._log.list_skips(skips)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self._watch.check(wait=True)
        began = time.monotonic()
        name = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
        _written(name, lambda: super(StreamTrainer, self)._save_checkpoint(model, trial))
        self._meter.leave_out(time.monotonic() - began)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Load the weights; a checkpoint names the optimizer's state in another way where the model is spread."""
        was_spread = (Path(resume_from_checkpoint) / SPREAD_STATE).exists()
        if was_spread != self.is_fsdp_enabled:
            how = (
                "was written with --shard: resume with it"
                if was_spread
                else "is of a run without --shard: leave it out"
            )
            raise UserError(f"{resume_from_checkpoint} {how}")
        super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Go on with the checkpoint's state, but with this run's settings: loading would put back the old ones."""
        optimizer: Any = self.optimizer
        ours = [{name: group[name] for name in SETTINGS if name in group} for group in optimizer.param_groups]
        if checkpoint and self.is_fsdp_enabled:
            self._load_spread(Path(checkpoint))
        else:
            super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None:
            return
        schedule: Any = self.lr_scheduler
        schedule.base_lrs = [group["initial_lr"] for group in ours]
        rates = [rate(schedule.last_epoch) for rate in schedule.lr_lambdas]
        schedule._last_lr = [base * rate for base, rate in zip(schedule.base_lrs, rates, strict=True)]
        for group, values, lr in zip(optimizer.param_groups, ours, schedule._last_lr, strict=True):
            group |= values | {"lr": lr}

    def _load_spread(self, checkpoint: Path) -> None:
        """Load the state of an optimizer that is spread over processes, and of the schedule.

        As accelerate does, but for weights that no gradient reaches: they have no state, and it would refuse all.
        """
        is_first = self.args.process_index == 0  # it hands the others their parts
        state = torch.load(checkpoint / SPREAD_STATE, map_location="cpu", weights_only=True) if is_first else {}
        options = StateDictOptions(full_state_dict=True, cpu_offload=True, broadcast_from_rank0=True, strict=False)
        model: Any = self.model
        optimizer: Any = self.optimizer
        set_optimizer_state_dict(model, optimizer, state, options=options)
        schedule: Any = self.lr_scheduler
        schedule.load_state_dict(torch.load(checkpoint / "scheduler.pt", weights_only=True))

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        if self.args.should_save:  # every process comes here, and they would write the same files at once
            self._processor.save(Path(str(output_dir or self.args.output_dir)))


def _name_layers_there(model: Any) -> None:
    """Let `model` name as its layers only such as it has, or accelerate refuses to spread it.

    A LLaVA has those of CLIP named, of which it holds the half that sees.
    """
    there = {type(module).__name__ for module in model.modules()}
    model._no_split_modules = [name for name in model._no_split_modules or () if name in there]


@contextlib.contextmanager
def _said_if_too_large() -> Generator[None]:
    """Say in one line that the model does not fit into the GPU; for a batch `training_step` says it first."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UserError(
            "weights, gradients and the optimizer's state do not fit into the GPU's memory; spread them over "
            "several GPUs with --shard full, train adapters with --lora-rank, or say --weights bfloat16"
        ) from error


def _written(folder: Path, write: Callable[[], object]) -> None:
    """Run `write`; where the disk does not take it, remove the half of `folder` that there is and say so."""
    try:
        write()
    except (OSError, SafetensorError, RuntimeError) as error:
        if type(error) is RuntimeError and "PytorchStreamWriter" not in str(error):
            raise
        shutil.rmtree(folder, ignore_errors=True)
        line = str(error).strip().splitlines()[0]
        raise UserError(
            f"{folder}: cannot be written ({line}); earlier checkpoints are untouched: make room, then --resume"
        ) from error


def _to(value: Any, device: torch.device) -> Any:
    """Return `value` with its tensors on `device`; from pinned memory that waits for nothing."""
    if isinstance(value, torch.Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, fast.Places):
        return fast.Places(*(_to(field, device) for field in value))
    return value


def _placeholder() -> datasets.IterableDataset:
    """Return what SFTTrainer insists on looking at; the training data comes from `get_train_dataloader`.

    It has no `images` key: with one, TRL would ask for transformers' full processor, hence for torchvision.
    """
    return datasets.IterableDataset.from_generator(_nothing)


def _nothing() -> Any:
    yield {"position": 0}
