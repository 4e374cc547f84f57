"""One run at a time in a directory: two would write each other's checkpoints, and a run may outlive who started it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Generator
from pathlib import Path

from vlm3data.types import UserError

LOCK_FILE = ".lock"
HELD = (errno.EACCES, errno.EAGAIN)


@contextlib.contextmanager
def alone_in(out: Path, rank: int) -> Generator[None]:
    """Hold `out` for this rank of a run; raise UserError where a process of another run holds it for the same rank.

    It ends with this process, however that ends. A record lock, for those are not inherited: the loader's workers live
    on for some seconds when their process is killed, and the run must be free to be resumed at once. On file systems
    without locks nothing is held.
    """
    out.mkdir(parents=True, exist_ok=True)
    with (out / LOCK_FILE).open("a") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, rank, os.SEEK_SET)
        except OSError as error:
            if error.errno in HELD:
                raise UserError(
                    f"{out}: a run that has not ended trains there (torchrun's processes outlive it when it is "
                    "killed); end it, or choose another --out"
                ) from error
        yield
