"""The claims' runs go the product's own way, are not repeated, and end in tables that say what the numbers say."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from benchmarks.claims.__main__ import PARTS, run_part
from benchmarks.claims.claims import CLAIMS, arms
from benchmarks.claims.mixtures import SEARCHES
from benchmarks.claims.report import BEGIN, END, write
from benchmarks.claims.run import Run, Scoring
from benchmarks.claims.runner import Job, Lab, finished
from benchmarks.claims.tables import claim_table, scored, task_table, verdict
from vlm3train.tiny import size_named


def result(arm: str, seed: int, score: float, task: str = "depth", other: float = 0.2) -> dict[str, Any]:
    row = {"dataset": "shards/court-test-9", "task": task, "scores": {"delta1": score}}
    row |= {"swapped_images": {"delta1": other}, "location": {"delta1": 0.25}, "median": {"delta1": 0.2}}
    return {"run": f"{arm}-{seed}", "arm": arm, "seed": seed, "steps": 2, "samples": 512, "rows": [row]}


def test_every_arm_of_every_claim_is_run_by_some_part() -> None:
    from benchmarks.claims.mixtures import COMPARED

    known = set(arms()) | set(COMPARED)
    assert {arm for claim in CLAIMS for arm in claim.arms} <= known
    run = [arm for part in PARTS.values() for arm in part]
    assert set(arms()) | {"main"} == set(run)
    assert len(run) == len(set(run))


def test_datasets_of_one_name_are_built_alike() -> None:
    configs: dict[str, Any] = {}
    for arm in arms().values():
        for one in arm.needs():
            assert configs.setdefault(one.name, one.build_config()) == one.build_config()
            assert one.split == ("train" if one in arm.train else "test")


def test_one_question_longer_takes_the_arithmetic_of_ten(tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoTokenizer

    from benchmarks.claims.claims import LONGER
    from benchmarks.claims.start import untrained
    from vlm3data.types import Sample
    from vlm3train.conversation import training_messages
    from vlm3train.flops import Arithmetic

    folder = untrained(tmp_path, "tiny", 0)
    tokenizer, config = AutoTokenizer.from_pretrained(folder), AutoConfig.from_pretrained(folder)
    size = size_named("mini")
    config.text_config.update({"hidden_size": size.hidden, "num_hidden_layers": size.layers, "head_dim": 64})
    config.text_config.update({"num_attention_heads": size.heads, "num_key_value_heads": size.heads})
    config.text_config.intermediate_size = size.intermediate
    config.vision_config.update({"depth": size.vision_depth, "hidden_size": size.vision_hidden})
    config.vision_config.update({"intermediate_size": size.vision_intermediate, "out_hidden_size": size.hidden})
    question = {"task": "depth", "question": "Depth at (1023, 755)?", "answer": "12.34 m", "truth": {}}
    tokens = []
    for count in (10, 1):
        messages = training_messages(Sample.of({"key": "k", "questions": [question] * count}, (b"",)))
        text = tokenizer.apply_chat_template(messages, tokenize=False)
        tokens.append(len(tokenizer(text).input_ids) - 1 + 48)
    ten, one = (Arithmetic(config).training_step([length], [(12, 16)]) for length in tokens)
    assert ten / one == pytest.approx(LONGER, rel=0.03)


def test_a_verdict_follows_from_the_spread_of_the_seeds() -> None:
    runs = [result("a", seed, 0.6 + 0.01 * seed) for seed in range(3)]
    runs += [result("b", seed, 0.5 + 0.02 * seed) for seed in range(3)]
    runs += [result("c", 0, 0.1)]
    a, b, c = (scored(runs, arm) for arm in "abc")
    assert a is not None
    assert b is not None
    assert c is not None
    assert a.mean == pytest.approx(0.61)
    assert b.spread == pytest.approx(0.04)
    assert "+0.090, **larger** than the spread of the seeds (0.040)" in verdict(a, b)
    assert "-0.090, **larger**" in verdict(b, a)
    assert "one seed" in verdict(a, c)
    close = [result("d", seed, 0.6 + 0.05 * seed) for seed in range(2)]
    d = scored(close, "d")
    assert d is not None
    assert "+0.015, **not larger**" in verdict(d, a)


def test_a_page_has_the_tables_and_says_what_is_missing(tmp_path: Path) -> None:
    page = tmp_path / "claims.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    runs = [result(arm, seed, 0.5) for arm in ("unified", "not-unified") for seed in range(2)]
    write(page, runs)
    text = page.read_text()
    assert text.startswith(f"before\n{BEGIN}\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "old" not in text
    assert "| unified | 2 | 512 | **0.500** | 0.500 to 0.500 | 0.200 | 0.250 |" in text
    assert "unified against not-unified: +0.000, **not larger**" in text
    assert "Not run yet: text, marker." in text
    assert (tmp_path / "claims.png").stat().st_size > 5000
    again = page.read_bytes()
    write(page, runs)
    assert page.read_bytes() == again


def test_the_longest_run_has_a_row_a_domain_and_its_gpu_minutes(tmp_path: Path) -> None:
    page = tmp_path / "claims.md"
    page.write_text(f"{BEGIN}{END}")
    run = result("every", 0, 0.7) | {"train_s": 300.0, "gpus_used": 2, "settings": {"lr": 1e-3}}
    run["log"] = [{"samples": n, "loss": 2.0 - n, "token_accuracy": 0.1} for n in range(2)]
    other = run["rows"][0] | {"dataset": "shards/room-test-9", "scores": {"delta1": 0.5}}
    other["intervals"] = {"model": {"delta1": [0.45, 0.55]}}
    run["rows"].append(other)
    write(page, [run])
    text = page.read_text()
    assert "**every**: 2 steps, 512 samples, 10.0 GPU-minutes" in text
    assert "| court | 0.200 | 0.250 | 0.200 | **0.700** | - |" in text
    assert "| room | 0.200 | 0.250 | 0.200 | **0.500** | 0.450 to 0.550 |" in text
    assert "| mean | 0.200 | 0.250 | 0.200 | 0.600 | |" in text


def test_an_arm_that_is_favoured_but_missing_has_no_verdict() -> None:
    assert not any("against" in line for line in claim_table(CLAIMS[1], [result("marker", 0, 0.4)]))


def test_tasks_are_compared_one_by_one() -> None:
    runs = [result("all-tasks", seed, 0.3) for seed in range(2)] + [
        result("only-depth", seed, 0.4) for seed in range(2)
    ]
    lines = task_table(runs)
    assert "| depth | delta1 | **0.300** | **0.400** | 0.200 | 0.200 | 0.200 |" in lines
    assert "depth: all-tasks against only-depth: -0.100, **larger** than the spread of the seeds (0.000)." in lines
    assert "Not run yet: pose, together or alone." in lines


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Commands run in this process: importing torch a second time costs more than all of them."""
    from vlm3data.command import run_app
    from vlm3train.cli import app

    called: list[str] = []

    def call(self: Lab, command: Sequence[str], gpu: int | None, log: Path, *, later_s: float = 0.0) -> None:
        called.append(command[3])
        assert command[:3] == [sys.executable, "-m", "vlm3train.cli"]
        assert not run_app(app, command[3:])

    monkeypatch.setattr(Lab, "call", call)
    return called


def test_two_arms_are_built_trained_and_scored_once(
    tmp_path: Path, in_process: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0})  # no processes for a handful of images
    two = ("marker", "one-pixel")
    lab = Lab(tmp_path / "work", tmp_path / "out", minutes=5, per_gpu=1)
    run_part(lab, "pixels", two, range(1), 2, [], quick=True)
    assert in_process == ["sft", "eval"] * 2
    kept = finished([tmp_path / "out"])
    assert [one["run"] for one in kept] == ["marker-0", "one-pixel-0"]
    for one in kept:
        (row,) = one["rows"]
        assert row["task"] == "depth"
        assert set(row["scores"]) == {"delta1"}
        assert row["location"] is not None
        assert one["steps"] == 2
        json.dumps(one)
    run_part(lab, "pixels", two, range(1), 2, kept, quick=True)
    assert len(in_process) == 4


def test_the_longest_run_fills_its_time_at_the_speed_that_it_has_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks.claims.sweep import MARGIN, PILOT_STEPS, SCORING_S, START_S, timed

    def call(self: Lab, command: Sequence[str], gpu: int | None, log: Path, *, later_s: float = 0.0) -> None:
        settings = yaml.safe_load(Path(command[4]).read_text())
        assert settings["steps"] == PILOT_STEPS
        out = Path(settings["out"])
        out.mkdir()
        lines = [{"step": n, "samples_per_s": speed} for n, speed in enumerate((20, 30, 1000, 900, 1100))]
        (out / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    monkeypatch.setattr(Lab, "call", call)
    lab = Lab(tmp_path / "work", tmp_path / "out", minutes=10, per_gpu=1)
    arm = replace(arms(0.001)["unified"], size="tiny")
    (run,) = timed(lab, [Run(arm, 0, 2, Scoring(reserve_s=SCORING_S))])
    seconds = run.steps * arm.sft()["batch_size"] / (MARGIN * 1000)
    assert seconds + START_S + SCORING_S == pytest.approx(600, abs=5)
    assert run.scoring.reserve_s == SCORING_S


def test_a_search_finds_the_tuned_mixture_that_is_then_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks.claims import __main__ as parts
    from vlm3data.mixture_spec import MixtureSpec
    from vlm3train.study_spec import StudySpec

    asked: list[StudySpec] = []

    def study(self: Lab, command: Sequence[str], gpu: int | None, log: Path, *, later_s: float = 0.0) -> None:
        """Score every mixture by its share of `hall`."""
        spec, out = StudySpec.load(command[4]), Path(command[6])
        asked.append(spec)
        drawn = spec.drawn.runs if spec.drawn else 0
        rng = np.random.default_rng(spec.drawn.seed if spec.drawn else 0)
        files = {name: MixtureSpec.load(path) for name, path in spec.mixtures.items()}
        shares = {f"drawn-{n:03d}": rng.dirichlet(np.ones(4)) for n in range(drawn)}
        shares |= {name: np.array([entry.weight for entry in file.datasets.values()]) for name, file in files.items()}
        rows = []
        for name, given in shares.items():
            folder = out / "runs" / f"{name}-{spec.steps[0]}-steps"
            folder.mkdir(parents=True)
            score = float((given / given.sum())[1])
            (folder / "eval.json").write_text(json.dumps({"rows": result("x", 0, score)["rows"]}))
            about = {"run": folder.name, "mixture": name, "steps": spec.steps[0], "samples": 4, "score": score}
            rows.append(about | {"shares": dict(zip(("court", "hall", "room", "yard"), given.tolist(), strict=True))})
        (out / "study.json").write_text(json.dumps({"runs": rows}))

    monkeypatch.setattr(Lab, "call", study)
    monkeypatch.setattr("benchmarks.claims.mixtures.untrained", lambda work, size, seed: work / f"{size}-{seed}")
    monkeypatch.setattr(parts, "_build", lambda lab, pictures: None)
    lab = Lab(tmp_path / "work", tmp_path / "out", minutes=5, per_gpu=1)
    new = run_part(lab, "mixtures", (), range(2), 2, [], quick=True)
    assert [one["arm"] for one in new].count("drawn") == SEARCHES
    assert len({one["run"] for one in new}) == len(new) == SEARCHES + 6
    assert [name for spec in asked[SEARCHES:] for name in spec.mixtures] == ["uniform", "by-size", "tuned"] * 2
    tuned = next(one for one in new if one["arm"] == "tuned")
    assert max(tuned["shares"], key=tuned["shares"].get) == "hall"
    assert run_part(lab, "mixtures", (), range(2), 2, finished([tmp_path / "out"]), quick=True) == []


def test_what_cannot_end_in_time_does_not_begin(tmp_path: Path) -> None:
    begun: list[str] = []

    class Slow(Job):
        kind = "slow"

        def __init__(self, name: str) -> None:
            self.name = name

        def prepare(self, lab: Lab) -> None: ...

        def work(self, lab: Lab, folder: Path, gpu: int) -> list[dict[str, Any]]:
            begun.append(self.name)
            lab.began -= 1000
            lab.deadline -= 1000
            return []

    lab = Lab(tmp_path, tmp_path / "out", minutes=10, per_gpu=1)
    lab.took_s["slow"] = 50.0
    lab.do([Slow("a"), Slow("b")])
    assert begun == ["a"]
    with pytest.raises(TimeoutError):
        lab.call([sys.executable, "-c", "pass"], 0, tmp_path / "log.txt", later_s=45)


def test_a_run_that_is_stopped_is_scored_by_its_newest_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored_models: list[str] = []

    def call(self: Lab, command: Sequence[str], gpu: int | None, log: Path, *, later_s: float = 0.0) -> None:
        model = log.parent / "model"
        if command[3] == "sft":
            assert later_s == -60
            for step in (90, 100):
                (model / f"checkpoint-{step}").mkdir(parents=True)
            line = {"step": 105, "samples": 420, "loss": 1.0, "datasets": {}}
            (model / "log.jsonl").write_text(json.dumps(line) + "\n")
            raise TimeoutError
        scored_models.append(Path(command[command.index("--model") + 1]).name)
        Path(command[command.index("--json") + 1]).write_text(json.dumps({"rows": result("x", 0, 0.5)["rows"]}))

    monkeypatch.setattr(Lab, "call", call)
    arm = replace(arms(0.001)["ten-pixels"], size="tiny")
    lab = Lab(tmp_path / "work", tmp_path / "out", minutes=5, per_gpu=1)
    (one,) = lab.do([Run(arm, 0, 120, Scoring(reserve_s=60))])
    assert scored_models == ["checkpoint-100"]
    assert (one["steps"], one["samples"], one["steps_planned"]) == (100, 400, 120)
    assert one["log"] == [{"step": 105, "samples": 420, "loss": 1.0}]
