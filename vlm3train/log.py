"""What a run says while it runs: a bar, a line per log step, the same numbers in a file and to other loggers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback

from vlm3data.mixture import Mixture
from vlm3data.skips import Skip
from vlm3train.data import Layout
from vlm3train.ledger import Account

LOG_FILE = "log.jsonl"
SKIPPED_FILE = "skipped.jsonl"


class Log(TrainerCallback):
    """Writes the run's log; before each line the trainer sets `accounts` and `speed`, of the steps since the last."""

    def __init__(self, path: Path, mixture: Mixture, layout: Layout) -> None:
        self.path, self.samples_per_step, self.is_main = path, layout.per_step, layout.rank == 0
        self.accounts: dict[str, Account] = {}
        self.speed: dict[str, float] = {}
        self._parts = [part.dataset.name if part.dataset is not None else part.name for part in mixture.parts]
        self._schedule, self._course = mixture.schedule(), mixture.course
        self._skipped: Counter[str] = Counter()
        self._tokens = 0
        columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        console = Console(stderr=True)
        self.bar = Progress(
            *columns, console=console, transient=True, disable=not self.is_main or not console.is_terminal
        )

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the bar, and go on from the last line that still holds."""
        state.compute_steps(args, state.max_steps)  # a checkpoint brings along how often its own run saved and logged
        # No other process reads it, for it may be half written then.
        if self.is_main and self.path.exists():
            # A run that was killed may have left half a line at the end.
            whole = [
                text for text in self.path.read_text(encoding="utf-8").splitlines(keepends=True) if text[-1] == "\n"
            ]
            kept = [line for line in map(json.loads, whole) if line["step"] <= state.global_step]
            if kept:
                self._skipped.update(kept[-1].get("skipped", {}))
                self._tokens = kept[-1].get("tokens", 0)
            self.path.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        self._task = self.bar.add_task("training", total=state.max_steps, completed=state.global_step)
        self.bar.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Move the bar; see to a line at each checkpoint, or one resumed from it would miss counts, and at the end."""
        self.bar.update(self._task, completed=state.global_step)
        saves = args.save_strategy == "steps" and state.global_step % state.save_steps == 0
        if saves or state.global_step == state.max_steps:
            control.should_log = True

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Print and keep what the steps since the last line brought; `logs` is completed for the loggers behind."""
        if not logs or "loss" not in logs:
            return
        line = self._line(state.global_step, logs)
        for name, value in line.items():
            if isinstance(value, float):
                logs[name] = value
        for dataset, row in line["datasets"].items():
            logs |= {f"{name}/{dataset}": value for name, value in row.items()}
        if not self.is_main:
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self._print(line, state.max_steps)

    def list_skips(self, skips: Sequence[Skip]) -> None:
        """Append damaged samples to a file beside the log, to which all ranks write.

        A line is one write at the file's end, which the system does not mix with another's. A run that is resumed
        may list a position again: it really was drawn twice.
        """
        with self.path.with_name(SKIPPED_FILE).open("ab", buffering=0) as file:
            for skip in skips:
                file.write(json.dumps(skip._asdict()).encode() + b"\n")
        if self.is_main:
            for skip in skips:
                self._say(
                    f"{skip.dataset}: sample {skip.key} at byte {skip.offset} of {skip.shard} is damaged; "
                    f"{skip.replaced_by} stands in"
                )

    def _line(self, step: int, logs: dict[str, float]) -> dict[str, Any]:
        """Return a line of the log: what holds for the run, and under `datasets` for each."""
        accounts, seconds = self.accounts, self.speed["seconds"]
        answers = sum(account.answer_tokens for account in accounts.values())
        right = sum(account.right * account.answer_tokens for account in accounts.values() if account.answer_tokens)
        tokens = sum(account.tokens for account in accounts.values())
        self._tokens += tokens
        self._skipped.update({name: account.skipped for name, account in accounts.items() if account.skipped})
        samples = step * self.samples_per_step
        line: dict[str, Any] = {
            "step": step,
            "samples": samples,
            "tokens": self._tokens,
            "loss": logs["loss"],
            "token_accuracy": right / max(answers, 1),
            "grad_norm": logs.get("grad_norm"),
            "lr": logs["learning_rate"],
            "samples_per_s": round(sum(account.samples for account in accounts.values()) / seconds, 2),
            "tokens_per_s": round(tokens / seconds, 1),
            "data_wait": round(self.speed["data_wait"], 4),
        }
        line |= {name: round(self.speed[name], 4) for name in ("mfu", "memory_gib") if name in self.speed}
        line["datasets"] = self._datasets(samples)
        if self._skipped:
            line["skipped"] = dict(sorted(self._skipped.items()))
        return line

    def _datasets(self, samples: int) -> dict[str, dict[str, float | None]]:
        """Return what each dataset was drawn and planned so far, and brought since the last line."""
        drawn, planned = Counter[str](), Counter[str]()
        for name, count, ideal in zip(
            self._parts, self._schedule.counts(samples).tolist(), self._course.drawn(samples).tolist(), strict=True
        ):
            drawn[name] += count
            planned[name] += ideal
        return {
            name: {
                "drawn": drawn[name],
                "planned": round(planned[name], 1),
                "samples": account.samples,
                "tokens": account.tokens,
                "answer_tokens": account.answer_tokens,
                "loss": account.loss if account.answer_tokens else None,
                "token_accuracy": account.right if account.answer_tokens else None,
            }
            for name, account in self.accounts.items()
        }

    def _print(self, line: dict[str, Any], steps: int) -> None:
        shown = [
            f"step {line['step']:>6}/{steps}  loss {line['loss']:.4f}",
            f"answer tokens right {line['token_accuracy']:.3f}",
            *([f"gradient {line['grad_norm']:.3g}"] if line["grad_norm"] is not None else []),
            f"lr {line['lr']:.2e}",
            f"{line['samples_per_s']:.1f} samples/s",
            *([f"MFU {line['mfu']:.2f}"] if "mfu" in line else []),
            f"waited for data {line['data_wait']:.1%}",
        ]
        self._say("  ".join(shown))

    def _say(self, text: str) -> None:
        self.bar.console.print(text, highlight=False, soft_wrap=True)
