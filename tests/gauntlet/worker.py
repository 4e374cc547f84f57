"""The process that cases run in; started by `sandbox`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main() -> None:
    """Make the target's files, then run its cases within limits."""
    target, seed, first, count, until, home = sys.argv[1:]
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["XDG_CACHE_HOME"] = f"{home}/cache"
    import warnings

    import cv2

    from tests.gauntlet import sandbox, targets

    cv2.setNumThreads(1)
    warnings.simplefilter("ignore")
    work = Path(home, "work")
    work.mkdir()
    run = targets.opened(target, int(seed), work)
    sandbox.limit_memory()
    answer = sandbox.serve(run, int(first), int(count), f"{home}/place", float(until))
    Path(home, "answer.json").write_text(json.dumps(answer))
    os._exit(0)  # threads of libraries that met a limit need not be waited for


if __name__ == "__main__":
    main()
