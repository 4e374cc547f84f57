"""A source from outside whose frames do to their process what bad files and bad luck do; a package on its own path.

Beside its root is a directory `traps` of `<number>.<what>` files: `crash` frames end their process with SIGSEGV each
time, `flaky` ones as often as the file says (`before-<number>.flaky`: while they are listed), `exit` ones with exit
code 3, `once` ones the first time only, as when memory ran out, `killed` ones are always killed from outside, `slow`
is how many seconds each frame takes, `bug` raises. Everything else is the JSON Lines source's.
"""

from __future__ import annotations

from pathlib import Path

CODE = '''
import os, signal, time
from dataclasses import replace
from pathlib import Path
from vlm3data.config import Config
from vlm3data.sources.jsonl import JsonlSource


def crash_as_often(file):
    if file.exists() and (left := int(file.read_text())):
        file.write_text(f"{left - 1}")
        os.kill(os.getpid(), signal.SIGSEGV)


class HostileSource(JsonlSource):
    """JSON Lines, but for some frames."""

    def __init__(self, root, options, seed):
        super().__init__(root, options, seed)
        self._traps = Path(root).parent / "traps"

    def frames(self, scene):
        for frame in super().frames(scene):
            crash_as_often(self._traps / f"before-{int(frame.key.rpartition('-')[2])}.flaky")
            yield replace(frame, image=self._hostile(frame))

    def _hostile(self, frame):
        number, traps = int(frame.key.rpartition("-")[2]), self._traps

        def image():
            if (traps / "slow").exists():
                time.sleep(float((traps / "slow").read_text()))
            if (traps / f"{number}.crash").exists():
                os.kill(os.getpid(), signal.SIGSEGV)
            crash_as_often(traps / f"{number}.flaky")
            if (traps / f"{number}.exit").exists():
                os._exit(3)
            if (traps / f"{number}.killed").exists():
                os.kill(os.getpid(), signal.SIGKILL)
            if (traps / f"{number}.bug").exists():
                raise ZeroDivisionError
            once = traps / f"{number}.once"
            if once.exists():
                once.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
            return frame.image()

        return image
'''


def install(site: Path) -> Path:
    """Write the package into `site`, a directory to be put on the path, which is returned."""
    info = site / "hostile-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "hostile_frames.py").write_text(CODE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hostile\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[vlm3.source]\nhostile = hostile_frames:HostileSource\n")
    return site
