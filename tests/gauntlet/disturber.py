"""The process that forks what is disturbed: everything is imported once, no thread runs."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")


def main() -> None:
    """Disturb one scenario in one way, and write down what came of it."""
    kind, name, seed, first, count, until, home = sys.argv[1:]
    os.environ["XDG_CACHE_HOME"] = f"{home}/cache"
    import contextlib

    import cv2

    with contextlib.suppress(ImportError):
        import pandas  # noqa: F401 - Arrow imports it, where it is installed, which takes a second

    import vlm3data.build
    import vlm3data.cli
    import vlm3data.export.drawn
    import vlm3data.report.card
    import vlm3data.report.mixture_page
    import vlm3data.report.preview
    import vlm3data.report.tables
    import vlm3data.rerender
    import vlm3data.sources.jsonl
    import vlm3data.stream
    import vlm3data.tasks.depth  # noqa: F401 - a fork has them then
    from tests.gauntlet import kills, scenarios

    if name.startswith("sft"):
        import torch

        import vlm3train.cli
        import vlm3train.trainer  # noqa: F401

        torch.set_num_threads(1)
    cv2.setNumThreads(1)
    work = Path(home, "work")
    work.mkdir()
    scenario = scenarios.SCENARIOS[name][0](work)
    if kind == "kill":
        found = kills.killed(scenario, name, int(seed), int(first), int(count), float(until))
    else:
        found = kills.disturbed(scenario, name, kind, int(seed), int(first), int(count), float(until))
    Path(home, "answer.json").write_text(json.dumps(found.as_dict()))


if __name__ == "__main__":
    main()
