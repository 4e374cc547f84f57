"""The command `vlm3train`. Nothing heavy is imported until a command runs, so that help is instant."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from vlm3data import __version__
from vlm3data.command import Place, UsageError, run_app
from vlm3train.cli_eval import evaluate
from vlm3train.cli_predict import predict

app = App(
    name="vlm3train",
    version=__version__,
    help="Train a Qwen3-VL on a mixture of shards, and score it beside what could be guessed without looking.",
)
app.register_install_completion_command()

app.command(evaluate, name="eval")
app.command(predict)

Flag = Annotated[bool, Parameter(negative=())]
MANY_TEXTS = 2000


@app.command
def init_tiny(*, out: Place, shards: tuple[str, ...] = (), size: str = "tiny", seed: int = 0) -> None:
    """Write a small Qwen3-VL with random weights and a tokenizer of its own; nothing is downloaded.

    Example: vlm3train init-tiny --out out/tiny --shards out/train

    Parameters
    ----------
    out
        Directory to write.
    shards
        Datasets whose questions the tokenizer learns from; by default it learns from made-up ones.
    size
        tiny (learns on a CPU in minutes), mini, mini-smooth or small (these want a GPU).
    seed
        Of the weights.
    """
    from vlm3train.quiet import quieten

    quieten()
    from vlm3data.flags import from_flags
    from vlm3train.tiny import example_texts, size_named, write_tiny_model

    with from_flags():
        preset = size_named(size)
    if not 0 <= seed < 1 << 32:
        raise UsageError("--seed must be from 0 to 2^32 - 1")
    if (Path(out) / "config.json").exists():
        raise UsageError(f"{out} already holds a model; choose another --out")
    texts = list(example_texts())
    for url in shards:
        texts += _texts(url)
    parameters = write_tiny_model(Path(out), preset, texts, seed)
    print(f"{out}: a {size} Qwen3-VL with {parameters / 1e6:.1f} M random parameters")


@app.command
def sft(
    config: str | None = None,
    *,
    model: str | None = None,
    mixture: str | None = None,
    out: str | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    grad_accum: int | None = None,
    lr: float | None = None,
    warmup_ratio: float | None = None,
    schedule: Literal["cosine", "linear", "constant_with_warmup"] | None = None,
    max_grad_norm: float | None = None,
    weight_decay: float | None = None,
    beta2: float | None = None,
    seed: int | None = None,
    bf16: bool | None = None,
    weights: Literal["float32", "bfloat16"] | None = None,
    compile: bool | None = None,
    shard: Literal["full", "grads"] | None = None,
    gradient_checkpointing: bool | None = None,
    freeze: tuple[Literal["vision", "projector", "language"], ...] | None = None,
    lora_rank: int | None = None,
    image_resize: Literal["refuse", "processor"] | None = None,
    report_to: tuple[str, ...] | None = None,
    workers: int | None = None,
    save_every: int | None = None,
    log_every: int | None = None,
    resume: Flag | None = None,
    allow_changed_data: Flag | None = None,
) -> None:
    """Fine-tune a vision-language model on a mixture of shards, with loss on the answers alone.

    What the YAML file CONFIG sets, a flag of the same name overrides. Several GPUs: start it with
    `torchrun --nproc-per-node N -m vlm3train.cli sft ...`; the order of the samples stays the same.

    Example: vlm3train sft --model out/tiny --mixture mixtures/demo.yaml --out out/run --steps 600

    Parameters
    ----------
    config
        YAML file with any of the settings below, or the name of one that comes along: depth_paper, depth_one_gpu, and
        the same for object, correspondence and pose.
    model
        Directory or hub name of a model that takes images and text.
    mixture
        The mixture's YAML file.
    out
        Directory for checkpoints, the log and the final model.
    steps
        Optimizer steps; warm-up and schedule are fitted to it.
    batch_size
        Samples per process and forward pass (default 4).
    grad_accum
        Forward passes per optimizer step (default 1).
    lr
        Peak learning rate (default 5.5e-5, the paper's for depth).
    warmup_ratio
        Part of the steps with a rising learning rate (default 0.1).
    schedule
        What the learning rate does after the warm-up (default cosine).
    max_grad_norm
        Gradients are clipped to this norm (default 0.02, the paper's; 0: not at all).
    weight_decay
        Of AdamW (default 0).
    beta2
        AdamW's memory of squared gradients (default 0.999).
    seed
        Of the trainer (default 0); the order of the data has its own, in the mixture.
    bf16
        Compute in bfloat16; by default where the device can.
    weights
        What weights and optimizer are kept in (default float32).
    compile
        Compile the model's blocks; by default on a GPU, for 200 steps or more.
    shard
        With several processes, spread weights and optimizer over them (FSDP2): full, or grads, which is faster.
    gradient_checkpointing
        Recompute activations instead of keeping them: slower, less memory.
    freeze
        A part of the model that is not trained; may be given several times.
    lora_rank
        Train adapters of this rank in place of the language model's weights; what else CONFIG's `lora` says holds.
    image_resize
        An image that the model's processor would resize: refuse it (default), or train on what it makes of it.
    report_to
        Also log to tensorboard, wandb or trackio; may be given several times.
    workers
        Processes per rank that read, decode and tokenise (default 2).
    save_every
        Steps between checkpoints (default 0: the final model only).
    log_every
        Steps between lines of log (default 10).
    resume
        Go on from the newest checkpoint in --out, exactly as if never stopped.
    allow_changed_data
        Resume although the mixture or its shards changed meanwhile; --out/run.json keeps what changed.
    """
    given = {name: value for name, value in locals().items() if name != "config" and value is not None}
    from vlm3data.flags import from_flags
    from vlm3train.configs import read_config
    from vlm3train.sft import SftConfig, train

    values = (read_config(config) if config else None) or {}
    if lora_rank is not None:
        lora = values.get("lora") if isinstance(values, dict) else None
        given["lora"] = (lora if isinstance(lora, dict) else {}) | {"rank": given.pop("lora_rank")}
    with from_flags(given if config else None):
        settings = SftConfig.check(values | given if isinstance(values, dict) else values, config or "vlm3train sft")

    from vlm3train.quiet import quieten

    quieten()
    if train(settings):
        print(f"the model after {settings.steps} steps is in {settings.out}")


@app.command
def study(
    spec: str, *, out: Place, launcher: str = "", plot: Flag = False, fit: Flag = False, json: Flag = False
) -> None:
    """Train and score one run per mixture, with all else equal, and put them side by side.

    The file SPEC names models, budgets, mixtures (or how to draw them) and what to score on; docs/studies.md has
    an example. Runs that are done are not repeated; a study that was stopped goes on.

    Example: vlm3train study studies/weights.yaml --out out/study --plot --fit

    Parameters
    ----------
    spec
        The study's YAML file.
    out
        Directory for the runs, study.json, study.png and proposed.yaml.
    launcher
        Starts each training instead of this Python, for instance "torchrun --nproc-per-node 4".
    plot
        Write study.png.
    fit
        Fit the score as a function of the shares, and write the mixture it likes best to proposed.yaml.
    json
        Print the rows as JSON.
    """
    from vlm3data.command import print_json
    from vlm3train.study import study as run_study
    from vlm3train.study_report import plot_study, print_study
    from vlm3train.study_spec import StudySpec

    checked = StudySpec.load(spec)
    rows = run_study(checked, Path(out), launcher, tell=lambda line: print(line, file=sys.stderr, flush=True))
    if plot:
        plot_study(rows, checked.evaluate.metric, Path(out) / "study.png")
    if json:
        print_json(rows)
    else:
        print_study(rows, checked.evaluate.metric)
    if fit:
        _propose(checked, rows, Path(out))


def _propose(spec: Any, rows: list[dict[str, Any]], out: Path) -> None:
    """Fit the largest budget's runs of the first model, print the proposal and write it as a mixture."""
    import yaml

    from vlm3train.regression import propose
    from vlm3train.study_spec import reweighted

    fitted = [row for row in rows if row["steps"] == max(spec.steps) and row["model"] == spec.models[0]]
    proposal = propose(fitted)
    beneath = spec.drawn or spec.grid
    base = beneath.mixture if beneath else next(iter(spec.mixtures.values()))
    weights = {name: round(share, 6) for name, share in proposal.shares.items()}
    (out / "proposed.yaml").write_text(yaml.safe_dump(reweighted(base, weights), sort_keys=False))
    shares = ", ".join(f"{name} {share:.3f}" for name, share in proposal.shares.items())
    print(
        f"proposed from {proposal.runs} runs: {shares}; predicted {proposal.score:.3f} +- {proposal.sigma:.3f}, "
        f"best run {proposal.best_run} {proposal.best_run_score:.3f}; a left-out run's score and its prediction "
        f"correlate by {proposal.left_out_correlation:.2f}; wrote {out / 'proposed.yaml'}"
    )


def main() -> None:
    """Run the command line of this process."""
    sys.exit(run_app(app))


def _texts(url: str) -> list[str]:
    """Return questions and answers of the first samples of a dataset."""
    from itertools import islice

    from vlm3data.shards import read_samples

    questions = [question for sample in islice(read_samples(url), 200) for question in sample.questions]
    return [text for question in questions[:MANY_TEXTS] for text in (question.question, question.answer)]


if __name__ == "__main__":
    main()
