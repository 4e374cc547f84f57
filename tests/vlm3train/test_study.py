"""Studies: what is run, that nothing is run twice, and that a fit finds the mixture that is best."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import yaml

import vlm3train.sft
import vlm3train.study
from vlm3data.build import BuildConfig, build
from vlm3data.command import run_app
from vlm3data.mixture import Mixture
from vlm3data.types import UserError
from vlm3train.cli import app
from vlm3train.regression import _foretold, _left_out, propose
from vlm3train.sft import SftConfig
from vlm3train.study import shares_of, study
from vlm3train.study_report import plot_study, print_study
from vlm3train.study_spec import StudySpec, mixtures_of, reweighted, runs_of


@pytest.fixture
def planned(tmp_path: Path) -> Path:
    path = tmp_path / "base.yaml"
    path.write_text(
        "seed: 3\nsamples: 1000\ndatasets:\n  a: {size: 50, weight: 1}\n  b: {size: 50, weight: 1}\n"
        "  wild: {weight: 2, datasets: {c: {size: 9, weight: 1}, d: {size: 9, weight: 3}}}\n"
    )
    return path


def spec(**values: object) -> StudySpec:
    about = {"models": ["m"], "steps": [10], "evaluate": {"shards": ["s"]}} | values
    return StudySpec.check(about, "study.yaml")


def test_runs_are_the_product_of_mixtures_budgets_and_models(planned):
    study_spec = spec(
        models=["out/tiny", "out/small"], steps=[10, 20], mixtures={"even": str(planned)},
        grid={"mixture": str(planned), "weights": {"a": [1, 2], "wild/c": [0, 5]}},
    )  # fmt: skip
    runs = runs_of(study_spec)
    assert len(runs) == 5 * 2 * 2
    assert len({run.name for run in runs}) == len({run.digest for run in runs}) == 20
    assert runs[0].name == "even-10-steps-tiny"
    assert all("/" not in run.name for run in runs)
    assert [run.name for run in runs_of(spec(mixtures={"even": str(planned)}))] == ["even-10-steps"]


def test_a_file_that_changed_makes_another_run(planned):
    before = runs_of(spec(mixtures={"even": str(planned)}))[0].digest
    planned.write_text(planned.read_text().replace("weight: 2", "weight: 5"))
    assert runs_of(spec(mixtures={"even": str(planned)}))[0].digest != before


def test_each_run_is_told_its_own_model_mixture_and_budget(planned, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(vlm3train.study, "_call", lambda command, log: told.append(list(command)))
    train = {"lr": 1e-3, "seed": 4}
    study_spec = spec(models=["out/tiny", "out/small"], steps=[10, 20], mixtures={"even": str(planned)}, train=train)
    for run in runs_of(study_spec):
        (tmp_path / run.name).mkdir()
        vlm3train.study._train(run, study_spec, tmp_path / run.name, "")
        flags = dict(zip(told[-1][-8::2], told[-1][-7::2], strict=True))
        assert (flags["--model"], flags["--steps"]) == (run.model, str(run.steps))
        assert flags["--mixture"] == str(tmp_path / run.name / "mixture.yaml")
        assert yaml.safe_load(Path(told[-1][-9]).read_text()) == train
    assert len(told) == 4


def checkpoint(folder: Path, *, whole: bool) -> None:
    folder.mkdir(parents=True)
    for name in ("optimizer.pt", "scheduler.pt") if whole else ("model.safetensors",):
        (folder / name).touch()
    (folder / "trainer_state.json").write_text("{}" if whole else '{"half":')


@pytest.mark.parametrize(
    ("left", "goes_on_from"),
    [
        ({}, None),
        ({"checkpoint-3": False}, None),
        ({"checkpoint-3": True, "checkpoint-6": False, "checkpoint-5-aside": True}, 3),
        ({"checkpoint-9": True, "checkpoint-10": True}, 10),
    ],
    ids=["nothing", "half a checkpoint", "a whole one, half of one, and one put aside", "two"],
)
def test_a_run_that_was_killed_goes_on_or_begins_anew_as_what_it_left_allows(
    planned, tmp_path, monkeypatch, left, goes_on_from
):
    told = []
    monkeypatch.setattr(vlm3train.study, "_call", lambda command, log: told.append(list(command)))
    for name, whole in left.items():
        checkpoint(tmp_path / "model" / name, whole=whole)
    (run,) = runs_of(spec(steps=[20], mixtures={"even": str(planned)}))
    vlm3train.study._train(run, spec(mixtures={"even": str(planned)}), tmp_path, "")
    resumes = "--resume" in told[0]
    config = SftConfig(model="m", mixture=str(planned), out=str(tmp_path / "model"), steps=20, resume=resumes)
    found = vlm3train.sft._checkpoint(config, tmp_path / "model")  # refuses nothing that the study asks for
    assert found == (tmp_path / "model" / f"checkpoint-{goes_on_from}" if goes_on_from else None)


def test_new_weights_hold_for_the_whole_run_whatever_stages_the_file_has(planned, tmp_path):
    planned.write_text(
        planned.read_text() + "schedule: [{until: 0.5, weights: {a: 9}}, {until: 0.75, weights: {b: 0}}]\n"
    )
    scheduled = shares_of(Mixture.load(planned))
    assert scheduled["a"] > 0.4
    assert shares_of(Mixture.load(planned), 500)["a"] == pytest.approx(9 / 12)
    path = tmp_path / "new.yaml"
    path.write_text(yaml.safe_dump(reweighted(str(planned), {"a": 3, "b": 3, "wild": 4})))
    for samples in (None, 10, 500, 5000):
        assert shares_of(Mixture.load(path), samples) == pytest.approx({"a": 0.3, "b": 0.3, "wild": 0.4})


@pytest.mark.parametrize("metric", ["epe_px", "distance_abs_rel", "rotation_deg"])
def test_a_study_is_not_led_by_an_error(planned, metric):
    with pytest.raises(UserError, match=r"evaluate\.metric.*take a share"):
        spec(mixtures={"even": str(planned)}, evaluate={"shards": ["s"], "metric": metric})


def test_new_weights_reach_into_groups_and_leave_the_rest(planned, tmp_path):
    path = tmp_path / "new.yaml"
    path.write_text(yaml.safe_dump(reweighted(str(planned), {"a": 3, "wild/c": 0})))
    assert shares_of(Mixture.load(path)) == pytest.approx({"a": 3 / 6, "b": 1 / 6, "wild": 2 / 6})
    assert (
        dict(zip([p.name for p in Mixture.load(path).parts], Mixture.load(path).shares(), strict=True))["wild/c"] == 0
    )


def test_drawn_mixtures_depend_on_seed_and_number_alone(planned):
    def drawn(runs: int, seed: int) -> list[dict]:
        return list(mixtures_of(spec(drawn={"mixture": str(planned), "runs": runs, "seed": seed})).values())

    assert drawn(3, 0) == drawn(5, 0)[:3]
    assert drawn(3, 0) != drawn(3, 1)
    shares = [[entry["weight"] for entry in mixture["datasets"].values()] for mixture in drawn(5, 0)]
    assert np.sum(shares, axis=1) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "needs `mixtures`, `drawn` or `grid`"),
        ({"mixtures": {"a": "x"}, "train": {"steps": 3}}, "`train` may not set steps"),
        ({"mixtures": {"a": "x"}, "train": {"batchsize": 3}}, "`train`: batchsize is no setting of `vlm3train sft`"),
        ({"mixtures": {"a": "x"}, "steps": []}, "steps: .*at least 1"),
        ({"mixture": {"a": "x"}}, "mixture: unknown key; known: models, steps, mixtures, drawn, grid"),
    ],
)
def test_a_mistake_in_a_study_is_one_line(values, message):
    with pytest.raises(UserError, match=f"study.yaml: .*{message}"):
        spec(**values)


@pytest.mark.parametrize(("name", "known"), [("e", "a, b, wild"), ("wild/a", "c, d")])
def test_a_weight_of_no_dataset_is_refused(planned, name, known):
    with pytest.raises(UserError, match=rf"base\.yaml: weights: there is no dataset '\w'; known: {known}$"):
        runs_of(spec(grid={"mixture": str(planned), "weights": {name: [1, 2]}}))


# --- the fit


def rows_of(shares: np.ndarray, scores: np.ndarray) -> list[dict]:
    names = [f"d{i}" for i in range(shares.shape[1])]
    return [
        {"run": f"r{i}", "shares": dict(zip(names, share.tolist(), strict=True)), "score": float(score)}
        for i, (share, score) in enumerate(zip(shares, scores, strict=True))
    ]


def test_the_fit_finds_the_best_mixture_of_a_known_score():
    rng = np.random.default_rng(0)
    best = np.array([0.5, 0.3, 0.2])
    shares = rng.dirichlet(np.ones(3), 40)
    scores = 0.9 - ((shares - best) ** 2).sum(axis=1) + rng.normal(0, 0.005, 40)
    rows = rows_of(shares, scores)
    for row in rows[::2]:  # a file may name its datasets in another order
        row["shares"] = dict(reversed(row["shares"].items()))
    proposal = propose(rows)
    assert proposal.runs == 40
    assert (proposal.best_run, proposal.best_run_score) == (f"r{scores.argmax()}", scores.max())
    assert np.abs(np.array([proposal.shares[name] for name in ("d0", "d1", "d2")]) - best).max() < 0.08
    assert sum(proposal.shares.values()) == pytest.approx(1)
    assert proposal.score == pytest.approx(0.9, abs=0.02)
    assert 0.0005 < proposal.sigma < 0.02
    assert proposal.left_out_correlation > 0.95


def test_a_score_with_diminishing_returns_is_understood_from_few_runs():
    """As domains behave that do not help each other: twice as much of one brings as much at any amount of it."""
    rng = np.random.default_rng(5)
    worth = np.array([0.4, 0.3, 0.2, 0.1])
    shares = rng.dirichlet(np.ones(4), 14)
    scores = 0.7 + 0.1 * np.log(shares + 0.02) @ worth + rng.normal(0, 0.005, 14)
    proposal = propose(rows_of(shares, scores))
    assert proposal.left_out_correlation > 0.9
    found = np.array(list(proposal.shares.values()))
    # Where that is greatest, shares are about what their domains are worth: nearer than any single run's.
    assert np.abs(found - worth).max() < min(0.12, np.abs(shares - worth).max(axis=1).min())


def test_a_score_that_does_not_depend_on_the_mixture_is_said_to_be_unpredictable():
    rng = np.random.default_rng(1)
    proposal = propose(rows_of(rng.dirichlet(np.ones(3), 40), rng.normal(0.5, 0.1, 40)))
    assert proposal.left_out_correlation < 0.4
    assert propose(rows_of(rng.dirichlet(np.ones(3), 10), np.full(10, 0.5))).left_out_correlation == 0


def test_a_left_out_run_has_no_say_in_what_is_foretold_for_it():
    """Nor in how: of many ways to fit, some foretell by chance the very runs that they are chosen by."""
    rng = np.random.default_rng(2)
    shares, scores = rng.dirichlet(np.ones(3), 8), rng.normal(0.5, 0.1, 8)
    foretold = _foretold(shares, scores)
    for run in (0, 5):
        changed = np.where(np.arange(8) == run, rng.normal(), scores)
        assert _foretold(shares, changed)[run] == foretold[run]
    assert np.ptp(foretold) > 0


@pytest.mark.parametrize("penalty", [1e-6, 0.1, 100.0])
def test_a_run_is_left_out_as_by_a_fit_without_it(penalty):
    rng = np.random.default_rng(3)
    features, scores = rng.normal(size=(9, 4)), rng.normal(size=9)
    by_hand = []
    for run in range(9):
        others = np.arange(9) != run
        # the intercept is not penalised
        columns = np.hstack([np.ones((8, 1)), features[others]])
        weights = np.linalg.solve(columns.T @ columns + penalty * np.diag([0, 1, 1, 1, 1]), columns.T @ scores[others])
        by_hand.append(scores[run] - weights[0] - features[run] @ weights[1:])
    np.testing.assert_allclose(_left_out(features, scores, penalty), by_hand, rtol=1e-6)


def test_a_fit_needs_enough_runs():
    with pytest.raises(UserError, match="over 3 datasets needs at least 5 runs, there are 4"):
        propose(rows_of(np.eye(4, 3), np.arange(4.0)))
    rows = rows_of(np.eye(5, 3), np.arange(5.0))
    assert propose(rows).runs == 5
    rows[4]["shares"]["d3"] = rows[4]["shares"].pop("d2")
    with pytest.raises(UserError, match="needs runs over the same datasets"):
        propose(rows)


# --- run for real


@pytest.fixture
def each_command_once_for_real(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the first `sft` and the first `eval` be processes, all others run in this one, which has torch already."""
    for_real, seen = vlm3train.study._call, set[str]()

    def call(command: Sequence[str], log: Path) -> None:
        name = command[3]
        if name not in seen:
            seen.add(name)
            for_real(command, log)
            return
        with log.open("w") as file, redirect_stdout(file):
            assert not run_app(app, [*command[3:]])

    monkeypatch.setattr("vlm3train.study._call", call)


def test_a_study_runs_each_mixture_once_and_goes_on_where_it_stopped(
    tmp_path, model_dir, shards, capsys, each_command_once_for_real
):
    other, unseen = tmp_path / "other", tmp_path / "unseen"
    shutil.copytree(shards, unseen)
    options = {"width_px": 96, "height_px": 96, "scenes": 3, "domains": ["yard"]}
    build(BuildConfig(source="synthetic", options=options, focal_px=80, limit=6), str(other), workers=1)
    base = tmp_path / "base.yaml"
    base.write_text(
        f"datasets:\n  here: {{shards: {shards}, weight: 1, pixels: 2}}\n  there: {{shards: {other}, weight: 0}}\n"
    )
    study_spec = spec(
        models=[str(model_dir)], steps=[1], mixtures={"base": str(base)},
        grid={"mixture": str(base), "weights": {"there": [3]}},
        train={"batch_size": 2, "workers": 0},
        evaluate={"shards": [str(unseen)], "train_shards": [str(unseen)], "limit": 1, "questions_per_image": 1,
                  "max_new_tokens": 2},
    )  # fmt: skip
    told: list[str] = []
    rows = study(study_spec, tmp_path / "out", tell=told.append)
    assert [row["shares"] for row in rows] == [{"here": 1, "there": 0}, {"here": 0.25, "there": 0.75}]
    assert [row["samples"] for row in rows] == [2, 2]
    assert all(0 <= row["score"] <= 1 for row in rows)
    assert all(line.endswith("training") for line in told)
    written = json.loads((tmp_path / "out" / "study.json").read_text())
    assert written["runs"] == rows

    marks = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("model.safetensors")}
    assert len(marks) == 2
    (tmp_path / "out" / "runs" / "base-1-steps" / "eval.json").unlink()  # stopped between training and scoring
    told.clear()
    assert study(study_spec, tmp_path / "out", tell=told.append) == rows
    assert [line.rpartition(": ")[2] for line in told] == ["training", "already scored"]
    assert {path: path.stat().st_mtime_ns for path in marks} == marks, "nothing is trained twice"

    print_study(rows, "delta1")
    assert "there=3-1-steps" in capsys.readouterr().out
    plot_study(rows, "delta1", tmp_path / "study.png")
    assert (tmp_path / "study.png").read_bytes()[:4] == b"\x89PNG"

    changed = study_spec.model_copy(update={"train": {"batch_size": 2, "workers": 0, "lr": 1e-3}})
    with pytest.raises(UserError, match="was run with other settings"):
        study(changed, tmp_path / "out")

    shutil.rmtree(unseen)
    shutil.copytree(other, unseen)  # other data at the same place
    with pytest.raises(UserError, match=r"base-1-steps: was scored with other shards than are now in \S+unseen, "):
        study(study_spec, tmp_path / "out")
    shutil.rmtree(other)
    build(BuildConfig(source="synthetic", options=options, focal_px=80, limit=5), str(other), workers=1)
    with pytest.raises(UserError, match=r"the data changed since it was trained: there has other shards \(1 with 5 "):
        study(study_spec, tmp_path / "out")


def test_a_run_that_fails_says_why(tmp_path, shards):
    base = tmp_path / "base.yaml"
    base.write_text(f"datasets: {{here: {{shards: {shards}, weight: 1}}}}\n")
    missing = spec(mixtures={"base": str(base)}, evaluate={"shards": [str(tmp_path / "none")]})
    with pytest.raises(UserError, match=r"no dataset at .*none: there is no such directory"):
        study(missing, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    nothing = str(tmp_path / "nothing")
    study_spec = spec(models=[nothing], mixtures={"base": str(base)}, evaluate={"shards": [shards]})
    with pytest.raises(UserError, match=r"train\.txt ends with: error: "):
        study(study_spec, tmp_path / "out")
