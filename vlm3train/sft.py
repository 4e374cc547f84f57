"""Supervised fine-tuning: stream, collator and TRL's SFTTrainer, joined so that every position counts once."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from vlm3data.config import Config
from vlm3data.types import UserError
from vlm3train.lock import alone_in
from vlm3train.parts import LoraSettings, Part, prepared

if TYPE_CHECKING:
    from vlm3data.mixture import Mixture

RUN_FILE = "run.json"


class SftConfig(Config):
    """One training run. Defaults are the paper's depth run (arXiv 2605.30561, Table 4) where it names a number."""

    model: str
    """Directory or hub name of a model that takes images and text."""
    mixture: str
    """Path of a mixture's YAML file."""
    out: Annotated[str, Field(min_length=1)]
    """Directory for checkpoints, the log and the final model."""
    steps: Annotated[int, Field(gt=0)]
    """Optimizer steps; warm-up and schedule are fitted to it."""
    batch_size: Annotated[int, Field(gt=0)] = 4
    """Samples per process and forward pass."""
    grad_accum: Annotated[int, Field(gt=0)] = 1
    """Forward passes per optimizer step."""
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 5.5e-5
    """Peak learning rate."""
    warmup_ratio: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Part of the steps with a linearly rising learning rate."""
    schedule: Literal["cosine", "linear", "constant_with_warmup"] = "cosine"
    """What the learning rate does after the warm-up."""
    max_grad_norm: Annotated[float, Field(ge=0)] = 0.02
    """Gradients are clipped to this norm; 0 clips nothing."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Of AdamW."""
    beta2: Annotated[float, Field(gt=0, lt=1)] = 0.999
    """AdamW's memory of squared gradients; shorter runs want less."""
    seed: Annotated[int, Field(ge=0, lt=1 << 32)] = 0
    """Of the trainer; the order of the data has its own, in the mixture."""
    bf16: bool | None = None
    """Compute in bfloat16; by default where the device can."""
    weights: Literal["float32", "bfloat16"] = "float32"
    """What weights and optimizer are kept in; bfloat16 halves their memory, and rounds small updates away."""
    compile: bool | None = None
    """Compile the model's blocks; by default on a GPU for runs that are long enough."""
    shard: Literal["full", "grads"] | None = None
    """Spread weights, gradients and optimizer over all processes (FSDP2) rather than copying them (DDP); `grads`
    keeps whole weights between forward and backward pass, which is faster."""
    gradient_checkpointing: bool = False
    """Recompute activations instead of keeping them: slower, less memory."""
    freeze: tuple[Part, ...] = ()
    """Parts of the model that are not trained."""
    lora: LoraSettings | None = None
    """Train low-rank adapters in place of weights; the final model has them merged in."""
    image_resize: Literal["refuse", "processor"] = "refuse"
    """What becomes of an image that the model's processor would resize, changing its focal length."""
    report_to: tuple[str, ...] = ()
    """Where the log goes besides the run's own: tensorboard, wandb, trackio."""
    workers: Annotated[int, Field(ge=0)] = 2
    """Processes per rank that read, decode and tokenise; 0 does it in the training process."""
    save_every: Annotated[int, Field(ge=0)] = 0
    """Steps between checkpoints that `resume` can go on from; 0 writes the final model only."""
    log_every: Annotated[int, Field(gt=0)] = 10
    """Steps between lines of log."""
    resume: bool = False
    """Go on from the newest checkpoint in `out`."""
    allow_changed_data: bool = False
    """Resume although the mixture or its shards are not those the run began with; the run's file keeps what changed."""


def train(config: SftConfig) -> bool:
    """Run `config` to its end, the final model in `config.out`; tell whether this process wrote it."""
    from vlm3data.mixture import Mixture

    if config.lora and config.shard:
        raise UserError("lora: adapters need so little memory that `shard` is not made for them; leave it out")
    if config.shard and "WORLD_SIZE" not in os.environ:
        raise UserError(
            f"shard: {config.shard} spreads the model over several processes, and this is one: start it with torchrun "
            "--nproc-per-node N -m vlm3train.cli sft, or leave it out"
        )
    out = Path(config.out)
    _checkpoint(config, out)  # what cannot be is refused before anything is written
    mixture = Mixture.load(config.mixture)
    mixture.schedule()  # a dataset that is missing shows here, before minutes of loading a model
    with alone_in(out, int(os.environ.get("RANK", "0"))):
        return _train(config, out, mixture)


def _train(config: SftConfig, out: Path, mixture: Mixture) -> bool:
    from vlm3train import fast
    from vlm3train.arguments import arguments, check_reports, compiles
    from vlm3train.label_facts import write_label_facts
    from vlm3train.models import load_model, load_processor
    from vlm3train.trainer import StreamTrainer

    checkpoint = _checkpoint(config, out)  # none but this run writes any more
    check_reports(config)
    processor = load_processor(config.model, config.image_resize)
    model = prepared(load_model(config.model, config.weights), config.lora, config.freeze, config.seed)
    is_fast = fast.is_fast(model)
    settings, compiled = arguments(config, is_fast), compiles(config, is_fast)
    trainer = StreamTrainer(model, processor, mixture, settings, _step(checkpoint), compiled)
    _record(config, out, trainer.samples_per_step, mixture, _step(checkpoint))
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trainer.save_whole(out)
    if trainer.is_world_process_zero():
        write_label_facts(out, mixture)
    _part()
    return trainer.is_world_process_zero()


def _part() -> None:
    """Take the processes of a run apart: left to the end of Python, a thread that joins them may abort one of them."""
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()


def _checkpoint(config: SftConfig, out: Path) -> Path | None:
    """Return the checkpoint to go on from; a directory that holds a run is not silently written over."""
    found = newest_checkpoint(out)
    finished = any(out.glob("model*.safetensors"))
    if config.resume and found is None:
        raise UserError(f"{out}: no checkpoint to resume from; leave out --resume, or train with --save-every")
    if not config.resume and (found or finished):
        raise UserError(f"{out} already holds a run; go on with --resume, or choose another --out")
    if found and (_step(found) > config.steps or (_step(found) == config.steps and finished)):
        raise UserError(f"{found} is already at step {_step(found)} of {config.steps}; ask for more --steps")
    return found


def newest_checkpoint(out: Path) -> Path | None:
    """Return the checkpoint in `out` that a run goes on from; None where there is no whole one."""
    return max(filter(_is_whole, out.glob("checkpoint-*")), key=_step, default=None)


def _is_whole(checkpoint: Path) -> bool:
    """Tell whether a run can go on from `checkpoint`: without the optimizer's state the trainer would begin it anew."""
    if not checkpoint.name.removeprefix("checkpoint-").isdecimal():  # a copy that somebody put aside
        return False
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))  # written last
    except (OSError, ValueError):
        return False
    return (checkpoint / "scheduler.pt").exists() and any(checkpoint.glob("optimizer*"))


def _record(config: SftConfig, out: Path, samples_per_step: int, mixture: Mixture, step: int) -> None:
    """Write down what this run is; a resumed one must count stream positions as its first part did."""
    path, changed = out / RUN_FILE, []
    if config.resume and path.exists():
        run = json.loads(path.read_text(encoding="utf-8"))
        changed = run.get("changed_data", [])
        if changes := mixture.changes_since(run["mixture"]):
            if not config.allow_changed_data:
                raise UserError(
                    f"{out}: the data changed since this run began: {'; '.join(changes)}. Put them back, train into "
                    "another --out, or say --allow-changed-data"
                )
            changed = [*changed, {"step": step, "changes": changes, "mixture_before": run["mixture"]}]
        before = run["samples_per_step"]
        if before != samples_per_step:
            raise UserError(
                f"{out}: the run took {before} samples a step, this would take {samples_per_step}; keep "
                "--batch-size x --grad-accum x processes as it was, or samples are repeated or left out"
            )
    out.mkdir(parents=True, exist_ok=True)
    about: dict[str, Any] = {"samples_per_step": samples_per_step, "mixture": mixture.lock()}
    about["config"] = config.model_dump()
    if changed:
        about["changed_data"] = changed
    # Whole or not at all, for other ranks may be reading it.
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)


def _step(checkpoint: Path | None) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-")) if checkpoint else 0
