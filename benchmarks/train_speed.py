"""Training speed at the size of Qwen3-VL-4B, from shards to weights, beside TRL's SFTTrainer as it comes.

Random weights of the released shape, images of 1216x928 with ten questions each, built by the product, read by the
product's loader, trained with its trainer. Every row is a process of its own; the first lines of its log, in which
blocks are compiled and memory is taken, do not count.

Run: python -m benchmarks.train_speed                (one GPU)
     python -m benchmarks.train_speed --gpus 2       (scaling; needs as many GPUs)
     python -m benchmarks.train_speed --quick        (a tiny model, on anything: the path only)
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.bench import RESULTS, machine, report

WIDTH_PX, HEIGHT_PX = 1216, 928


@dataclass(frozen=True)
class Way:
    """One way to train: settings of `vlm3train sft`, or TRL's trainer with its own collator."""

    about: str
    settings: dict[str, Any] = field(default_factory=dict)
    plain: bool = False
    steps: int = 40
    attention: str = ""
    """Which of torch's kernels is to come first."""


BF16 = {"batch_size": 8, "weights": "bfloat16", "compile": True}
SEVENS = BF16 | {"batch_size": 7, "grad_accum": 4}
"""DDP's copy of the gradients leaves no room for an eighth sample."""
SHARDED = {"batch_size": 8, "compile": True, "shard": "grads"}
WAYS = {
    "plain": Way("SFTTrainer and its collator, bfloat16 weights", {"batch_size": 4, "weights": "bfloat16"}, plain=True),
    "eager": Way("vlm3, not compiled", {"batch_size": 4, "weights": "bfloat16", "compile": False}),
    "bf16": Way("vlm3, bfloat16 weights", BF16),
    "accum": Way("vlm3, bfloat16 weights, 4 batches a step", BF16 | {"grad_accum": 4}, steps=16),
    "accum-7": Way("vlm3, bfloat16 weights, 4 batches of 7 a step", SEVENS, steps=8),
    "cudnn": Way("the same, cuDNN's attention", BF16 | {"grad_accum": 4}, steps=16, attention="CUDNN_ATTENTION"),
    "fp32": Way("vlm3, float32 weights", {"batch_size": 5, "weights": "float32", "compile": True}),
    "recompute": Way(
        "vlm3, float32 weights, gradient checkpointing",
        {"batch_size": 12, "weights": "float32", "compile": True, "gradient_checkpointing": True},
    ),
    "ddp": Way("vlm3, bfloat16 weights, DDP", BF16),
    "ddp-accum": Way("vlm3, bfloat16 weights, DDP, 4 batches of 7 a step", SEVENS, steps=8),
    "fsdp": Way("vlm3, float32 weights, FSDP2", SHARDED),
    "fsdp-accum": Way("the same, 4 batches of 7 a step", SHARDED | {"batch_size": 7, "grad_accum": 4}, steps=8),
}
SPREAD = ("ddp", "fsdp")
ON_ONE = ("plain", "eager", "bf16", "accum", "cudnn", "fp32", "recompute")
ON_SEVERAL = ("bf16", "accum-7", "ddp", "ddp-accum", "fsdp", "fsdp-accum")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, default=1)
    parser.add_argument("--only", help="names of ways, separated by commas")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        train(WAYS[arguments.way], arguments.work, arguments.way, arguments.quick)
        return
    names = (arguments.only or ",".join(ON_ONE if arguments.gpus == 1 else ON_SEVERAL)).split(",")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        prepare(work, arguments.quick)
        rows = [row(name, work, arguments.gpus if name.startswith(SPREAD) else 1, arguments.quick) for name in names]
    rows = [one for one in rows if one]
    note = f"{WIDTH_PX}x{HEIGHT_PX}, ten questions, {gpu()}"
    name = "train_speed_quick" if arguments.quick else f"train_speed_{arguments.gpus}"
    if rows:
        report(name, rows, note)
    (RESULTS / f"{name}.log.json").write_text(json.dumps({"machine": machine(), "rows": rows}) + "\n")


def row(name: str, work: Path, processes: int, quick: bool) -> dict[str, Any] | None:
    """Run one way in processes of its own and return its row; None, with its last lines shown, where it failed."""
    start = [sys.executable, "-m"]
    if processes > 1:
        start += ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    command = [*start, "benchmarks.train_speed", "--way", name, "--work", str(work)] + (["--quick"] if quick else [])
    print(f"{name} on {processes}", flush=True)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=400)
    lines = log_lines(work / name)
    if done.returncode or len(lines) < 3:
        print(f"{name} failed:", done.stdout[-1500:], done.stderr[-3500:], flush=True)
        return None
    late = lines[len(lines) // 2 :]
    result = {"way": WAYS[name].about, "GPUs": processes}
    result |= {key: median(line.get(key, math.nan) for line in late) for key in ("samples_per_s", "mfu")}
    settings = WAYS[name].settings
    result["step s"] = processes * settings["batch_size"] * settings.get("grad_accum", 1) / result["samples_per_s"]
    result |= {"data wait": median(line.get("data_wait", math.nan) for line in late)}
    result |= {"memory GiB": late[-1].get("memory_gib", math.nan), "tokens a sample": late[-1].get("length", math.nan)}
    print(json.dumps(result), flush=True)
    return result


def log_lines(out: Path) -> list[dict[str, Any]]:
    path = out / "log.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def prepare(work: Path, quick: bool) -> None:
    """Build the shards and write a mixture, a tokenizer and the model's config."""
    from vlm3data.build import BuildConfig, build
    from vlm3data.shards import read_samples
    from vlm3train.tiny import NANO, example_texts, write_tiny_model

    width, height = (96, 64) if quick else (WIDTH_PX, HEIGHT_PX)
    # So that the unified picture is a hair larger, and is cropped to the size that is asked for.
    hfov_deg = 2 * math.degrees(math.atan(width / 2 / 999.5)) if not quick else 60.0
    values = {
        "source": "synthetic",
        "root": "",
        "limit": 16 if quick else 256,
        "shard_size": 16,
        "focal_px": 84.0 if quick else 1000.0,
        "options": {
            "domains": ["room"], "views": 1, "size_jitter": 0.0, "hfov_deg": [hfov_deg, hfov_deg],
            "width_px": width, "height_px": height,
        },
    }  # fmt: skip
    build(BuildConfig.check(values, "train_speed"), str(work / "shards"))
    mixture = f"seed: 1\ndatasets:\n  room: {{shards: {work / 'shards'}, pixels: 10, weight: 1}}\n"
    (work / "mixture.yaml").write_text(mixture)
    questions = [
        question for sample in islice(read_samples(str(work / "shards")), 200) for question in sample.questions
    ]
    texts = [text for question in questions for text in (question.question, question.answer)]
    write_tiny_model(work / "start", NANO, [*example_texts(), *texts], seed=0)


def model_of_4b(start: Path, dtype: str) -> Any:
    """Return a model of Qwen3-VL-4B's shape with random weights, on the GPU; its special tokens are those of `start`.

    Sizes: config.json of Qwen/Qwen3-VL-4B-Instruct.
    """
    import torch
    from transformers import AutoConfig, Qwen3VLForConditionalGeneration

    config: Any = AutoConfig.from_pretrained(start)
    text, vision = config.text_config, config.vision_config
    text.hidden_size, text.num_hidden_layers, text.intermediate_size, text.vocab_size = 2560, 36, 9728, 151936
    text.num_attention_heads, text.num_key_value_heads, text.head_dim = 32, 8, 128
    text.rope_parameters = dict(text.rope_parameters) | {"mrope_section": [24, 20, 20], "rope_theta": 5_000_000.0}
    vision.depth, vision.hidden_size, vision.num_heads, vision.intermediate_size = 24, 1024, 16, 4096
    vision.out_hidden_size, vision.num_position_embeddings, vision.deepstack_visual_indexes = 2560, 2304, [5, 11, 17]
    with torch.device("cuda"):
        previous = torch.get_default_dtype()
        torch.set_default_dtype(getattr(torch, dtype))
        model = Qwen3VLForConditionalGeneration(config)
        torch.set_default_dtype(previous)
    return model.to(getattr(torch, dtype))


def train(way: Way, work: Path, name: str, quick: bool) -> None:
    """Train as `way` says and leave a log in `work`/`name`; runs in a process of its own, or in one of several."""
    import torch

    from vlm3data.mixture import Mixture
    from vlm3train.arguments import arguments
    from vlm3train.models import load_model, load_processor
    from vlm3train.quiet import quieten
    from vlm3train.sft import SftConfig
    from vlm3train.trainer import StreamTrainer

    quieten()
    torch.manual_seed(0)
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    settings = {"model": str(work / "start"), "mixture": str(work / "mixture.yaml"), "out": str(work / name)}
    settings |= {"steps": way.steps, "log_every": max(1, way.steps // 8), "workers": 6, "lr": 1e-6} | way.settings
    if quick:
        settings |= {"steps": 4, "log_every": 1, "workers": 0, "batch_size": 2, "compile": False}
    config = SftConfig.check(settings, "train_speed")
    processor = load_processor(config.model)
    model = load_model(config.model, config.weights) if quick else model_of_4b(work / "start", config.weights)
    Path(config.out).mkdir(parents=True, exist_ok=True)
    mixture = Mixture.load(config.mixture)
    if way.plain:
        from benchmarks.plain_sft import plain_trainer

        plain_trainer(model, processor, mixture, config).train()
        return
    trainer = StreamTrainer(model, processor, mixture, arguments(config), 0, bool(config.compile))
    with prefer(way.attention):
        trainer.train()
    if trainer.is_world_process_zero():
        lines = log_lines(work / name)
        lines[-1]["length"] = lines[-1]["tokens"] / lines[-1]["samples"]
        (work / name / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def prefer(kernel: str) -> contextlib.AbstractContextManager[None]:
    """Let attention be computed by torch's kernel of this name where it can."""
    if not kernel:
        return contextlib.nullcontext()
    from torch.nn.attention import SDPBackend, sdpa_kernel

    order = [getattr(SDPBackend, name) for name in (kernel, "FLASH_ATTENTION", "EFFICIENT_ATTENTION", "MATH")]
    return sdpa_kernel(order, set_priority=True)


def gpu() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"


if __name__ == "__main__":
    main()
