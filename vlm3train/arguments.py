"""A run's settings in the words of TRL's trainer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch.distributed.fsdp import MixedPrecisionPolicy
from transformers.integrations import get_available_reporting_integrations
from trl import SFTConfig

from vlm3data.types import UserError

if TYPE_CHECKING:
    from vlm3train.sft import SftConfig

COMPILING_PAYS_FROM = 200
"""Steps: compiling takes about a minute, and saves a third of each step."""


def arguments(config: SftConfig, is_fast: bool = True) -> SFTConfig:
    """Return the trainer's arguments for `config`; `is_fast` tells whether the model is one of `fast`."""
    args = SFTConfig(
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
        optim="adamw_torch_fused" if torch.cuda.is_available() else "adamw_torch",
        seed=config.seed,
        # Weights that are bfloat16 themselves need no casting.
        bf16=computes_in_bf16(config) and config.weights == "float32",
        # Without it accelerate ignores torchrun where there is no GPU, and every process trains alone.
        use_cpu=not torch.accelerator.is_available(),
        gradient_checkpointing=config.gradient_checkpointing,
        dataloader_num_workers=config.workers,
        save_strategy="steps" if config.save_every else "no",
        save_steps=config.save_every or 1,
        save_total_limit=2,
        logging_steps=config.log_every,
        logging_nan_inf_filter=False,
        # Every batch has images, so a Qwen3-VL uses all its weights; looking for such costs a pass over the graph.
        # Others may not: LLaVA leaves out the last layers of its vision tower.
        ddp_find_unused_parameters=not is_fast,
        # Nothing that a step changes is kept outside the weights.
        ddp_broadcast_buffers=False,
        report_to=list(config.report_to) or "none",
        disable_tqdm=True,
        # The loader's position follows from the step: replaying the batches would cost hours and change nothing.
        ignore_data_skip=True,
        # Cut samples would lose answers, and anything but our own collator would lose the sample itself.
        max_length=None,
        remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        **_sharding(config),
    )
    # Several GPUs are for several processes: with one, the trainer would copy the model to all of them in every step.
    args._setup_devices  # noqa: B018  # pyright: ignore[reportUnusedExpression, reportPrivateUsage]
    args._n_gpu = min(args._n_gpu, 1)  # pyright: ignore[reportPrivateUsage]
    if config.shard:
        plugin: Any = args.fsdp_plugin_args
        plugin["mixed_precision_policy"] = _precision(bool(args.bf16))
    return args


def check_reports(config: SftConfig) -> None:
    """Raise UserError where the log is to go somewhere that the trainer does not know, or has no package for."""
    here = get_available_reporting_integrations()
    for name in config.report_to:
        if name not in here:
            known = ", ".join(here) or "none"
            raise UserError(f"report_to: {name} is not known, or its package is not installed; here are: {known}")


def computes_in_bf16(config: SftConfig) -> bool:
    """Tell whether the forward pass is to be in bfloat16."""
    if config.bf16 is not None:
        return config.bf16
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported()


def compiles(config: SftConfig, is_fast: bool) -> bool:
    """Tell whether the model's blocks are to be compiled."""
    if config.compile and not is_fast:
        raise UserError("--compile is for Qwen3-VL; leave it out for other models")
    if config.compile is not None:
        return config.compile
    return is_fast and torch.cuda.is_available() and config.steps >= COMPILING_PAYS_FROM


def _precision(bf16: bool) -> MixedPrecisionPolicy:
    """Return what FSDP2 computes in; gradients are added up in float32, and losses stay what they are.

    Accelerate's own policy for bfloat16 rounds each rank's gradients before they are added, and every loss. Autocast
    casts what is to be cast: FSDP2 would round the angles of image positions too, which no unsharded model does.
    """
    return MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if bf16 else None, reduce_dtype=torch.float32, cast_forward_inputs=False
    )


def _sharding(config: SftConfig) -> dict[str, Any]:
    """Return what makes each process keep a part of weights, gradients and optimizer (FSDP2), or nothing (DDP)."""
    if not config.shard:
        return {}
    return {
        "fsdp": "full_shard",
        "fsdp_config": {
            "version": 2,
            "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
            "reshard_after_forward": config.shard == "full",
            "state_dict_type": "FULL_STATE_DICT",
            "activation_checkpointing": False,
        },
        # Else every process would keep whole gradients from the first batch of a step to its last.
        "accelerator_config": {"gradient_accumulation_kwargs": {"sync_each_batch": config.shard == "full"}},
    }
