"""The ways things go wrong that are not bugs; apart from `types`, so that the command line starts without numpy."""

import re

_OBJECT = re.compile(r" ?<[^<>]* object at 0x[0-9a-f]+>")
"""What stands for an object without a name of its own; Pillow says of bytes which of them it could not identify."""


class UserError(Exception):
    """A mistake a user can mend; its message is one line that says what to do, shown without a traceback."""


class UsageError(UserError):
    """A command line that cannot be meant: exit code 2, as for a flag that does not exist."""


class Drop(Exception):
    """Raised where a sample proves unusable; `reason` is a short snake_case name that the manifest counts.

    The detail is the same in every process: addresses of objects are taken out of it.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        detail = _OBJECT.sub("", detail)
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class Cut(Drop):
    """A drop that is nobody's fault: the frame is sound, but holds nothing to ask about, or no other frame overlaps it.

    Counted by reason like any drop, but not against `max_drop_rate`.
    """
