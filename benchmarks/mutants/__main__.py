"""Mutation test of what makes labels and draws samples: which share of planted faults the tests see.

A seeded sample of all faults that `operators` can plant in the modules of `SUBJECTS`. Each goes into a copy of the last
commit, one at a time; the tests that run its lines are run on it, fastest first, up to the first that fails. Which test
runs which line is measured once, under coverage. Outcomes are kept by mutant in WORK/outcomes.jsonl: a second run does
what the first left, and when tests have been added (--retry) what survived and no line of explained.yaml accounts for.

Run: python -m benchmarks.mutants [--count 500] [--seed 1] [--processes 2] [--work DIR] [--commit C] [--retry]
     [--only NAME]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from bisect import bisect
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from queue import Empty, SimpleQueue

from benchmarks.mutants.operators import Mutant, mutants_of
from benchmarks.mutants.page import explained, write_page

REPOSITORY = Path(__file__).parents[2]
HERE = Path(__file__).parent
SUBJECTS = ("geometry/*.py", "tasks/**/*.py", "weighting/*.py", "labels.py", "answers.py", "views.py", "candidates.py",
            "metrics.py", "schedule.py", "mixture.py", "stream.py", "randomness.py")  # fmt: skip
TESTS = ("geometry", "tasks", "calibrators", "test_answers.py", "test_labels.py", "test_metrics.py", "test_views.py",
         "test_candidates.py", "test_mixture.py", "test_schedule.py", "test_stream.py", "test_pairs.py",
         "test_changes.py", "test_skips.py", "test_golden.py", "test_calibrated.py", "test_rerender.py",
         "test_mix_commands.py", "shards/test_original.py", "sources/test_colmap.py", "sources/test_nuscenes.py",
         "sources/test_nuscenes_truth.py", "sources/test_spatialrgpt.py", "sources/test_synthetic.py",
         "layouts/test_nuscenes.py", "../differential", "../test_contracts.py")  # fmt: skip
"""The tests that know those modules, in tests/vlm3data. Those of commands and stores would only kill more."""
QUICK_SECONDS = 1.0
"""The fastest tests of each mutant, this much CPU time in all, are run before the rest of any."""
TEST_SECONDS = 12.0
"""A mutant lives when the fastest tests of its lines, this much CPU time in all (under coverage), pass."""


@dataclass(frozen=True, slots=True)
class Covered:
    """Seconds by test, and by file and line the tests that run it (none: it runs at import)."""

    seconds: dict[str, float]
    lines: dict[str, dict[str, list[str]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "vlm3-mutants")
    parser.add_argument("--commit", default="HEAD", help="whose files are copied; the same again, to go on with a run")
    parser.add_argument("--retry", action="store_true", help="judge those again that survived unexplained")
    parser.add_argument("--only", default="", help="only files whose path contains this; the page stays as it is")
    args = parser.parse_args()
    os.environ.setdefault("REALDATA", str(REPOSITORY.parent / "shared" / "realdata"))
    os.environ["OMP_NUM_THREADS"] = "1"
    args.work.mkdir(parents=True, exist_ok=True)
    commit = _git("rev-parse", args.commit).decode().strip()
    trees = [_copy(args.work / f"tree-{number}", commit) for number in range(args.processes)]
    sources = {str(p.relative_to(trees[0])): p.read_text() for p in _subjects(trees[0])}
    every = [mutant for file, source in sources.items() for mutant in mutants_of(file, source)]
    mutants = sample(every, sources, args.count, args.seed)
    covered = _coverage(trees, args.work)
    outcomes = Outcomes(args.work / "outcomes.jsonl")
    settled = explained()
    wanted = [m for m in mutants if args.only in m.file]
    open_ = [m for m in wanted if outcomes.is_open(m, retry=args.retry and m.key not in settled)]
    print(f"{len(every)} possible, {len(mutants)} chosen, {len(open_)} to judge", flush=True)
    doubtful = judge_in_place(open_, sources, covered, trees, outcomes)
    print(f"{len(doubtful)} of them with their module imported anew", flush=True)
    judge(doubtful, sources, covered, trees, outcomes)
    if not args.only:
        write_page(mutants, outcomes.by_key, len(every), args.seed)


def sample(mutants: Iterable[Mutant], sources: dict[str, str], count: int, seed: int) -> list[Mutant]:
    """Return `count` mutants that compile: those whose digest with the seed is smallest, so that one edit moves few."""
    ranked = sorted(mutants, key=lambda m: hashlib.sha256(f"{seed}|{m.key}".encode()).digest())
    chosen: list[Mutant] = []
    for mutant in ranked:
        if len(chosen) == count:
            break
        if mutant.compiles(sources[mutant.file]):
            chosen.append(mutant)
    return chosen


def tests_of(mutant: Mutant, covered: Covered) -> list[str]:
    """Return the tests that run the mutant's lines, fastest first; all of its module's, where an import runs them."""
    lines: dict[str, list[str]] = covered.lines.get(mutant.file, {})
    span = range(mutant.line, mutant.last_line + 1)
    if not any(str(n) in lines for n in span):
        span = range(mutant.statement_line, mutant.last_line + 1)
    reached = [lines[str(n)] for n in span if str(n) in lines]
    if mutant.at_import or [] in reached:
        reached = list(lines.values())
    names = {name for each in reached for name in each}
    chosen, seconds = [], 0.0
    for name in sorted(names, key=lambda name: (covered.seconds[name], name)):
        seconds += covered.seconds[name]
        if chosen and seconds > TEST_SECONDS:
            break
        chosen.append(name)
    return chosen


def judge_in_place(
    mutants: list[Mutant], sources: dict[str, str], covered: Covered, trees: list[Path], outcomes: Outcomes
) -> list[Mutant]:
    """Judge those that can be by changing one function's code; return the others, and what survived that."""
    orders, open_ = [], {}
    for mutant in mutants:
        tests = tests_of(mutant, covered)
        if tests and not mutant.at_import:
            order = _order(mutant, sources, tests, covered)
            until = list(accumulate(covered.seconds[name] for name in tests))
            quick = max(1, bisect(until, QUICK_SECONDS))
            orders.append(order | {"function": mutant.function, "quick": quick})
        open_[mutant.key] = mutant
    files = sorted({test.partition("::")[0] for order in orders for test in order["tests"]})
    command = ["nice", "-n", "10", sys.executable, str(HERE / "inplace.py"), str(len(trees)), *files]
    pipe, tree = subprocess.PIPE, trees[0]
    with subprocess.Popen(command, cwd=tree, env=_environment(tree), stdin=pipe, stdout=pipe, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write("".join(json.dumps(order) + "\n" for order in orders))
        server.stdin.close()
        killed: dict[str, list[Mutant]] = {}
        for line in server.stdout:
            outcome = json.loads(line)
            if outcome["key"].startswith("control "):
                if outcome["outcome"] != "survived":
                    print(f"fails without a mutant as well: {outcome}", flush=True)
                    open_.update({mutant.key: mutant for mutant in killed[outcome["key"].removeprefix("control ")]})
            elif outcome["outcome"] in ("killed", "timeout"):
                mutant = open_.pop(outcome["key"])
                killed.setdefault(outcome["by"], []).append(mutant)
                outcomes.add(mutant, outcome)
            elif outcome["outcome"] == "survived":
                outcomes.add(open_[outcome["key"]], outcome)  # until `judge` has looked again
    if server.returncode:
        raise SystemExit("the tests could not be collected: see above")
    return list(open_.values())


def _order(mutant: Mutant, sources: dict[str, str], tests: list[str], covered: Covered) -> dict[str, object]:
    seconds = sum(covered.seconds[name] for name in tests)
    text = mutant.applied(sources[mutant.file])
    return {"key": mutant.key, "file": mutant.file, "text": text, "tests": tests, "limit_s": 20 + 5 * seconds}


def judge(
    mutants: list[Mutant], sources: dict[str, str], covered: Covered, trees: list[Path], outcomes: Outcomes
) -> None:
    queue: SimpleQueue[Mutant] = SimpleQueue()
    for mutant in mutants:
        queue.put(mutant)

    def work(tree: Path) -> None:
        command = ["nice", "-n", "10", sys.executable, str(HERE / "judge.py")]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, cwd=tree, env=_environment(tree), stdin=pipe, stdout=pipe, text=True) as server:
            assert server.stdin is not None
            assert server.stdout is not None
            while True:
                try:
                    mutant = queue.get_nowait()
                except Empty:
                    break
                tests = tests_of(mutant, covered)
                if not tests:
                    outcomes.add(mutant, {"key": mutant.key, "outcome": "survived", "by": "no test", "seconds": 0.0})
                    continue
                order = _order(mutant, sources, tests, covered)
                server.stdin.write(json.dumps(order) + "\n")
                server.stdin.flush()
                outcomes.add(mutant, json.loads(server.stdout.readline()) | {"tests": len(tests)})
            server.stdin.close()

    with ThreadPoolExecutor(len(trees)) as pool:
        list(pool.map(work, trees))


class Outcomes:
    """What became of each mutant: one JSON line each, the last one counts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.by_key: dict[str, dict] = {each["key"]: each for each in map(json.loads, lines)}

    def is_open(self, mutant: Mutant, *, retry: bool) -> bool:
        known = self.by_key.get(mutant.key)
        return known is None or (retry and known["outcome"] == "survived")

    def add(self, mutant: Mutant, outcome: dict) -> None:
        self.by_key[mutant.key] = outcome
        what = {"file": mutant.file, "line": mutant.line, "operator": mutant.operator,
                "before": mutant.before, "after": mutant.after}  # fmt: skip
        with self.path.open("a") as file:
            file.write(json.dumps(outcome | what) + "\n")


def _subjects(tree: Path) -> list[Path]:
    return sorted(path for pattern in SUBJECTS for path in (tree / "vlm3data").glob(pattern))


def _copy(tree: Path, commit: str) -> Path:
    """Return a copy of the commit without its history, made anew where it is another's or was left mid-mutant."""
    if tree.exists():
        subprocess.run(["rm", "-r", str(tree)], check=True)
    tree.mkdir()
    subprocess.run(["tar", "x", "-C", str(tree)], input=_git("archive", commit), check=True)
    subprocess.run([sys.executable, "-m", "compileall", "-q", "vlm3data"], cwd=tree, check=True)
    return tree


def _coverage(trees: list[Path], work: Path) -> Covered:
    """Return what `collect` measures; kept by test file and by the digest of it and of the mutated modules."""
    root = trees[0].resolve()
    subjects = hashlib.sha256(b"".join(path.read_bytes() for path in _subjects(root)))
    kept: dict[str, Path] = {}
    for name in TESTS:
        path = (root / "tests/vlm3data" / name).resolve()
        for file in [path] if path.is_file() else sorted(path.rglob("test_*.py")):
            digest = subjects.copy()
            digest.update(file.read_bytes())
            out = work / "covered" / f"{file.stem}-{digest.hexdigest()[:16]}.json"
            kept[str(file.relative_to(root))] = out.resolve()
    missing = [(name, str(path)) for name, path in kept.items() if not path.exists()]
    (work / "covered").mkdir(exist_ok=True)

    def collect(number: int) -> None:
        outs = json.dumps(dict(missing[number :: len(trees)]))
        command = ["nice", "-n", "10", sys.executable, str(HERE / "collect.py"), outs]
        if outs != "{}":
            subprocess.run(command, cwd=trees[number], env=_environment(trees[number]), check=True)

    with ThreadPoolExecutor(len(trees)) as pool:
        list(pool.map(collect, range(len(trees))))
    all_ = Covered({}, {})
    for path in kept.values():
        part = json.loads(path.read_text())
        all_.seconds.update(part["seconds"])
        for file, lines in part["lines"].items():
            for line, names in lines.items():
                all_.lines.setdefault(file, {}).setdefault(line, []).extend(names)
    return all_


def _environment(tree: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(tree)}


def _git(*args: str) -> bytes:
    return subprocess.run(["git", "-C", str(REPOSITORY), *args], check=True, stdout=subprocess.PIPE).stdout


if __name__ == "__main__":
    main()
