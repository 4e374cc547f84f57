"""The long form of tests/differential: more random cases, and a table of the worst deviation from each other library.

Run: python -m benchmarks.differential [--times 10]      (PEER_NUSCENES names a Python with nuscenes-devkit 1.2.0)
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.bench import report
from benchmarks.mutants.page import replace_between

TESTS = Path(__file__).parents[1] / "tests" / "differential"
BEGIN, END = "<!-- differential: written by `python -m benchmarks.differential` -->", "<!-- end of differential -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=10, help="as many cases as in the normal suite, times this")
    args = parser.parse_args()
    with tempfile.NamedTemporaryFile("r", suffix=".jsonl") as out:
        environment = os.environ | {"DIFFERENTIAL_TIMES": str(args.times), "DIFFERENTIAL_OUT": out.name}
        tests = subprocess.run([sys.executable, "-m", "pytest", "-q", "-n0", str(TESTS)], env=environment, check=False)
        rows = [json.loads(line) for line in out]
    if tests.returncode:
        raise SystemExit("a comparison failed: see above")
    rows.sort(key=lambda row: (row["against"], row["what"]))
    report("differential", rows, "the worst deviation over random cases")
    lines = ["| What | Against | Cases | Worst deviation | Allowed |", "|:--|:--|--:|--:|--:|"]
    for row in rows:
        worst, limit = (f"{row[name]:.2g} {row['unit']}".strip() for name in ("worst", "limit"))
        lines.append(f"| {row['what']} | {row['against']} | {row['cases']:,} | {worst} | {limit} |")
    replace_between(BEGIN, END, "\n".join(lines))


if __name__ == "__main__":
    main()
